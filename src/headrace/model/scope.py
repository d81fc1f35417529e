"""The two protocols through which a reconcile touches the world: Scope to read and wait, StatusWriter to report."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from headrace.model.errors import StepError
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition, Outcome
from headrace.model.plan import InventoryEntry
from headrace.model.read import Part, Read
from headrace.model.reference import Reference
from headrace.model.trace import Cause

T = TypeVar("T")


class Scope(Protocol):
    """What one run of one object may do besides its own work. Made by the engine for each run."""

    @property
    def live(self) -> LiveObject:
        """The object that is being reconciled, as it was when the run began."""
        ...

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Why this run happens."""
        ...

    async def read(self, reference: Reference, part: Part, *, version: str = "") -> LiveObject | None:
        """Read an object with the engine's identity and subscribe to `part` of it.

        Returns None when it does not exist; the subscription stands all the same. Served from a watch where there
        is one; where only metadata is watched, one GET. `version` picks the API version (default: preferred).
        Raises ApiError as the API server answers.
        """
        ...

    def record(self, read: Read) -> None:
        """Subscribe to something that was read otherwise (a delivered object, a remote)."""
        ...

    def forget_parts(self, name: str) -> None:
        """Drop what this run has recorded so far under the part `name`."""
        ...

    async def wait(self, what: Awaitable[T], *, on: Iterable[Reference] = (), note: str = "") -> T:
        """Await with the worker slot given back. `on` and `note` tell `explain` what is waited for.

        Raises Superseded when a wake-up arrives that makes the wait pointless (new revision, spec, request, suspend,
        deletion).
        """
        ...

    def readers(self, reference: Reference) -> tuple[Reference, ...]:
        """Who is subscribed to any part of an object or a remote."""
        ...

    def hasten(self, reader: Reference) -> None:
        """If an object is queued in the last lane, or runs in it, have it go on as for a new revision."""
        ...

    def spare(self, readers: Iterable[Reference]) -> None:
        """Have these readers run in the last lane when the status that this run is about to write wakes them: they
        will find that nothing they use has changed."""
        ...

    async def defer(self, note: str) -> None:
        """Go on in the last lane: what is left to do changes nothing for anybody. Raises Superseded as `wait`."""
        ...

    def step(self, name: str) -> AbstractContextManager[None]:
        """Time a named step in the trace."""
        ...

    def note(self, text: str) -> None:
        """Put a decision and its reason into the trace. Never a secret."""
        ...

    def event(
        self, reason: str, message: str, *, warning: bool = False, annotations: Mapping[str, str] = {}
    ) -> None:
        """Have an event written when the run has ended, whatever its end: for what its one event cannot say."""
        ...

    async def progress(self, reason: str, message: str, conditions: Sequence[Condition] = ()) -> None:
        """Say what is going on: Ready=Unknown and Reconciling=True with `message`.

        Written to the API server only when the run lasts longer than a second; later messages replace unsent ones.
        """
        ...

    async def record_inventory(self, entries: Sequence[InventoryEntry]) -> None:
        """Write `status.inventory` by compare-and-swap, with the current progress conditions.

        Does nothing when the object's inventory already holds exactly these. Raises Superseded when the object was
        changed or deleted by somebody else in a way that makes this run obsolete.
        """
        ...


class StatusWriter(Protocol):
    """The only one that writes status, conditions and events. Implemented by `status`, called by the runner."""

    async def progress(
        self, live: LiveObject, reason: str, message: str, conditions: Sequence[Condition]
    ) -> LiveObject:
        """Patch the progress conditions; returns the object as it is now."""
        ...

    async def inventory(
        self, live: LiveObject, entries: Sequence[InventoryEntry], progress: tuple[str, str]
    ) -> LiveObject:
        """Patch `status.inventory` with the resourceVersion of `live` as precondition. Raises Conflict."""
        ...

    async def succeeded(self, live: LiveObject, outcome: Outcome, *, before: LiveObject) -> LiveObject:
        """The final patch of a run that succeeded, and its event if it has one. `before` is the object as it was when
        the run began: what the run has said of itself meanwhile is no sign of what was."""
        ...

    async def failed(self, live: LiveObject, error: StepError, next_after: float | None) -> LiveObject:
        """The final patch of a run that failed, and its event."""
        ...

    async def suspended(self, live: LiveObject) -> LiveObject:
        """Record what must be recorded of a suspended object (the request token); no patch when nothing is new."""
        ...

    async def cleared(self, live: LiveObject) -> LiveObject:
        """Take everything out of the status; no patch when there is nothing in it."""
        ...

    async def event(
        self, live: LiveObject, reason: str, message: str, *, warning: bool, annotations: Mapping[str, str] = {}
    ) -> None:
        """Write an event about an object, which may be gone by now."""
        ...
