"""A clock that stands still until somebody sleeps: then it moves on at once by what was slept."""

from __future__ import annotations

import asyncio


class ManualClock:
    """A core.clock.Clock for tests; `slept` lists what was waited for."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)
