"""Connections are kept to the servers that were used last, and closed to the others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from headrace.core.egress import Egress, EgressPolicy, RemoteUrl, parse_url
from tests.eventually import eventually

SIZE = 8_000_000
"""More than sockets and aiohttp hold of a body that nobody reads."""


class Server:
    """Answers with a large body, and knows its open connections."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    @property
    def url(self) -> RemoteUrl:
        return parse_url(f"http://127.0.0.1:{self._runner.addresses[0][1]}/")

    @property
    def connections(self) -> int:
        assert self._runner.server is not None
        return len(self._runner.server.connections)


async def started(stack: contextlib.AsyncExitStack) -> Server:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * SIZE)

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return Server(runner)


@pytest.fixture
async def servers() -> AsyncIterator[list[Server]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await started(stack) for _ in range(4)]


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    made = Egress(EgressPolicy(allow_loopback=True), origins=2)
    yield made
    await made.close()


async def test_connections_are_kept_to_the_servers_that_were_used_last(egress: Egress, servers: list[Server]) -> None:
    for used in (0, 1, 0, 2):
        assert (await egress.request("GET", servers[used].url, timeout=10)).status == 200
    await eventually(lambda: [server.connections for server in servers] == [1, 0, 1, 0])


async def test_an_answer_that_is_being_read_keeps_its_connection(egress: Egress, servers: list[Server]) -> None:
    async with egress.stream("GET", servers[0].url, timeout=30) as response:
        size = len(await response.content.readany())
        for server in servers[1:]:
            await egress.request("GET", server.url, timeout=10)
        await eventually(lambda: [server.connections for server in servers] == [1, 0, 0, 1])
        size += len(await response.content.read())
    assert size == SIZE
    for server in servers[1:]:
        await egress.request("GET", server.url, timeout=10)
    await eventually(lambda: [server.connections for server in servers] == [0, 0, 1, 1])
