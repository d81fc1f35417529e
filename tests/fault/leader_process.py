"""`headrace run` with leader election, as it runs in two pods: it can be frozen, woken and cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from headrace.kube.client import Client
from headrace.kube.lease import LEASES, Lease
from tests.cluster.kustomization.world import DEADLINE, World

ROOT = Path(__file__).parents[2]

LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD = "3s", "2s", "200ms"
"""A tenth of what they are in production, so that nobody sleeps for a minute."""


class LeaderProcess:
    """One engine of several that serve the namespace of `world`. `name` makes its directory and its log."""

    def __init__(self, world: World, directory: Path, name: str) -> None:
        self._home = directory / name
        self._home.mkdir(parents=True, exist_ok=True)
        self._world = world
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self._home / "log").read_text(errors="replace")

    async def start(self, kubeconfig: Path, fail: str = "", *flags: str) -> None:
        """Start it; it waits for the lease if another one has it. `fail` is HEADRACE_FAIL."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "HEADRACE_FAIL": fail,
                       "RUNTIME_NAMESPACE": self._world.namespace}
        with (self._home / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "headrace", "run", f"--kubeconfig={kubeconfig}", *self._flags(), *flags,
                env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )

    def _flags(self) -> list[str]:
        return [
            "--enable-leader-election=true", f"--leader-election-lease-duration={LEASE_DURATION}",
            f"--leader-election-renew-deadline={RENEW_DEADLINE}", f"--leader-election-retry-period={RETRY_PERIOD}",
            "--watch-all-namespaces=false", f"--storage-path={self._home / 'storage'}", "--storage-addr=127.0.0.1:0",
            f"--socket={self._home / 'socket'}", "--metrics-addr=", "--health-addr=", "--allow-loopback=true",
            "--min-retry-delay=200ms", "--toolbox-processes=1",
        ]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all that it has started."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    async def ended(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        assert self._process is not None
        try:
            async with asyncio.timeout(DEADLINE):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"does not end: {self.log}") from None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        """kill -9, frozen or not."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


Made = Callable[[str], LeaderProcess]
"""Makes an engine of a name."""


async def holder(client: Client, namespace: str) -> str:
    """Who holds the lease; empty when nobody does."""
    leases = await client.list(LEASES, namespace)
    return next((live.decode(Lease).spec.holder_identity or "" for live in leases.items), "")


async def until_held(client: Client, namespace: str, *, by_other_than: str = "") -> str:
    """Wait until the lease is held; returns the holder."""
    found = ""

    async def look() -> None:
        nonlocal found
        while (found := await holder(client, namespace)) in ("", by_other_than):
            await asyncio.sleep(0.1)  # a lease is cheaper to look at than to watch

    await asyncio.wait_for(look(), DEADLINE)
    return found
