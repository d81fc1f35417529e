"""A real SOCKS5 proxy for tests (RFC 1928, RFC 1929): connects where it is told, asks for credentials, keeps a log."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field


@dataclass
class SocksProxy:
    """`login` is who may use it, anybody when None. `targets` are the names and ports that were asked for, `names` maps
    names that no DNS knows to hosts."""

    login: tuple[str, str] | None = None
    targets: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def address(self) -> bytes:
        return f"socks5://127.0.0.1:{self.port}".encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            if await self._admits(reader, writer):
                await self._pass_on(reader, writer)
        writer.close()
        self._tasks.discard(task)

    async def _admits(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        wanted = 0 if self.login is None else 2
        accepted = version == 5 and wanted in methods
        writer.write(bytes((5, wanted if accepted else 255)))
        if not accepted or self.login is None:
            return accepted
        await reader.readexactly(1)
        user = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        right = (user.decode(), password.decode()) == self.login
        writer.write(bytes((1, 0 if right else 1)))
        await writer.drain()
        return right

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, command, _, kind = await reader.readexactly(4)
        assert (command, kind) in ((1, 3), (1, 1))
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(map(str, await reader.readexactly(4)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.targets.append(f"{host}:{port}")
        upstream, downstream = await asyncio.open_connection(self.names.get(host, host), port)
        writer.write(bytes((5, 0, 0, 1, 0, 0, 0, 0, 0, 0)))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, downstream))
                group.create_task(_copy(upstream, writer))
        finally:
            downstream.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()
