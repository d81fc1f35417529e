"""Worker slots: how many runs work at the same time. A run that waits gives its slot back and queues for another.

Pure bookkeeping: the engine's dispatcher is the only arbiter between runs that want to go on and objects that want to
start, so that lanes hold across both. The last lane has a small share of the slots: what matters finds an API server
that is not busy with what does not.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from headrace.core.clock import Clock
from headrace.model.trace import LAST, Lane

LAST_SHARE = 8
"""Runs of the last lane that work at the same time when no other does; beside others it is one."""
QUIET = 0.25
"""Seconds after its work for which a run of another lane still counts as one beside which the last lane is slow: most
that give their slot back wait for an answer of the very server that the last lane would keep busy."""


class Slots:
    """`size` slots. `changed` is called whenever a slot becomes free or is asked for; it must not block."""

    def __init__(self, size: int, changed: Callable[[], None], clock: Clock) -> None:
        self.size = size
        self.free = size
        self._clock = clock
        self._last = 0
        self._worked = -QUIET
        self._changed = changed
        self._line: list[tuple[Lane, int, asyncio.Future[Lane]]] = []
        self._sequence = itertools.count()

    def open_to(self, lane: Lane) -> bool:
        """Whether there is a slot for a run of this lane."""
        return self.free > 0 and (lane < LAST or self._last < (1 if self._others_work() else LAST_SHARE))

    def _others_work(self) -> bool:
        others = self.size - self.free - self._last
        return others > 0 or self._clock.monotonic() - self._worked < QUIET

    def occupy(self, lane: Lane) -> None:
        """Take a free slot; raises RuntimeError when there is none for the lane."""
        if not self.open_to(lane):
            raise RuntimeError("no slot is free")
        self.free -= 1
        self._last += lane == LAST

    def give(self, lane: Lane) -> None:
        """Give a slot back that was taken for `lane`."""
        self.free += 1
        self._last -= lane == LAST
        if lane < LAST:
            self._worked = self._clock.monotonic()
        self._changed()

    def change(self, held: Lane, lane: Lane) -> None:
        """A slot that was taken for one lane is held for another from now on."""
        self._last += (lane == LAST) - (held == LAST)
        self._changed()

    def ask(self, lane: Lane, asked: asyncio.Future[Lane] | None = None) -> asyncio.Future[Lane]:
        """Get in line, by lane and then in order of arrival; `asked` is a place in line that is to be a better one.

        The future is done, with the lane that the slot was granted for, when there is one. See `take`.
        """
        if asked is None:
            asked = asyncio.get_running_loop().create_future()
        # A place that became a better one is in line twice: the first that comes up counts.
        heapq.heappush(self._line, (lane, next(self._sequence), asked))
        self._changed()
        return asked

    async def take(self, asked: asyncio.Future[Lane]) -> None:
        """Wait for the slot that was asked for. Cancelled: holds none."""
        try:
            await asked
        except asyncio.CancelledError:
            if asked.done() and not asked.cancelled():
                self.give(asked.result())
            raise

    def best(self) -> Lane | None:
        """The lane of the first that waits for a slot and may have one."""
        while self._line and self._line[0][2].done():
            heapq.heappop(self._line)
        return self._line[0][0] if self._line and self.open_to(self._line[0][0]) else None

    def grant(self) -> None:
        """Give a free slot to the first that waits."""
        lane = self.best()
        if lane is not None:
            self.occupy(lane)
            heapq.heappop(self._line)[2].set_result(lane)
