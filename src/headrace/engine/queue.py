"""What runs next: one entry per object, lanes by urgency, fairness between namespaces, and every object's timer.

Pure: no I/O, no tasks; time comes from the clock it is given, and only the monotonic one, so that a wall clock that
jumps moves nothing (REL-30). The engine asks `take` when it has a slot and `due` when it may sleep.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from headrace.core.clock import Clock
from headrace.engine.pace import Pace
from headrace.model.reference import Reference
from headrace.model.trace import HUMAN, INTERVAL, LAST, RETRY, REVISION, Cause, Lane

LANES = (HUMAN, REVISION, RETRY, INTERVAL, LAST)

RELIEF = 8
"""One of so many takes serves the least urgent lane, so that no flood of urgent work starves the rest (REL-39)."""

CAUSES = 16
"""Causes that an entry keeps; a storm of events must not make it grow."""


class Rest(enum.Enum):
    """Why an object may be without a timer."""

    STALLED = "stalled"
    SUSPENDED = "suspended"
    STATIC = "static"
    """Its kind has nothing to do by the clock."""


@dataclass(slots=True)
class Entry:
    """One object that is to run: its best lane, all that caused it, and since when (monotonic) it is queued."""

    reference: Reference
    lane: Lane
    since: float
    causes: tuple[Cause, ...] = ()

    def merge(self, lane: Lane, cause: Cause) -> None:
        """Take in another wake-up: the better lane wins, causes are kept once each."""
        self.lane = min(self.lane, lane)
        if cause not in self.causes and len(self.causes) < CAUSES:
            self.causes = (*self.causes, cause)


@dataclass(frozen=True, slots=True)
class Timer:
    """A wake-up by the clock: when (monotonic), into which lane and why."""

    when: float
    lane: Lane
    cause: Cause


@dataclass(slots=True)
class _Line:
    """One lane: the namespaces in turn, and the objects of each in order of arrival."""

    turns: OrderedDict[tuple[str, str], dict[Reference, None]] = field(default_factory=OrderedDict)

    def add(self, reference: Reference) -> None:
        self.turns.setdefault((reference.cluster, reference.namespace), {})[reference] = None

    def discard(self, reference: Reference) -> None:
        turn = (reference.cluster, reference.namespace)
        members = self.turns.get(turn, {})
        members.pop(reference, None)
        if not members:
            self.turns.pop(turn, None)

    def pop(self) -> Reference:
        turn, members = next(iter(self.turns.items()))
        reference = next(iter(members))
        self.discard(reference)
        if turn in self.turns:
            self.turns.move_to_end(turn)
        return reference


class Queue:
    """The queue of one engine. Every object it has heard of is known until `forget`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines = {lane: _Line() for lane in LANES}
        self._queued: dict[Reference, Entry] = {}
        self._running: set[Reference] = set()
        self._again: dict[Reference, Entry] = {}
        self._timers: dict[Reference, Timer] = {}
        self._heap: list[tuple[float, int, Reference]] = []
        self._sequence = itertools.count()
        self._resting: dict[Reference, Rest] = {}
        self._known: set[Reference] = set()
        self._takes = 0
        self._pace = Pace(clock)

    def __len__(self) -> int:
        return len(self._queued)

    # -- wake-ups ------------------------------------------------------------------------------------------------

    def wake(self, reference: Reference, lane: Lane, cause: Cause) -> None:
        """Queue an object. Queued already: merged. Running: it runs again when the run has ended."""
        self._known.add(reference)
        waiting = self._again if reference in self._running else self._queued
        entry = waiting.get(reference)
        if entry is None and waiting is self._queued and (wait := self._pace.wait(reference)):
            self._put_off(reference, wait, lane, cause)
            return
        if entry is None:
            waiting[reference] = entry = Entry(reference, lane, self._clock.monotonic(), (cause,))
        else:
            self._lines[entry.lane].discard(reference)
            entry.merge(lane, cause)
        if waiting is self._queued:
            self._lines[entry.lane].add(reference)

    def best(self, *, last: bool = True) -> Lane | None:
        """The lane that the next `take` serves; None when nothing is queued. `last`: whether the last lane counts."""
        return next(self._occupied(last), None)

    def take(self, *, last: bool = True) -> Entry | None:
        """The next object to run, None when nothing is queued. It counts as running until `done`."""
        lane = self.best(last=last)
        if lane is None:
            return None
        reference = self._lines[lane].pop()
        entry = self._queued.pop(reference)
        self._takes += 1
        self._running.add(reference)
        self._pace.spend(reference)
        self._timers.pop(reference, None)
        self._resting.pop(reference, None)
        return entry

    def done(self, reference: Reference) -> None:
        """The run of an object has ended; what came meanwhile is queued now."""
        self._running.discard(reference)
        again = self._again.pop(reference, None)
        if again is not None and (wait := self._pace.wait(reference)):
            self._put_off(reference, wait, again.lane, again.causes[0])
        elif again is not None:
            self._queued[reference] = again
            self._lines[again.lane].add(reference)

    def pending(self, reference: Reference) -> Entry | None:
        """What is queued for an object, be it running or not."""
        return self._queued.get(reference) or self._again.get(reference)

    def forget(self, reference: Reference) -> None:
        """Drop everything about an object that is gone. A run in progress goes on; `done` still ends it."""
        entry = self._queued.pop(reference, None)
        if entry is not None:
            self._lines[entry.lane].discard(reference)
        self._again.pop(reference, None)
        self._timers.pop(reference, None)
        self._resting.pop(reference, None)
        self._pace.forget(reference)
        self._known.discard(reference)

    def _occupied(self, last: bool) -> Iterator[Lane]:
        """Lanes with objects, in the order in which they are served now."""
        lanes: Iterable[Lane] = (lane for lane in LANES if self._lines[lane].turns and (last or lane < LAST))
        if self._takes % RELIEF == RELIEF - 1:
            lanes = reversed(list(lanes))
        return iter(lanes)

    # -- timers --------------------------------------------------------------------------------------------------

    def schedule(self, reference: Reference, after: float, lane: Lane, cause: Cause, *, grid: float = 0.0) -> None:
        """Set the object's only timer, `after` seconds from now; it replaces the one it had.

        With a `grid` it is put off to the next multiple of so many seconds, so that timers fall together.
        """
        self._known.add(reference)
        self._resting.pop(reference, None)
        when = self._clock.monotonic() + after
        timer = Timer(math.ceil(when / grid) * grid if grid else when, lane, cause)
        self._timers[reference] = timer
        heapq.heappush(self._heap, (timer.when, next(self._sequence), reference))
        if len(self._heap) > 2 * len(self._timers) + 64:
            self._compact()

    def _put_off(self, reference: Reference, after: float, lane: Lane, cause: Cause) -> None:
        """Run an object that runs too often when it may; the most urgent of the wake-ups until then counts."""
        timer = self._timers.get(reference)
        if timer is not None and timer.when <= self._clock.monotonic() + after and timer.lane <= lane:
            return
        self.schedule(reference, after, lane, cause)

    def rest(self, reference: Reference, why: Rest) -> None:
        """Leave the object without a timer, for a reason."""
        self._known.add(reference)
        self._timers.pop(reference, None)
        self._resting[reference] = why

    def due(self) -> float | None:
        """Monotonic time of the next timer."""
        while self._heap and not self._current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def advance(self) -> int:
        """Queue the objects whose timers are over; returns how many."""
        now, woken = self._clock.monotonic(), 0
        while (when := self.due()) is not None and when <= now:
            _, _, reference = heapq.heappop(self._heap)
            timer = self._timers.pop(reference)
            self.wake(reference, timer.lane, timer.cause)
            woken += 1
        return woken

    def timer(self, reference: Reference) -> Timer | None:
        """The timer of an object."""
        return self._timers.get(reference)

    def _current(self, item: tuple[float, int, Reference]) -> bool:
        timer = self._timers.get(item[2])
        return timer is not None and timer.when == item[0]

    def _compact(self) -> None:
        self._heap = [item for item in self._heap if self._current(item)]
        heapq.heapify(self._heap)

    # -- views ---------------------------------------------------------------------------------------------------

    def running(self, reference: Reference) -> bool:
        """Whether a run of the object is in progress."""
        return reference in self._running

    def resting(self, reference: Reference) -> Rest | None:
        """Why the object has no timer, if it is meant to have none."""
        return self._resting.get(reference)

    def __contains__(self, reference: object) -> bool:
        return reference in self._known

    def known(self) -> tuple[Reference, ...]:
        """All objects, in order."""
        return tuple(sorted(self._known))

    def unattended(self) -> tuple[Reference, ...]:
        """Objects that break the invariant: not resting, and yet neither queued nor running nor with a timer."""
        attended = self._queued.keys() | self._running | self._timers.keys() | self._resting.keys()
        return tuple(sorted(self._known - attended))
