"""When discovery is read; what it says is tests/cluster/kube's."""

from __future__ import annotations

import msgspec
import pytest

from headrace.kube.client import Client
from headrace.kube.config import ClientConfig
from headrace.kube.discovery import Discovery
from headrace.kube.errors import NoMatch, ServerError
from tests.manual_clock import ManualClock
from tests.servers.peer import Request, Wire, peer


async def test_an_announced_kind_is_still_looked_for_after_a_reading_that_failed() -> None:
    failing = False
    resources: list[dict[str, object]] = []

    async def answer(request: Request, wire: Wire) -> None:
        group = {"metadata": {"name": "example.com"}, "versions": [{"version": "v1", "resources": resources}]}
        body = {"kind": "APIGroupDiscoveryList", "items": [group] if request.target == "/apis" else []}
        await (wire.answer(500) if failing else wire.answer(200, msgspec.json.encode(body)))

    clock = ManualClock()
    async with peer(answer) as server, Client(ClientConfig(server=server.url)) as client:
        discovery = Discovery(client, clock=clock)
        with pytest.raises(NoMatch):
            await discovery.resource("example.com", "Widget")
        clock.time += 1
        failing = True
        discovery.invalidate()
        with pytest.raises(ServerError):
            await discovery.resource("example.com", "Widget")
        failing = False
        resources.append({"resource": "widgets", "responseKind": {"kind": "Widget"}, "scope": "Cluster"})
        clock.time += 1
        assert (await discovery.resource("example.com", "Widget")).plural == "widgets"
