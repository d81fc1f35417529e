"""The one wrapper around every reconcile: what all kinds have in common happens here and nowhere else.

In order: get, decode, deletion with finalizer, finalizer, suspend, reconcile within its timeout, status, next timer,
trace. A kind supplies `reconcile` and `finalize` (see `controller`). Whatever a reconcile raises ends as an outcome of
this object; no other object is touched by it (REL-19).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from headrace.core.backoff import Backoff
from headrace.core.duration import InvalidDuration, format_duration
from headrace.core.failpoints import failpoint_async
from headrace.core.random import Random
from headrace.core.redaction import redact
from headrace.core.secrecy import keeping_secrets
from headrace.engine.boundary import admit
from headrace.engine.controller import Controller, ServesStatic
from headrace.engine.cures import Cures
from headrace.engine.failure import INTERNAL, TIMED_OUT, internal_error, leading, step_error
from headrace.engine.freshest import Freshest
from headrace.engine.looks import Looks
from headrace.engine.queue import Entry, Rest
from headrace.engine.reader import Unwatched
from headrace.engine.scope import RunScope
from headrace.engine.services import Services
from headrace.engine.trace import Traces
from headrace.kube.counter import tallied
from headrace.kube.errors import Conflict, KubeError, NotFound
from headrace.model.cures import is_cure
from headrace.model.errors import Retry, Stalled, StepError, Superseded, Waiting
from headrace.model.objects import LiveObject
from headrace.model.outcome import Outcome
from headrace.model.reference import REMOTE, Reference
from headrace.model.trace import INTERVAL, RETRY, Cause, Trace, moved

log = logging.getLogger(__name__)

CONFLICTS = 5
"""Tries of a write that others race for; then the run ends and is repeated."""

BLIND = 2.0
"""Seconds until a run that could not see its object is tried again; nothing is requested meanwhile."""

PATIENCE = 5.0
"""Seconds after which an object says that it waits, though what it waits for is being worked at."""

LONG = 30.0
GRID = 1.0
"""Intervals of at least LONG seconds end GRID seconds apart: objects that are due at the same time share the wake-ups
of the process, which cost more than what is done in them."""

UNDECODABLE = "ValidationFailed"
CYCLE = "DependencyCycle"

AnyController = Controller[Any]
Wake = Callable[[Reference, Cause], None]


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The reconcile gave an outcome."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Failed:
    """The reconcile raised, or could not even begin; `after` is when it is tried again, None: not by timer."""

    error: StepError
    after: float | None


@dataclass(frozen=True, slots=True)
class Suspended:
    """A person has said that nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Obsolete:
    """The run was cut short by `cause`; another one follows at once."""

    cause: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The object is no more, or has nothing left that is for us to do."""


End = Succeeded | Failed | Suspended | Obsolete | Gone


class Runner:
    """Runs objects, one call of `run` each; who calls it sees to it that no object is run twice at once."""

    def __init__(self, controllers: Mapping[tuple[str, str], AnyController], services: Services, *,
                 cures: Cures, wake: Wake, random: Random) -> None:
        self._controllers = controllers
        self._static = {key: c for key, c in controllers.items() if isinstance(c, ServesStatic)}
        self._services = services
        self._cures = cures
        self._wake = wake
        self._random = random
        self._backoff = Backoff(services.settings.min_retry_delay, services.settings.max_retry_delay, random)
        self._failures: dict[Reference, int] = {}
        self._waiting_since: dict[Reference, float] = {}
        self._late: dict[Reference, asyncio.Task[None]] = {}
        self.freshest = Freshest(services.reader)
        self.traces = Traces(services.settings.traces)
        self.scopes: dict[Reference, RunScope] = {}
        self.looks = Looks(services)

    # -- one run -------------------------------------------------------------------------------------------------

    def begin(self, entry: Entry) -> Outcome | None:
        """A run is about to start, with a slot held. What moves from now on is compared with what the run reads: an
        event between here and the run's first step must not make it run twice. Returns what is to be looked at first:
        then the run has not begun, and what moves wakes the object."""
        self._services.slots.occupy(entry.lane)
        first = self.looks.claim(entry)
        if first is None:
            self._services.graph.begin(entry.reference)
        return first

    async def run(self, entry: Entry, first: Outcome | None) -> None:
        """One run of one object, begun before, unless what `begin` gave still stands; the slot is given back. Never
        raises but when cancelled."""
        if first is not None:
            if await self.looks.stands(entry, first):
                self._go_without(entry.reference, first)
                return
            self._services.graph.begin(entry.reference)
        live = self.freshest.get(entry.reference)
        if not isinstance(live, LiveObject):
            self._services.slots.give(entry.lane)
            self._do_without(entry, live)
            return
        scope = RunScope(live, entry, self._services)
        self.scopes[entry.reference] = scope
        try:
            with keeping_secrets(), tallied() as scope.requests:
                await self._run(scope)
        finally:
            del self.scopes[entry.reference]
            if scope.holds_slot:
                self._services.slots.give(scope.lane)

    def _go_without(self, reference: Reference, outcome: Outcome) -> None:
        """Nothing has moved since the last run: what it said stands for another interval."""
        self._await_interval(reference, outcome)
        if self.freshest.get(reference) is None:
            self.forget(reference)

    def _do_without(self, entry: Entry, found: Unwatched | None) -> None:
        """The object is gone, or its watch is: then nothing is known, and the run is put off."""
        if found is None:
            self.forget(entry.reference)
            return
        self._services.graph.abandon(entry.reference)
        self._services.queue.schedule(entry.reference, BLIND, entry.lane, entry.causes[0])

    async def _run(self, scope: RunScope) -> None:
        reference, started = scope.reference, self._services.clock.monotonic()
        await self._drop_late_report(reference)
        end = await self._reach_end(scope)
        await scope.close()
        if isinstance(end, Failed) and isinstance(end.error, Waiting):
            self._report_late(scope, end)
        else:
            end = await self._report(scope, end)
        for reason, message, warning, notes in scope.events:
            await self._services.writer.event(scope.latest, reason, message, warning=warning, annotations=notes)
        self._settle(scope, end)
        self._leave_trace(scope, end, started)
        if self.freshest.get(reference) is None:
            self.forget(reference)

    async def _reach_end(self, scope: RunScope) -> End:
        try:
            return await self._go(scope, self._controllers[scope.reference.group_kind])
        except asyncio.CancelledError:
            self._services.graph.abandon(scope.reference)
            raise
        except Exception as error:  # noqa: BLE001 - one object's bug is its own outcome, and logged as such
            return await self._fail(scope, leading(error))

    async def _go(self, scope: RunScope, controller: AnyController) -> End:
        obj = self._decode(scope.live, controller)
        static = self._static.get(scope.reference.group_kind)
        if static is not None and static.is_static(obj):
            return await self._leave(scope, controller, obj)
        scope.retry_interval = controller.retry_interval(obj)
        if scope.live.metadata.deleting:
            return await self._finalize(scope, controller, obj)
        await self._add_finalizer(scope, controller)
        if controller.suspended(obj):
            return Suspended()
        async with _within(controller.timeout(obj)):
            await admit(obj, scope.reference, self._services.settings, scope)
            return Succeeded(await controller.reconcile(obj, scope))

    async def _leave(self, scope: RunScope, controller: AnyController, obj: Any) -> End:
        """An object that is only data: what was made of it while it was more goes, and nothing else is done."""
        if scope.live.metadata.deleting or not controller.suspended(obj):
            await self._finalize(scope, controller, obj)
        if not scope.live.metadata.deleting and not controller.suspended(obj):
            self._keep(await self._services.writer.cleared(scope.latest))
        return Gone()

    def _decode(self, live: LiveObject, controller: AnyController) -> Any:
        """The typed object. One that does not decode is quarantined: it alone fails, until it is changed (SEC-39)."""
        try:
            return live.decode(controller.kind.type)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Stalled(UNDECODABLE, f"the object cannot be decoded: {error}") from error

    async def _add_finalizer(self, scope: RunScope, controller: AnyController) -> None:
        name = controller.finalizer
        if name and name not in (scope.live.metadata.finalizers or ()):
            await self._change_finalizers(scope, lambda names: names if name in names else [*names, name])

    async def _finalize(self, scope: RunScope, controller: AnyController, obj: Any) -> End:
        name = controller.finalizer
        if name in (scope.live.metadata.finalizers or ()):
            async with _within(controller.timeout(obj)):
                await controller.finalize(obj, scope)
            await failpoint_async("finalizer-before-removal")
            await self._change_finalizers(scope, lambda names: [other for other in names if other != name])
        return Gone()

    async def _change_finalizers(self, scope: RunScope, change: Callable[[list[str]], list[str]]) -> None:
        """Add or remove ours, leaving those of others as they are now (REL-14)."""
        for _ in range(CONFLICTS):
            live = scope.latest
            before = live.metadata.finalizers or []
            if (after := change(before)) == before:
                return  # the write before was done, and its answer lost (REL-15)
            try:
                written = await self._services.finalizers.finalizers(live, after)
            except Conflict:
                self._keep(scope.still_stands(await self._services.reader.fetch(scope.reference)))
                continue
            if written is not None:
                scope.adopt(written)
                self._keep(written)
            return
        raise Superseded(f"{scope.reference} is changed all the time")

    def _keep(self, live: LiveObject | None) -> None:
        if live is not None:
            self.freshest.written(live)

    # -- failures ------------------------------------------------------------------------------------------------

    async def _fail(self, scope: RunScope, error: BaseException) -> End:
        """What an exception makes of the run."""
        match error:
            case Superseded():
                return Obsolete(error.cause)
            case NotFound() if self._is_about(error, scope):
                return Gone()
            case Waiting():
                return await self._wait_for(scope, error)
            case StepError():
                pass
            case InvalidDuration():
                error = Stalled(UNDECODABLE, f"the object cannot be served: {error}")
            case KubeError():
                error = step_error(error, scope.reference.cluster)
            case _:
                log.error("internal error", exc_info=error, extra=_fields(scope.reference))
                error = internal_error(error)
        self._services.graph.ended_wait(scope.reference)
        await self._subscribe(scope, error.cures if isinstance(error, Retry) else ())
        return Failed(error, self._next_try(scope, error))

    def _is_about(self, error: NotFound, scope: RunScope) -> bool:
        """Whether it is the reconciled object itself that was not found, by its own finalizer or status patch."""
        plural = self._controllers[scope.reference.group_kind].kind.plural
        details = error.details
        return details is not None and (details.group, details.kind, details.name) == (
            scope.reference.group, plural, scope.reference.name)

    async def _wait_for(self, scope: RunScope, error: Waiting) -> Failed:
        """A Waiting, or the Stalled that it is when those who wait wait for each other (REL-24).

        What is being deleted waits for a time only, and is no dependency that anybody could still wait for.
        """
        graph, cycle = self._services.graph, tuple[Reference, ...]()
        if scope.live.metadata.deleting:
            graph.waits_for_a_time(scope.reference, error.objects)
        else:
            cycle = graph.waits(scope.reference, error.objects)
        await self._subscribe(scope, error.objects)
        if not cycle:
            after = self._services.settings.requeue_dependency if error.after is None else error.after
            return Failed(error, after)
        for member in graph.unaware(cycle):
            self._wake(member, Cause("changed", scope.reference, "dependency cycle"))
        way = " -> ".join(str(member) for member in (*cycle, cycle[0]))
        return Failed(Stalled(CYCLE, f"dependency cycle: {way}", objects=cycle), None)

    async def _subscribe(self, scope: RunScope, references: tuple[Reference, ...]) -> None:
        """Have the next event of what the run has not read itself wake the object."""
        already = self._services.graph.recorded(scope.reference)
        for reference in references:
            if reference in already:
                continue
            try:
                if reference.cluster == REMOTE:
                    scope.subscribe(reference)
                elif is_cure(reference):
                    scope.subscribe(reference)
                    await self._cures.seek(reference)
                else:
                    await self._services.reader.ensure(reference)
                    scope.subscribe(reference)
            except KubeError as error:
                scope.note(f"{reference} cannot be watched, only the timer applies: {error}")

    def _next_try(self, scope: RunScope, error: StepError) -> float | None:
        """Seconds until the next try: none for Stalled; what the error says, then what the object says, then
        exponential backoff (SRC-COM-07)."""
        if isinstance(error, Stalled):
            return None
        failures = self._failures.get(scope.reference, 0) + 1
        self._failures[scope.reference] = failures
        if isinstance(error, Retry) and error.after is not None:
            return error.after
        stated = None if error.reason == INTERNAL else scope.retry_interval
        floor = self._services.settings.min_interval
        return self._backoff.delay(failures) if stated is None else max(stated, floor)

    # -- the end -------------------------------------------------------------------------------------------------

    async def _report(self, scope: RunScope, end: End) -> End:
        """Write the status of a run; when that fails the run counts as failed, and is repeated."""
        writer, live = self._services.writer, scope.reported
        try:
            await failpoint_async("status-before-write")
            match end:
                case Succeeded(outcome):
                    self._keep(await writer.succeeded(live, outcome, before=scope.live))
                case Failed(error, after):
                    self._keep(await writer.failed(live, error, after))
                case Suspended():
                    self._keep(await writer.suspended(live))
        except Exception as error:
            if isinstance(error, NotFound) and self._is_about(error, scope):
                return Gone()
            if isinstance(error, KubeError):  # the API server's trouble, not a bug
                log.warning("status was not written", extra=_fields(scope.reference) | {"error": str(error)})
                failure = step_error(error)
            else:
                log.exception("status was not written", extra=_fields(scope.reference))
                failure = internal_error(error)
            return Failed(failure, self._next_try(scope, failure))
        return end

    def _report_late(self, scope: RunScope, end: Failed) -> None:
        """Write that an object waits only when it still does after a second: a chain that runs through at once, or
        a source that is just being fetched, costs no patch and no event."""
        async def report() -> None:
            await self._be_patient(scope.reference, end.error.objects)
            if isinstance(await self._report(scope, end), Failed):
                self._late.pop(scope.reference, None)

        self._late[scope.reference] = self._services.spawn(report(), name=f"report {scope.reference}")

    async def _be_patient(self, reference: Reference, awaited: tuple[Reference, ...]) -> None:
        """A second, and for a few more while what is waited for is queued, being run, or was just run and nobody has
        heard of it: then it is about to come. An object that is queued itself was told that something came, and has
        nothing to say before its run."""
        clock, queue = self._services.clock, self._services.queue
        longest = clock.monotonic() + PATIENCE
        while True:
            await clock.sleep(self._services.settings.progress_after)
            at_work = any(queue.running(one) or queue.pending(one) or self.freshest.is_ahead(one) for one in awaited)
            if queue.pending(reference) is None and (not at_work or clock.monotonic() >= longest):
                return

    async def _drop_late_report(self, reference: Reference) -> None:
        late = self._late.pop(reference, None)
        if late is not None:
            late.cancel()
            await asyncio.wait([late])

    def _settle(self, scope: RunScope, end: End) -> None:
        """Make the run's reads the object's subscriptions, and see to its next run."""
        reference, services = scope.reference, self._services
        if isinstance(end, Obsolete):
            services.graph.abandon(reference)
            self._keep(scope.latest)
            if services.queue.pending(reference) is None:
                services.queue.schedule(reference, self._backoff.delay(1), RETRY, Cause("retry"))
            return
        services.graph.finish(reference)
        if not (isinstance(end, Failed) and (isinstance(end.error, Waiting) or end.error.reason == CYCLE)):
            services.graph.ended_wait(reference)
        self._time(reference, end)
        self._remember(reference, end)
        for target, part in services.graph.outdated(reference, self._cached):
            self._wake(reference, moved(target, part))
        for freed in services.graph.freed():
            self._wake(freed, Cause("changed", reference, "dependency cycle"))

    def _await_interval(self, reference: Reference, outcome: Outcome) -> None:
        self.looks.leave(reference, outcome)
        settings = self._services.settings
        after = max(outcome.after or 0.0, settings.min_interval if outcome.jitter else 0.0)
        spread = self._random.spread(after, settings.interval_jitter) if outcome.jitter else after
        grid = GRID if outcome.jitter and spread >= LONG else 0.0
        self._services.queue.schedule(reference, spread, INTERVAL, Cause("interval"), grid=grid)

    def _time(self, reference: Reference, end: End) -> None:
        queue = self._services.queue
        match end:
            case Succeeded(Outcome(after=None)) | Gone():
                queue.rest(reference, Rest.STATIC)
            case Succeeded(outcome):
                self._await_interval(reference, outcome)
            case Suspended():
                queue.rest(reference, Rest.SUSPENDED)
            case Failed(Stalled(), _):
                queue.rest(reference, Rest.STALLED)
            case Failed(_, after):
                queue.schedule(reference, after or 0.0, RETRY, Cause("retry"))

    def _remember(self, reference: Reference, end: End) -> None:
        if not isinstance(end, Failed) or isinstance(end.error, (Waiting, Stalled)):
            self._failures.pop(reference, None)
        if isinstance(end, Failed) and isinstance(end.error, Waiting):
            self._waiting_since.setdefault(reference, self._services.clock.now())
        else:
            self._waiting_since.pop(reference, None)

    def _cached(self, reference: Reference, whole: bool) -> LiveObject | None:
        live = self._services.reader.get(reference, full=whole)
        if whole and isinstance(live, Unwatched):
            live = self._services.reader.get(reference)
        return live if isinstance(live, LiveObject) else None

    def _leave_trace(self, scope: RunScope, end: End, started: float) -> None:
        services, reference = self._services, scope.reference
        duration = services.clock.monotonic() - started
        timer = services.queue.timer(reference)
        result, reason, message = _told(end)
        trace = Trace(
            reference=reference,
            started=services.clock.now() - duration,
            duration=duration,
            causes=scope.causes,
            lane=int(scope.lane),
            steps=tuple(scope.steps),
            reads=services.graph.reads(reference),
            notes=tuple(redact(note) for note in scope.notes),
            result=result,
            reason=reason,
            message=redact(message),
            waiting_on=services.graph.waiting_on(reference),
            next_after=None if timer is None else timer.when - services.clock.monotonic(),
            requests=scope.requests.requests,
        )
        self.traces.add(trace)
        services.metrics.finished(trace)

    # -- views and clean-up --------------------------------------------------------------------------------------

    def failures(self, reference: Reference) -> int:
        """Failed runs of an object in a row."""
        return self._failures.get(reference, 0)

    def waiting_since(self, reference: Reference) -> float | None:
        """Since when (seconds since the epoch) the object's runs end waiting."""
        return self._waiting_since.get(reference)

    def forget(self, reference: Reference) -> None:
        """The object is gone: so is everything that is kept about it."""
        self._services.queue.forget(reference)
        self._services.graph.forget(reference)
        self.freshest.forget(reference)
        self.traces.forget(reference)
        self.looks.forget(reference)
        self._failures.pop(reference, None)
        self._waiting_since.pop(reference, None)
        late = self._late.pop(reference, None)
        if late is not None:
            late.cancel()
        self._services.metrics.forgotten(reference)


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """The timeout of a run, told apart from every TimeoutError that comes out of the run itself."""
    try:
        async with asyncio.timeout(seconds) as deadline:
            yield
    except TimeoutError:
        if deadline.expired():
            raise Retry(TIMED_OUT, f"not finished within {format_duration(seconds)}") from None
        raise


def _told(end: End) -> tuple[str, str, str]:
    """Result, reason and message of a run for its trace."""
    match end:
        case Succeeded(outcome):
            return "succeeded", outcome.reason, outcome.message
        case Failed(error, _):
            return type(error).__name__.lower(), error.reason, error.message
        case Obsolete(cause):
            return "superseded", "", cause
        case _:
            return type(end).__name__.lower(), "", ""


def _fields(reference: Reference) -> dict[str, str]:
    return {"kind": reference.kind, "namespace": reference.namespace, "object": reference.name}


