"""Worker slots: how many runs work at the same time. A run that waits gives its slot back and queues for another.

Pure bookkeeping: the engine's dispatcher is the only arbiter between runs that want to go on and objects that want to
start, so that lanes hold across both.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from headrace.model.trace import Lane


class Slots:
    """`size` slots. `changed` is called whenever a slot becomes free or is asked for; it must not block."""

    def __init__(self, size: int, changed: Callable[[], None]) -> None:
        self.size = size
        self.free = size
        self._changed = changed
        self._line: list[tuple[Lane, int, asyncio.Future[None]]] = []
        self._sequence = itertools.count()

    def occupy(self) -> None:
        """Take a free slot; raises RuntimeError when there is none."""
        if self.free <= 0:
            raise RuntimeError("no slot is free")
        self.free -= 1

    def give(self) -> None:
        """Give a slot back."""
        self.free += 1
        self._changed()

    async def take(self, lane: Lane) -> None:
        """Wait for a slot, by lane and then in order of arrival. Cancelled: holds none."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (lane, next(self._sequence), granted))
        self._changed()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give()
            raise

    def best(self) -> Lane | None:
        """The lane of the first that waits for a slot."""
        while self._line and self._line[0][2].done():
            heapq.heappop(self._line)
        return self._line[0][0] if self._line else None

    def grant(self) -> None:
        """Give a free slot to the first that waits."""
        if self.best() is not None:
            self.occupy()
            heapq.heappop(self._line)[2].set_result(None)
