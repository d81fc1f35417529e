"""What wakes a watch that was refused; what it shows is tests/cluster/kube's."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.core.clock import SystemClock
from headrace.core.random import Random
from headrace.kube.client import Client
from headrace.kube.config import ClientConfig
from headrace.kube.errors import NoMatch
from headrace.kube.informer import Informer, State
from headrace.kube.resource import Resource
from headrace.kube.watch import Selection
from tests.eventually import eventually

WIDGETS = Resource("example.com", "v1", "Widget", "widgets", namespaced=True)


class Discovery:
    """Says that there is no such kind, and learns a moment later that there is, while the question is under way."""

    def __init__(self) -> None:
        self.asked = 0
        self.informer: Informer | None = None

    async def resource(self, *_: str) -> Resource:
        self.asked += 1
        if self.asked == 1 and self.informer is not None:
            self.informer.wake()
        raise NoMatch("example.com", "Widget")


async def test_a_wake_during_an_attempt_is_not_lost() -> None:
    """A definition that is made again while its watch is finding out that it is gone; the next try would be half a
    minute away."""
    discovery: Any = Discovery()
    async with Client(ClientConfig(server="http://127.0.0.1:9")) as client:
        informer = Informer(
            client, discovery, Selection("example.com", "Widget"), WIDGETS, notify=lambda *_: None,
            clock=SystemClock(), random=Random(),
        )
        informer.state, discovery.informer = State.REFUSED, informer
        running = asyncio.create_task(informer.run())
        await eventually(lambda: discovery.asked >= 2, timeout=5.0)
        running.cancel()
        await asyncio.wait([running])
