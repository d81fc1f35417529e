"""Which watches are kept; what they show is tests/cluster/kube's."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import msgspec
import pytest

from headrace.kube.client import Client
from headrace.kube.config import ClientConfig
from headrace.kube.discovery import Discovery
from headrace.kube.errors import Forbidden
from headrace.kube.informer import State, WatchSettings
from headrace.kube.informers import Informers
from tests.eventually import eventually
from tests.servers.peer import Request, Wire, peer

KIND = {"kind": "ConfigMap"}
CONFIG_MAPS = {"resource": "configmaps", "responseKind": KIND, "scope": "Namespaced", "verbs": ["list"]}
CORE = {"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [CONFIG_MAPS]}]}
BOOKMARK = {"metadata": {"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}}}


def encoded(**content: object) -> bytes:
    return msgspec.json.encode(content)


class Server:
    """Serves one kind without objects, and refuses its watch while told to."""

    def __init__(self) -> None:
        self.refusing = asyncio.Event()

    async def answer(self, request: Request, wire: Wire) -> None:
        path = urlsplit(request.target).path
        if path in ("/api", "/apis"):
            items = [CORE] if path == "/api" else []
            await wire.answer(200, encoded(kind="APIGroupDiscoveryList", items=items))
        elif self.refusing.is_set():
            await wire.answer(403, encoded(kind="Status", status="Failure", reason="Forbidden", code=403, message="no"))
        else:
            await wire.begin()
            await wire.chunk(encoded(type="BOOKMARK", object=BOOKMARK) + b"\n")
            await self.refusing.wait()
            await wire.chunk(b"")


async def test_a_watch_that_has_worked_goes_on_trying_when_it_is_asked_for_while_refused() -> None:
    server = Server()
    settings = WatchSettings(refused_minimum=0.05, refused_maximum=0.05)
    async with peer(server.answer) as running, Client(ClientConfig(server=running.url)) as client:
        async with asyncio.TaskGroup() as tasks:
            informers = Informers(client, Discovery(client), tasks, settings=settings)
            informer = await informers.ensure(("", "ConfigMap"), holder="who serves the kind")
            server.refusing.set()
            await eventually(lambda: informer.state is State.REFUSED)
            with pytest.raises(Forbidden):
                await informers.ensure(("", "ConfigMap"), holder="a reader")
            server.refusing.clear()
            await eventually(lambda: informer.synced)
            assert await informers.ensure(("", "ConfigMap"), holder="a reader") is informer
            await informers.close()
