"""The engine: turns events of clusters and remotes into wake-ups, and wake-ups into runs.

Its one loop is `_pump`: due timers are queued, free slots go by lane to runs that want to go on and to objects that
want to start. Everything that may change the answer calls `_changed`; nothing polls.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol

from headrace.core.clock import Clock
from headrace.core.random import Random
from headrace.engine.contents import Contents
from headrace.engine.cures import Cures
from headrace.engine.graph import Graph, newer
from headrace.engine.metrics import Metrics, NoMetrics
from headrace.engine.progress import Reporter
from headrace.engine.queue import Entry, Queue
from headrace.engine.reader import FinalizerWriter, Reader, Unwatched
from headrace.engine.runner import AnyController, Runner
from headrace.engine.selector import Selector
from headrace.engine.services import Services
from headrace.engine.settings import EngineSettings
from headrace.engine.slots import Slots
from headrace.engine.stall import watch_loop
from headrace.engine.trace import ObjectState
from headrace.engine.wakeups import wakeup
from headrace.kube.errors import KubeError
from headrace.model.objects import LiveObject
from headrace.model.outcome import Outcome
from headrace.model.reference import MANAGEMENT_CLUSTER, Reference
from headrace.model.scope import StatusWriter
from headrace.model.trace import LAST, RETRY, REVISION, Cause, Lane, Trace, moved

log = logging.getLogger(__name__)

SWEEP = 30.0
"""Seconds between two checks that every object has its timer."""
SERVE_RETRY = (1.0, 30.0)
"""Seconds until a kind that cannot be watched (its CRD is missing) is tried again, and the most they double to."""


class Access(Reader, FinalizerWriter, Protocol):
    """What the engine needs of clusters."""


class Engine:
    """Serves the kinds of its controllers until told to stop.

    `access` reads clusters (`engine.access.ClusterAccess`), `writer` writes status and events. The objects that are
    served are those of `settings.kinds` in `settings.namespaces` with labels that match `settings.selector`.
    """

    def __init__(self, access: Access, controllers: Iterable[AnyController], writer: StatusWriter,
                 settings: EngineSettings, *, clock: Clock, random: Random, metrics: Metrics | None = None) -> None:
        served = {c.kind.group_kind: c for c in controllers if not settings.kinds or c.kind.kind in settings.kinds}
        self._access = access
        self._controllers = served
        self._settings = settings
        self._selector = Selector(settings.selector)
        self._clock = clock
        self._metrics = metrics or NoMetrics()
        self._queue = Queue(clock)
        self._slots = Slots(settings.concurrent, self._changed, clock)
        self._graph = Graph((part for c in served.values() for part in c.parts), key=os.urandom(32))
        self._contents = Contents(access)
        self._cures = Cures(access, self._graph, clock, self._spawn, self._cured)
        services = Services(
            reader=access, finalizers=access, writer=writer, contents=self._contents, graph=self._graph,
            queue=self._queue, slots=self._slots, reporter=Reporter(clock, self._spawn), clock=clock,
            metrics=self._metrics, settings=settings, spawn=self._spawn, hasten=self._hasten)
        self._runner = Runner(served, services, cures=self._cures, wake=self._wake_reader, random=random)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: set[asyncio.Task[None]] = set()
        self._evaluating: set[Reference] = set()
        self._alarm: tuple[float, asyncio.Task[None]] | None = None
        self._pumping = False
        self._draining = False

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; then start nothing more, give runs `drain_grace` seconds, and return."""
        self._access.subscribe(self._on_change)
        async with asyncio.TaskGroup() as group:
            self._group = group
            background = [
                group.create_task(self._sweep(), name="sweep"),
                group.create_task(watch_loop(self._clock, self._metrics, self._settings.stall_threshold)),
                *(group.create_task(self._serve(c), name=f"serve {c.kind.kind}") for c in self._controllers.values()),
            ]
            try:
                await stop.wait()
            finally:
                self._draining = True  # also when the lease is lost and everything is cancelled
            await self._drain()
            for task in (*background, *self._tasks):
                task.cancel()
        self._group = None

    async def _serve(self, controller: AnyController) -> None:
        """Watch a kind; the initial list queues its objects. A kind that cannot be watched holds up no other."""
        group, kind = controller.kind.group_kind
        seconds, longest = SERVE_RETRY
        for namespace in self._settings.namespaces or ("",):
            while True:
                try:
                    own = Reference(group, kind, namespace, "")
                    await self._access.ensure(own, version=controller.kind.storage_version, full=True)
                    break
                except KubeError as error:
                    log.warning("cannot watch", extra={"kind": kind, "namespace": namespace, "error": str(error)})
                    await self._clock.sleep(seconds)
                    seconds = min(2 * seconds, longest)

    async def _drain(self) -> None:
        """What waits is interrupted: it holds no work. What works gets its grace, then it is cancelled."""
        self._draining = True
        self._runner.looks.stop()
        for scope in self._runner.scopes.values():
            scope.interrupt(Cause("stopping"))
        if self._runs:
            await asyncio.wait(self._runs, timeout=self._settings.drain_grace)
        for task in self._runs:
            log.warning("a run is cut off", extra={"task": task.get_name()})
            task.cancel()
        if self._runs:
            await asyncio.wait(self._runs)

    async def _sweep(self) -> None:
        """The invariant, checked: an object without a timer is a bug, is counted, and is put right."""
        while True:
            await self._clock.sleep(SWEEP)
            unattended = self._queue.unattended()
            self._metrics.unattended(len(unattended))
            for reference in unattended:
                log.error("object has no timer", extra={"object": str(reference)})
                self._wake(reference, RETRY, Cause("retry"))

    def _spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        if self._group is None:
            work.close()
            raise RuntimeError("the engine is not running")
        task = self._group.create_task(self._harmless(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # cancelled before its first step, it was never awaited
        return task

    async def _harmless(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """`work`, whose bug must not end everybody's engine (SEC-40)."""
        try:
            await work
        except Exception:
            log.exception("a task of the engine failed", extra={"task": name})

    # -- the loop ------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Something may be able to start: look once, when the current callback is done."""
        if not self._pumping and self._group is not None:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        self._queue.advance()
        while self._slots.free:
            last = self._slots.open_to(LAST)
            returning, queued = self._slots.best(), None if self._draining else self._queue.best(last=last)
            if returning is not None and (queued is None or returning <= queued):
                self._slots.grant()
            elif queued is not None and (entry := self._queue.take(last=last)) is not None:
                self._start(entry)
            else:
                break
        self._arm()
        running = self._slots.size - self._slots.free
        self._metrics.queued(len(self._queue), running, len(self._runs) - running)

    def _start(self, entry: Entry) -> None:
        first = self._runner.begin(entry)
        self._metrics.picked(entry.lane, self._clock.monotonic() - entry.since)
        task = self._spawn(self._run(entry, first), name=f"run {entry.reference}")
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    async def _run(self, entry: Entry, first: Outcome | None) -> None:
        try:
            await self._runner.run(entry, first)
        except Exception:
            log.exception("internal error", extra={"object": str(entry.reference)})
            self._queue.schedule(entry.reference, self._settings.max_retry_delay, RETRY, Cause("retry"))
        finally:
            self._queue.done(entry.reference)
            self._changed()

    def _arm(self) -> None:
        """See to it that the loop runs when the next timer is due."""
        due = self._queue.due()
        if self._alarm is not None and due != self._alarm[0]:
            self._alarm[1].cancel()
            self._alarm = None
        if due is not None and self._alarm is None and not self._draining:
            self._alarm = due, self._spawn(self._ring(due), name="alarm")

    async def _ring(self, due: float) -> None:
        await self._clock.sleep(max(0.0, due - self._clock.monotonic()))
        self._alarm = None
        self._changed()

    # -- wake-ups ------------------------------------------------------------------------------------------------

    def _wake(self, reference: Reference, lane: Lane, cause: Cause) -> None:
        """Queue an object; a run of it that waits, and would wait for nothing now, is cut short."""
        self._queue.wake(reference, lane, cause)
        scope = self._runner.scopes.get(reference)
        if scope is not None and lane <= REVISION:
            scope.interrupt(cause)
        self._changed()

    def _wake_reader(self, reader: Reference, cause: Cause) -> None:
        self._wake(reader, REVISION, cause)

    def _hasten(self, reference: Reference) -> None:
        entry, scope = self._queue.pending(reference), self._runner.scopes.get(reference)
        if entry is not None and entry.lane > REVISION:
            self._wake(reference, REVISION, entry.causes[0])
        elif scope is not None:
            scope.advance()

    def changed(self, reference: Reference, part: str, digest: str, lane: Lane = REVISION) -> None:
        """Something outside of every cluster moved: `part` of `reference` (cluster REMOTE) has this digest now."""
        for reader, name in self._graph.told(reference, part, digest):
            self._wake(reader, lane, moved(reference, name))

    def _cured(self, reference: Reference) -> None:
        self.changed(reference, "*", "cured")

    def _on_change(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        """An event of any watch. Called synchronously by the watch, so it must not raise (SEC-40)."""
        try:
            self._contents.moved(reference)
            if reference.cluster == MANAGEMENT_CLUSTER and reference.group_kind in self._controllers:
                self._on_own(reference, old, new)
            self._cures.changed(reference)
            if new is None:
                self._graph.deleted(reference)
            if reference in self._graph:
                self._tell_readers(reference, new)
        except Exception:
            log.exception("an event was not understood", extra={"object": str(reference)})

    def _on_own(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        """Own objects are watched whole. Where they are delivered objects as well, a watch by owner label tells of
        their metadata too, and calls an object gone that has merely lost the label."""
        if any(live is not None and live.partial for live in (old, new)):
            return
        if new is None or not self._serves(new):
            self._leave(reference)
            return
        if (woken := wakeup(old if old is not None and self._serves(old) else None, new)) is not None:
            self._wake(reference, *woken)

    def _serves(self, live: LiveObject) -> bool:
        namespaces = self._settings.namespaces
        return self._selector.matches(live.metadata.labels) and (
            not namespaces or live.metadata.namespace in namespaces)

    def _leave(self, reference: Reference) -> None:
        """The object is gone, or another shard's."""
        scope = self._runner.scopes.get(reference)
        if scope is not None:
            scope.interrupt(Cause("deleted"))
        self._runner.forget(reference)
        for freed in self._graph.freed():
            self._wake_reader(freed, Cause("changed", reference, "dependency cycle"))

    def _tell_readers(self, reference: Reference, new: LiveObject | None) -> None:
        if new is None and isinstance(still := self._access.get(reference), LiveObject):
            new = still
        for reader, part in self._graph.moved(reference, new):
            lane = LAST if self._graph.is_spared(reader, reference) else REVISION
            self._wake(reader, lane, moved(reference, part))
        if new is not None and new.partial and reference not in self._evaluating and self._must_look(new):
            self._evaluating.add(reference)
            self._spawn(self._evaluate(reference), name=f"evaluate {reference}")

    def _must_look(self, partial: LiveObject) -> bool:
        """Whether somebody needs more than metadata, and no watch of whole objects is going to tell it."""
        unwatched = isinstance(self._access.get(partial.reference, full=True), Unwatched)
        return unwatched and self._graph.needs_content(partial)

    async def _evaluate(self, reference: Reference) -> None:
        """Compare the parts that metadata does not tell, with one GET for all their readers."""
        try:
            while True:
                live = await self._contents.get(reference)
                for reader, part in self._graph.moved(reference, live):
                    self._wake_reader(reader, moved(reference, part))
                watched = self._access.get(reference)
                if not (isinstance(watched, LiveObject) and live is not None
                        and newer(watched.metadata.resource_version, live.metadata.resource_version)):
                    break
        except KubeError as error:
            log.warning("a changed object cannot be read", extra={"object": str(reference), "error": str(error)})
            for reader in self._graph.readers(reference):
                self._wake_reader(reader, Cause("changed", reference))
        finally:
            self._evaluating.discard(reference)

    # -- views ---------------------------------------------------------------------------------------------------

    def traces(self, reference: Reference) -> tuple[Trace, ...]:
        """The last runs of an object, newest first."""
        return self._runner.traces.of(reference)

    def known(self) -> tuple[Reference, ...]:
        """All objects that are served."""
        return self._queue.known()

    def unattended(self) -> tuple[Reference, ...]:
        """Objects without a timer that should have one: always empty."""
        return self._queue.unattended()

    def blockers(self, reference: Reference) -> list[tuple[Reference, Reference]]:
        """Who waits for whom, from an object on, nearest first."""
        return self._graph.blockers(reference)

    def readers(self, reference: Reference) -> tuple[Reference, ...]:
        """Who is subscribed to an object."""
        return self._graph.readers(reference)

    def state(self, reference: Reference) -> ObjectState | None:
        """An object right now; None for one that is not served."""
        if reference not in self._queue:
            return None
        pending, timer = self._queue.pending(reference), self._queue.timer(reference)
        scope = self._runner.scopes.get(reference)
        return ObjectState(
            reference=reference,
            phase=self._phase(reference),
            lane=None if pending is None else int(pending.lane),
            causes=scope.causes if scope is not None else pending.causes if pending is not None else (),
            next_in=None if timer is None else timer.when - self._clock.monotonic(),
            next_cause=None if timer is None else timer.cause,
            waits=tuple(scope.activities) if scope is not None else (),
            waiting_on=self._graph.waiting_on(reference),
            waiting_since=self._runner.waiting_since(reference),
            failures=self._runner.failures(reference),
            looked=self._runner.looks.last(reference),
            reads=self._graph.reads(reference),
            readers=self._graph.readers(reference),
        )

    def states(self) -> tuple[ObjectState, ...]:
        """All objects that are served, right now."""
        states = (self.state(reference) for reference in self._queue.known())
        return tuple(state for state in states if state is not None)

    def _phase(self, reference: Reference) -> str:
        scope = self._runner.scopes.get(reference)
        if scope is not None:
            return "waiting" if scope.activities else "running"
        if self._queue.running(reference):
            return "waiting"
        if self._queue.pending(reference) is not None:
            return "queued"
        resting = self._queue.resting(reference)
        return "idle" if resting is None else resting.value
