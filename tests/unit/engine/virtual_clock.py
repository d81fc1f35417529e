"""A clock that a test moves by hand; sleepers wake in order when their time has come."""

from __future__ import annotations

import asyncio
import heapq
import itertools


async def settle(rounds: int = 10_000) -> None:
    """Let everything that can run without time passing run."""
    loop = asyncio.get_running_loop()
    for _ in range(rounds):
        await asyncio.sleep(0)
        if not loop._ready:  # type: ignore[attr-defined]
            return
    raise AssertionError("it never comes to rest")


class VirtualClock:
    """A core.clock.Clock whose two times move only with `advance`; `jump` moves the wall clock alone."""

    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._sequence = itertools.count()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._sequence), woken))
        await woken

    def jump(self, seconds: float) -> None:
        self._now += seconds

    async def advance(self, seconds: float) -> None:
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, woken = heapq.heappop(self._sleepers)
            self._move(when)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._move(end)
        await settle()

    def _move(self, when: float) -> None:
        when = max(when, self._monotonic)
        self._now += when - self._monotonic
        self._monotonic = when
