"""What a successful reconcile gives back: what the status says and when the next run is due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

Look = Callable[[], Awaitable[bool]]
"""Says whether a run would find everything as the last one has left it, and then write nothing."""


class Condition(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A metav1.Condition as a kind states it; times and observedGeneration are added by `status`."""

    type: str
    status: str
    reason: str
    message: str


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The end of a run that did what it should.

    `reason` and `message` become the Ready=True condition (and those of `conditions` stand beside it; a type in
    `remove` is taken out). `status` are fields of the status in JSON form that replace those of the object.
    `event`, when not empty, is the message of the one event of this run; without it the runner writes none.
    `event_reason` defaults to `reason`. `announcement`, when not empty, is for those alone who are told of events by
    HTTP: what the commit of `revision` has come to. `after` is when the next run is due in seconds (None: never by
    timer). `jitter` says that `after` is an interval to be spread. `look`, if there is one, is asked when that interval
    is over; only if it says no, or raises, the object is run. Whatever else wakes the object has it run at once.
    """

    reason: str
    message: str
    status: dict[str, object] = {}
    conditions: tuple[Condition, ...] = ()
    remove: tuple[str, ...] = ()
    event: str = ""
    event_reason: str = ""
    event_annotations: dict[str, str] = {}
    announcement: str = ""
    revision: str = ""
    after: float | None = None
    jitter: bool = True
    look: Look | None = None
