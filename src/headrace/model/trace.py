"""The trace of a run: what was read, how long each step took, what was decided and why, when it wakes next."""

from __future__ import annotations

import msgspec

from headrace.model.read import Read
from headrace.model.reference import Reference


class Lane(int):
    """The priority of a wake-up; lower runs first."""


HUMAN = Lane(0)
REVISION = Lane(1)
RETRY = Lane(2)
INTERVAL = Lane(3)
LAST = Lane(4)
"""Bookkeeping that changes nothing delivered: it never holds up what does, and few such runs go on at a time."""


class Cause(msgspec.Struct, frozen=True, gc=False):
    """Why a run happens: the kind of wake-up, and the object whose change caused it, where there is one.

    `what` is one of `created`, `spec`, `requested`, `changed`, `retry`, `interval`, `deleted`, `started`, `drift`.
    `part` names the part of `reference` that moved.
    """

    what: str
    reference: Reference | None = None
    part: str = ""

    def __str__(self) -> str:
        if self.reference is None:
            return self.what
        if self.what == DRIFT:
            return f"{self.reference} drifted"
        return f"{self.reference} {self.what}" + (f" ({self.part})" if self.part not in ("", "*") else "")


DRIFT = "drift"

SIGNATURE = "signature"
"""The part of delivered objects that is subscribed to."""


def moved(reference: Reference, part: str = "") -> Cause:
    """The cause that a part of an object has changed. Of a delivered object that is drift: own writes wake nobody."""
    return Cause(DRIFT if part == SIGNATURE else "changed", reference, part)


class Step(msgspec.Struct, frozen=True, gc=False):
    """One named step of a run and how long it took, in seconds; waiting is counted apart from work."""

    name: str
    seconds: float
    waited: bool = False


class Trace(msgspec.Struct, frozen=True, gc=False):
    """One run of one object. `started` is in seconds since the epoch, `duration` and `next_after` in seconds.

    `lane` is where the run ended: it may have been moved to another one on the way.
    """

    reference: Reference
    started: float
    duration: float
    causes: tuple[Cause, ...]
    steps: tuple[Step, ...]
    reads: tuple[Read, ...]
    notes: tuple[str, ...]
    result: str
    reason: str
    message: str
    waiting_on: tuple[Reference, ...] = ()
    next_after: float | None = None
    requests: int = 0
    lane: int = int(REVISION)
