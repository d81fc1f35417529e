"""The engine as a process of its own, started as a user starts it: `headrace run`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp

_STARTED_WITHIN = 60.0
_STOPPED_WITHIN = 30.0


class EngineError(RuntimeError):
    """The engine ended or never became ready; the message has the end of its log."""


class EngineProcess:
    """`headrace run` against one cluster, with its ports on loopback and its files below one folder."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], metrics: str, health: str) -> None:
        self._folder = folder
        self._arguments = arguments
        self._metrics = metrics
        self._health = health
        self._log = folder / "engine.log"
        self._session = aiohttp.ClientSession()
        self._runs = asyncio.Event()

    @classmethod
    async def start(cls, kubeconfig: Path, folder: Path, git_host: str) -> EngineProcess:
        """Start it and wait until it is ready. `git_host` (host:port) is the loopback host that sources may name."""
        metrics, health, storage = (f"127.0.0.1:{port}" for port in free_ports(3))
        arguments = (
            f"--kubeconfig={kubeconfig}", f"--metrics-addr={metrics}", f"--health-addr={health}",
            f"--storage-addr={storage}", f"--storage-path={folder / 'storage'}",
            f"--socket={folder / 'engine.sock'}", f"--allow-hosts={git_host}",
        )
        engine = cls(folder, arguments, f"http://{metrics}/metrics", f"http://{health}/readyz")
        try:
            await engine._start()
        except BaseException:
            await engine.stop()
            raise
        return engine

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def metrics(self) -> str:
        """The metrics page."""
        async with self._session.get(self._metrics) as response:
            response.raise_for_status()
            return await response.text()

    async def restart(self, *, forgetful: bool) -> None:
        """Stop it and start it again; with `forgetful` it finds nothing of what it knew of delivered objects."""
        self._runs.clear()
        await self._end()
        if forgetful:
            for file in self._folder.glob("storage/.headrace/applied.sqlite*"):
                file.unlink()
        await self._start()

    async def _start(self) -> None:
        output = _log_file(self._log)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headrace", "run", *self._arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )
        os.close(output)
        async with asyncio.timeout(_STARTED_WITHIN):
            await self._ready()
        self._runs.set()

    async def stop(self) -> None:
        """End it for good."""
        await self._session.close()
        await self._end()

    async def _end(self) -> None:
        """As Kubernetes does: SIGTERM, and SIGKILL when it does not listen."""
        if self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), _STOPPED_WITHIN)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def ended(self) -> None:
        """Wait until it has ended, which it should not do by itself; raises EngineError."""
        while True:
            await self._runs.wait()
            code = await self._process.wait()
            if self._runs.is_set():
                break
        raise EngineError(f"the engine ended with {code}:\n{self._tail()}")

    async def _ready(self) -> None:
        while True:
            if self._process.returncode is not None:
                raise EngineError(f"the engine ended with {self._process.returncode}:\n{self._tail()}")
            try:
                async with self._session.get(self._health) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])


def _log_file(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
