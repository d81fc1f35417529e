"""Starts the engine as a process and kills it, as a machine that loses its power would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import World, inventory

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
ROOT = Path(__file__).parents[2]
LIMIT = 60.0


class KillableEngines:
    """One engine after the other, all on the same directory."""

    def __init__(self, kubeconfig: Path, directory: Path, namespace: str) -> None:
        self._arguments = (str(kubeconfig), str(directory), namespace)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, fail: str = "") -> None:
        """Return when the engine serves. `fail` is HEADRACE_FAIL."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "HEADRACE_FAIL": fail}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.fault.engine_process", *self._arguments, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT):
            line = await self._process.stdout.readline()
        # A failpoint may kill it before anybody has read.
        assert line == b"started\n" or (fail and line == b"")

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    def freeze(self) -> None:
        """Stop it where it is, as a machine that is paused would; its helpers too."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on, as if no time had passed."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    async def until_killed(self) -> None:
        """Wait until a failpoint has killed it."""
        assert self._process is not None
        async with asyncio.timeout(LIMIT):
            await self._process.communicate()
        assert self._process.returncode == -9
        self._process = None


async def delivered(world: World) -> dict[str, str]:
    """The value of each ConfigMap that carries the owner labels."""
    selector = f"kustomize.toolkit.fluxcd.io/name=app,kustomize.toolkit.fluxcd.io/namespace={world.namespace}"
    listing = await world.client.list(CONFIG_MAPS, world.namespace, label_selector=selector)
    return {live.metadata.name: live.content().get("data", {}).get("k", "") for live in listing.items}


async def assert_all_tracked(world: World) -> None:
    """Invariant O: no owned object is untracked."""
    owned = {f"{world.namespace}_{name}__ConfigMap" for name in await delivered(world)}
    ks = await world.get(KUSTOMIZATION.api_version, "Kustomization", "app")
    assert ks is not None
    tracked = inventory(ks) if "status" in ks else set()
    assert owned <= tracked, f"untracked: {owned - tracked}"
