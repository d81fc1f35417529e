"""A receiver of events, as notification-controller has one: it keeps what is posted and answers what it is told to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class EventReceiver:
    """`answers` are the statuses of the next posts; 202 when there are no more. It waits while `open` is not set."""

    events: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        self.open.set()
        app = web.Application()
        app.router.add_post("/", self._receive)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def stop(self) -> None:
        assert self._runner is not None
        self.open.set()
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        self.events.append(await request.json())
        await self.open.wait()
        return web.Response(status=self.answers.pop(0) if self.answers else 202)
