"""What runs leave behind: the last few traces of each object, and its state right now."""

from __future__ import annotations

from collections import deque

import msgspec

from headrace.engine.scope import Activity
from headrace.model.read import Read
from headrace.model.reference import Reference
from headrace.model.trace import Cause, Trace


class ObjectState(msgspec.Struct, frozen=True, gc=False):
    """One object as the engine sees it now; JSON-encodable.

    `phase` is one of `queued`, `running`, `waiting` (a run that has given its slot back), `idle`, `stalled`,
    `suspended`, `static`. `causes` are those of the run that is queued or in progress. `next_in` is the time to its
    timer in seconds, `next_cause` what the timer stands for. `waits` is what the run in progress waits for,
    `waiting_on` what the last run ended waiting for, `waiting_since` (seconds since the epoch) since when that is so
    without a break. `failures` counts failed runs in a row. `looked` (seconds since the epoch) is when it was last
    seen, at its interval, to need no run.
    """

    reference: Reference
    phase: str
    lane: int | None = None
    causes: tuple[Cause, ...] = ()
    next_in: float | None = None
    next_cause: Cause | None = None
    waits: tuple[Activity, ...] = ()
    waiting_on: tuple[Reference, ...] = ()
    waiting_since: float | None = None
    failures: int = 0
    looked: float | None = None
    reads: tuple[Read, ...] = ()
    readers: tuple[Reference, ...] = ()


class Traces:
    """A ring of traces per object."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rings: dict[Reference, deque[Trace]] = {}

    def add(self, trace: Trace) -> None:
        """Keep a trace; the oldest of its object makes room.

        What was read is most of a trace, and is kept of the last run only: it is what the object is subscribed to.
        """
        ring = self._rings.setdefault(trace.reference, deque(maxlen=self._size))
        if ring:
            ring[-1] = msgspec.structs.replace(ring[-1], reads=())
        ring.append(trace)

    def of(self, reference: Reference) -> tuple[Trace, ...]:
        """The traces of an object, newest first."""
        return tuple(reversed(self._rings.get(reference, ())))

    def forget(self, reference: Reference) -> None:
        """The object is gone."""
        self._rings.pop(reference, None)
