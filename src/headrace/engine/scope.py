"""RunScope: the only way from a reconcile to the world. What passes through it is subscribed to, timed and traced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from headrace.core.failpoints import failpoint_async
from headrace.engine.boundary import reads_as
from headrace.engine.credentials import is_secret, register_secrets
from headrace.engine.graph import ANY
from headrace.engine.progress import Message, Progress
from headrace.engine.queue import Entry
from headrace.engine.reader import Unwatched
from headrace.engine.services import Services
from headrace.kube.counter import Tally
from headrace.kube.errors import Conflict, Forbidden
from headrace.model.errors import Superseded
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition
from headrace.model.plan import InventoryEntry
from headrace.model.read import Part, Read
from headrace.model.reference import Reference
from headrace.model.trace import LAST, REVISION, Cause, Lane, Step

T = TypeVar("T")

NOTES = 200
"""Notes that a trace keeps."""
_STARTING = 10


class _Inventory(msgspec.Struct, frozen=True, gc=False):
    entries: tuple[InventoryEntry, ...] | None = None


class _Status(msgspec.Struct, frozen=True, gc=False):
    inventory: _Inventory | None = None


class _Object(msgspec.Struct, frozen=True, gc=False):
    status: _Status | None = None


class Activity(msgspec.Struct, frozen=True, gc=False):
    """What a run waits for: the objects, what it says about it, and since when (seconds since the epoch)."""

    on: tuple[Reference, ...]
    note: str
    since: float


class RunScope:
    """One run of one object; implements `model.scope.Scope`. Made with a slot held, closed by the runner."""

    def __init__(self, live: LiveObject, entry: Entry, services: Services) -> None:
        self._live = live
        self._latest = live
        self._entry = entry
        self._services = services
        self._started = services.clock.monotonic()
        self._writing = asyncio.Lock()
        self._resuming = asyncio.Lock()
        self._deadlines: set[asyncio.Timeout] = set()
        self._waited = 0.0
        self._waits = 0
        self._asked: asyncio.Future[Lane] | None = None
        self._progress = Progress(self._write_progress, services.clock, services.reporter,
                                  first_at=self._started + _quiet_for(entry, services.settings.progress_after))
        self.holds_slot = True
        self.lane = entry.lane
        self.superseded = ""
        self.retry_interval: float | None = None
        self.requests = Tally()
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.events: list[tuple[str, str, bool, Mapping[str, str]]] = []
        self.activities: list[Activity] = []

    # -- what the run is -----------------------------------------------------------------------------------------

    @property
    def live(self) -> LiveObject:
        """The object as it was when the run began."""
        return self._live

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Why this run happens."""
        return self._entry.causes

    @property
    def reference(self) -> Reference:
        """The object's name."""
        return self._live.reference

    @property
    def reported(self) -> LiveObject:
        """The object as the run has seen it, generation and annotations included, with the status and the
        resourceVersion of the last write: what is observed is what was reconciled, not what came meanwhile (REL-36).
        """
        version = self._latest.metadata.resource_version
        metadata = msgspec.structs.replace(self._live.metadata, resource_version=version)
        return msgspec.structs.replace(self._latest, metadata=metadata)

    @property
    def latest(self) -> LiveObject:
        """The object as of the last write or re-read of this run."""
        return self._latest

    def adopt(self, live: LiveObject) -> None:
        """The run goes on with the object as a write of metadata has left it."""
        self._live = self._latest = live

    # -- reads ---------------------------------------------------------------------------------------------------

    async def read(self, reference: Reference, part: Part, *, version: str = "") -> LiveObject | None:
        """See `Scope.read`. A kind that must not be watched is read all the same, and said so in the trace."""
        self._services.graph.know(part)
        try:
            await self._services.reader.ensure(reference, version=version)
        except Forbidden as error:
            self.note(f"{reference} is read but not watched, the interval applies: {error}")
        live = await self._look(reference, part, version)
        if live is not None and is_secret(reference):
            register_secrets(live)
        digest = self._services.graph.digest(part, live)
        self.record(Read(reference, part.name, digest, live.metadata.resource_version if live else ""))
        return live

    async def _look(self, reference: Reference, part: Part, version: str) -> LiveObject | None:
        account = reads_as(self._live, reference, part, self._services.settings)
        if account is not None:
            absent = self._services.reader.get(reference) is None
            return None if absent else await self._services.contents.get(reference, version, account)
        cached = self._services.reader.get(reference, full=not part.metadata_only)
        if not isinstance(cached, Unwatched):
            return cached
        if self._services.reader.get(reference) is None:
            return None
        return await self._services.contents.get(reference, version)

    def record(self, read: Read) -> None:
        """See `Scope.record`."""
        self._services.graph.record(self.reference, read)

    def subscribe(self, reference: Reference) -> None:
        """Be woken by the next change of any kind of an object, from now on."""
        live = self._services.reader.get(reference)
        version = live.metadata.resource_version if isinstance(live, LiveObject) else ""
        self.record(Read(reference, "*", ANY, version))

    def forget_parts(self, name: str) -> None:
        """See `Scope.forget_parts`."""
        self._services.graph.forget_parts(self.reference, name)

    # -- waiting -------------------------------------------------------------------------------------------------

    async def wait(self, what: Awaitable[T], *, on: Iterable[Reference] = (), note: str = "") -> T:
        """See `Scope.wait`. When it raises Superseded or is cancelled the slot is not taken again: nothing but the
        end of the run may follow."""
        if self._is_superseded():
            if asyncio.iscoroutine(what):
                what.close()
            raise Superseded(self.superseded)
        activity = Activity(tuple(on), note, self._services.clock.now())
        self.activities.append(activity)
        try:
            async with self._without_slot(note or "wait"), self._until_superseded():
                return await what
        finally:
            self.activities.remove(activity)

    def readers(self, reference: Reference) -> tuple[Reference, ...]:
        """See `Scope.readers`."""
        return self._services.graph.readers(reference)

    def hasten(self, reader: Reference) -> None:
        """See `Scope.hasten`."""
        self._services.hasten(reader)

    def spare(self, readers: Iterable[Reference]) -> None:
        """See `Scope.spare`."""
        self._services.graph.spare(self.reference, readers)

    async def defer(self, note: str) -> None:
        """See `Scope.defer`."""
        async def change_lane() -> None:
            self.lane = LAST

        self.note(note)
        if self.lane != LAST:
            await self.wait(change_lane(), note=note)

    def advance(self) -> None:
        """What this run is about turned out to matter: from the last lane it goes to where a new revision does."""
        if self.lane <= REVISION:
            return
        if self.holds_slot:
            self._services.slots.change(self.lane, REVISION)
        elif self._asked is not None:
            self._services.slots.ask(REVISION, self._asked)
        self.lane = REVISION

    def interrupt(self, cause: Cause) -> None:
        """A wake-up makes the waiting of this run pointless, what it waits for now and later."""
        if self.superseded:
            return
        self.superseded = str(cause)
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            deadline.reschedule(now)

    def _is_superseded(self) -> bool:
        pending = self._services.queue.pending(self.reference)
        if pending is not None and pending.lane <= REVISION and not self.superseded:
            self.superseded = str(pending.causes[0])
        return bool(self.superseded)

    @contextlib.asynccontextmanager
    async def _until_superseded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(None) as deadline:
                self._deadlines.add(deadline)
                try:
                    yield
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            if deadline.expired():
                raise Superseded(self.superseded) from None
            raise

    @contextlib.asynccontextmanager
    async def _without_slot(self, name: str) -> AsyncIterator[None]:
        """Waits may overlap: the slot is given back by the first and taken again after the last."""
        since = self._services.clock.monotonic()
        self._waits += 1
        if self.holds_slot:
            self.holds_slot = False
            self._services.slots.give(self.lane)
        try:
            yield
        except (asyncio.CancelledError, Superseded):
            self._waits -= 1
            raise
        except BaseException:
            await self._resume()
            raise
        else:
            await self._resume()
        finally:
            seconds = self._services.clock.monotonic() - since
            self._waited += seconds
            self.steps.append(Step(name, seconds, waited=True))

    async def _resume(self) -> None:
        self._waits -= 1
        # Another wait may begin and end while this one is in line for a slot; both must not take one.
        async with self._resuming:
            if self._waits == 0 and not self.holds_slot:
                self._asked = self._services.slots.ask(self.lane)
                try:
                    await self._services.slots.take(self._asked)
                finally:
                    self._asked = None
                self.holds_slot = True

    # -- trace ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """See `Scope.step`. Waits inside count as waits, not as work."""
        since, waited = self._services.clock.monotonic(), self._waited
        try:
            yield
        finally:
            elapsed = self._services.clock.monotonic() - since - (self._waited - waited)
            self.steps.append(Step(name, max(0.0, elapsed)))

    def note(self, text: str) -> None:
        """See `Scope.note`."""
        if len(self.notes) < NOTES:
            self.notes.append(text)

    def event(
        self, reason: str, message: str, *, warning: bool = False, annotations: Mapping[str, str] = {}
    ) -> None:
        """See `Scope.event`."""
        self.events.append((reason, message, warning, annotations))

    # -- writes --------------------------------------------------------------------------------------------------

    async def progress(self, reason: str, message: str, conditions: Sequence[Condition] = ()) -> None:
        """See `Scope.progress`."""
        self._progress.say(reason, message, conditions)

    async def record_inventory(self, entries: Sequence[InventoryEntry]) -> None:
        """See `Scope.record_inventory`. What fences two engines from each other is the resourceVersion (REL-09)."""
        await failpoint_async("inventory-before-write")
        async with self._writing:
            before = inventory_of(self._latest)
            while set(before) != set(entries):
                try:
                    self._latest = await self._write_inventory(entries)
                    return
                except Conflict:
                    self._latest = await self._reread()

    async def close(self) -> None:
        """The run is over: nothing more is written by it but its end."""
        async with self._writing:
            self._progress.close()

    async def _write_inventory(self, entries: Sequence[InventoryEntry]) -> LiveObject:
        said = self._progress.current or Message("Progressing", "Reconciliation in progress")
        live = await self._services.writer.inventory(self.reported, entries, (said.reason, said.message))
        self._progress.sent()
        return live

    async def _reread(self) -> LiveObject:
        """The object after a conflict, if this run may still act for it."""
        return self.still_stands(await self._services.reader.fetch(self.reference))

    def still_stands(self, fresh: LiveObject | None) -> LiveObject:
        """`fresh`, if what this run was started for still holds. Raises Superseded otherwise."""
        seen = self._live.metadata
        if fresh is None or fresh.metadata.uid != seen.uid:
            raise Superseded(f"{self.reference} was deleted")
        before, self._latest = self._latest, fresh
        if set(inventory_of(fresh)) != set(inventory_of(before)):
            raise Superseded(f"the inventory of {self.reference} was changed by somebody else")
        if fresh.metadata.generation != seen.generation or fresh.metadata.deleting != seen.deleting:
            raise Superseded(f"{self.reference} was changed")
        return fresh

    async def _write_progress(self) -> None:
        async with self._writing:
            message = self._progress.take()
            if message is None:
                return
            written = await self._services.writer.progress(
                self.reported, message.reason, message.message, message.conditions)
            # Another engine's inventory is not made this run's base: its last write would go over it (REL-10).
            if written.metadata.uid == self._live.metadata.uid and set(inventory_of(written)) == set(
                inventory_of(self._latest)
            ):
                self._latest = written


def _quiet_for(entry: Entry, usual: float) -> float:
    """Seconds of a run that are not worth a report. An engine that starts runs everything at once, mostly for nothing:
    that it takes a while then is no news of any object."""
    return _STARTING * usual if all(cause.what == "started" for cause in entry.causes) else usual


def inventory_of(live: LiveObject) -> tuple[InventoryEntry, ...]:
    """`status.inventory.entries` of any object; empty when it has none."""
    status = msgspec.json.decode(live.raw, type=_Object).status
    return (status.inventory.entries or ()) if status and status.inventory else ()
