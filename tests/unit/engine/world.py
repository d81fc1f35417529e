"""Objects in memory behind the engine's own protocols `Reader`, `FinalizerWriter` and `StatusWriter`, and one kind.

No look-alike of an API server: there is no validation, no merging, no watch; `put` stores an object and tells the
listeners, as an informer would.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.api.kinds import KindInfo
from headrace.core.random import Random
from headrace.engine.engine import Engine
from headrace.engine.reader import UNWATCHED, Account, Listener, Unwatched
from headrace.engine.settings import EngineSettings
from headrace.kube.errors import Conflict, KubeError
from headrace.model.errors import StepError
from headrace.model.objects import LiveObject, Metadata
from headrace.model.outcome import Condition, Outcome
from headrace.model.plan import InventoryEntry
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.model.trace import Trace
from tests.unit.engine.virtual_clock import VirtualClock, settle

GROUP = "test.headrace.dev"


class Spec(msgspec.Struct, frozen=True):
    text: str = ""
    suspend: bool = False


class Thing(msgspec.Struct, frozen=True):
    """The kind that is served in these tests."""

    metadata: Metadata
    spec: Spec = Spec()


THING: KindInfo[Any] = KindInfo(
    group=GROUP, kind="Thing", plural="things", singular="thing", short_names=(), categories=(), versions=("v1",),
    type=Thing, component="thing-controller")

READY = Part("ready", lambda live: [(c["type"], c["status"]) for c in status(live).get("conditions", ())
                                    if c["type"] == "Ready"])
TEXT = Part("spec.text", lambda live: live.content().get("spec", {}).get("text"))
SIGNATURE = Part("signature", lambda live: live.metadata.label("mark"), metadata_only=True)


def key(name: str) -> Part:
    """One key of a ConfigMap."""
    return Part(f"data[{name}]", lambda live: live.content().get("data", {}).get(name))


def status(live: LiveObject) -> dict[str, Any]:
    return dict(live.content().get("status", {}))


def thing(name: str, namespace: str = "default") -> Reference:
    return Reference(GROUP, "Thing", namespace, name)


def config_map(name: str, namespace: str = "default") -> Reference:
    return Reference("", "ConfigMap", namespace, name)


def is_ready(live: LiveObject | None) -> bool:
    return live is not None and any(
        c["type"] == "Ready" and c["status"] == "True" for c in status(live).get("conditions", ()))


class Objects:
    """The objects of the world, and everything the engine does to them."""

    def __init__(self) -> None:
        self.objects: dict[Reference, dict[str, Any]] = {}
        self.partial: set[tuple[str, str]] = {("", "ConfigMap"), ("", "Secret")}
        self.fetched: list[Reference] = []
        self.accounts: list[Account | None] = []
        """As whom, for each of `fetched`."""
        self.ensured: set[tuple[str, str]] = set()
        self.held: dict[Hashable, list[Reference]] = {}
        self.refuse: dict[tuple[str, str], KubeError] = {}
        self.dead: set[str] = set()
        self.unserved: set[tuple[str, str]] = set()
        self.away = False
        """Whether the watches are cut off: nothing is known of anything."""
        self.before_fetch: Callable[[Reference], Awaitable[None]] | None = None
        self._listeners: list[Listener] = []
        self._version = 0

    # What tests do.

    def put(self, reference: Reference, **content: Any) -> None:
        """Create an object, or replace the top-level fields of one; metadata is merged."""
        before = self._live(reference)
        stored = self.objects.setdefault(reference, {"metadata": {
            "name": reference.name, "namespace": reference.namespace, "uid": f"uid-{self._version}", "generation": 1}})
        if "spec" in content and stored.get("spec") != content["spec"] and before is not None:
            stored["metadata"]["generation"] += 1
        stored["metadata"] |= content.pop("metadata", {})
        stored |= content
        self._store(reference, before)

    def touch(self, reference: Reference) -> None:
        """A new resourceVersion, and nothing else."""
        self._store(reference, self._live(reference))

    def _store(self, reference: Reference, before: LiveObject | None) -> None:
        self._version += 1
        self.objects[reference]["metadata"]["resourceVersion"] = str(self._version)
        self._tell(reference, before, self._live(reference))

    def remove(self, reference: Reference) -> None:
        before = self._live(reference)
        del self.objects[reference]
        self._tell(reference, before, None)

    def delete(self, reference: Reference) -> None:
        """As a DELETE: an object with finalizers stays, and is deleting."""
        if self.objects[reference]["metadata"].get("finalizers"):
            self.put(reference, metadata={"deletionTimestamp": "2027-01-01T00:00:00Z"})
        else:
            self.remove(reference)

    def tell(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        """What another watch of the same object says."""
        for listener in self._listeners:
            listener(reference, old, new)

    def metadata_of(self, reference: Reference) -> LiveObject | None:
        """What a watch of metadata shows."""
        return self._live(reference, partial=True)

    def condition(self, reference: Reference, kind: str = "Ready") -> dict[str, Any] | None:
        conditions = self.objects[reference].get("status", {}).get("conditions", ())
        return next((c for c in conditions if c["type"] == kind), None)

    # The engine's protocols.

    def get(self, reference: Reference, *, full: bool = False) -> LiveObject | Unwatched | None:
        if self.away or reference.group_kind not in self.ensured or (full and reference.group_kind in self.partial):
            return UNWATCHED
        return self._live(reference, partial=reference.group_kind in self.partial)

    async def ensure(self, reference: Reference, *, version: str = "", full: bool = False) -> None:
        if reference.group_kind in self.refuse:
            raise self.refuse[reference.group_kind]
        if reference.group_kind not in self.ensured:
            self.ensured.add(reference.group_kind)
            for other in sorted(self.objects):
                if other.group_kind == reference.group_kind:
                    self._tell(other, None, self._live(other))

    async def hold(self, reference: Reference, holder: Hashable) -> None:
        await self.ensure(reference)
        self.held.setdefault(holder, []).append(reference)

    def release(self, holder: Hashable) -> None:
        self.held.pop(holder, None)

    async def fetch(
        self, reference: Reference, *, version: str = "", account: Account | None = None
    ) -> LiveObject | None:
        self.fetched.append(reference)
        self.accounts.append(account)
        live = self._live(reference)
        await asyncio.sleep(0)
        if self.before_fetch is not None:
            await self.before_fetch(reference)
        return live

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def served(self, reference: Reference) -> bool:
        return reference.group_kind not in self.unserved

    async def alive(self, cluster: str) -> bool:
        return cluster not in self.dead

    async def finalizers(self, live: LiveObject, finalizers: Sequence[str]) -> LiveObject | None:
        self.expect(live)
        if live.metadata.deleting and not finalizers:
            self.remove(live.reference)
            return None
        self.put(live.reference, metadata={"finalizers": list(finalizers)})
        return self._live(live.reference)

    def expect(self, live: LiveObject) -> None:
        stored = self.objects.get(live.reference)
        if stored is None or stored["metadata"]["resourceVersion"] != live.metadata.resource_version:
            raise Conflict(409, "Conflict", "the object has been modified")

    def current(self, reference: Reference) -> LiveObject:
        live = self._live(reference)
        assert live is not None
        return live

    def _live(self, reference: Reference, *, partial: bool = False) -> LiveObject | None:
        stored = self.objects.get(reference)
        if stored is None:
            return None
        content = {"metadata": stored["metadata"]} if partial else stored
        metadata = msgspec.convert(stored["metadata"], Metadata)
        api_version = f"{reference.group}/v1".lstrip("/")
        return LiveObject(reference, api_version, metadata, msgspec.json.encode(content), partial)

    def _tell(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        if reference.group_kind in self.ensured:
            if new is not None and reference.group_kind in self.partial:
                new = self._live(reference, partial=True)
            for listener in self._listeners:
                listener(reference, old, new)


class Statuses:
    """A StatusWriter that keeps what it was told, and puts Ready into the object."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.told: list[tuple[str, Reference, str, str]] = []
        self.observed: list[tuple[Reference, int]] = []
        self.fail: Exception | None = None

    async def progress(
        self, live: LiveObject, reason: str, message: str, conditions: Sequence[Condition]
    ) -> LiveObject:
        return self._write("progress", live, "Unknown", reason, message)

    async def inventory(
        self, live: LiveObject, entries: Sequence[InventoryEntry], progress: tuple[str, str]
    ) -> LiveObject:
        self.objects.expect(live)
        self.told.append(("inventory", live.reference, *progress))
        stored = self.objects.objects[live.reference]
        inventory = {"entries": [{"id": entry.id, "v": entry.v} for entry in entries]}
        self.objects.put(live.reference, status=stored.get("status", {}) | {"inventory": inventory})
        return self.objects.current(live.reference)

    async def succeeded(self, live: LiveObject, outcome: Outcome, *, before: LiveObject) -> LiveObject:
        self.observed.append((live.reference, live.metadata.generation))
        return self._write("succeeded", live, "True", outcome.reason, outcome.message)

    async def failed(self, live: LiveObject, error: StepError, next_after: float | None) -> LiveObject:
        return self._write("failed", live, "False", error.reason, error.message)

    async def suspended(self, live: LiveObject) -> LiveObject:
        self.told.append(("suspended", live.reference, "", ""))
        return live

    async def cleared(self, live: LiveObject) -> LiveObject:
        self.told.append(("cleared", live.reference, "", ""))
        return live

    async def event(
        self, live: LiveObject, reason: str, message: str, *, warning: bool, annotations: Mapping[str, str] = {}
    ) -> None:
        self.told.append(("warning" if warning else "event", live.reference, reason, message))

    def of(self, reference: Reference) -> list[str]:
        """What was written of an object, by kind of write."""
        return [what for what, about, _, _ in self.told if about == reference]

    def _write(self, what: str, live: LiveObject, ready: str, reason: str, message: str) -> LiveObject:
        if self.fail is not None:
            raise self.fail
        self.told.append((what, live.reference, reason, message))
        if live.reference not in self.objects.objects:
            return live
        stored = self.objects.objects[live.reference]
        conditions = [{"type": "Ready", "status": ready, "reason": reason, "message": message,
                       "lastTransitionTime": "2027-01-01T00:00:00Z"}]
        fields = {"conditions": conditions, "observedGeneration": live.metadata.generation}
        self.objects.put(live.reference, status=stored.get("status", {}) | fields)
        return self.objects.current(live.reference)


Reconcile = Callable[[Thing, Scope], Awaitable[Outcome]]
Finalize = Callable[[Thing, Scope], Awaitable[None]]


async def succeed(obj: Thing, scope: Scope) -> Outcome:
    return Outcome("Succeeded", "done", after=600.0)


class Things:
    """The controller of Thing: does what its test says, object by object."""

    kind = THING
    finalizer = ""
    parts = (SIGNATURE,)

    def __init__(self) -> None:
        self.default: Reconcile = succeed
        self.by_name: dict[str, Reconcile] = {}
        self.ends_by_name: dict[str, Finalize] = {}
        self.runs: list[str] = []
        self.finalized: list[str] = []
        self.retry: float | None = None
        self.limit = 3600.0

    def does(self, name: str) -> Callable[[Reconcile], Reconcile]:
        """Decorator: what the reconcile of the object `name` does."""
        def remember(reconcile: Reconcile) -> Reconcile:
            self.by_name[name] = reconcile
            return reconcile
        return remember

    async def reconcile(self, obj: Thing, scope: Scope) -> Outcome:
        self.runs.append(obj.metadata.name)
        return await self.by_name.get(obj.metadata.name, self.default)(obj, scope)

    def ends(self, name: str) -> Callable[[Finalize], Finalize]:
        """Decorator: what the finalize of the object `name` does."""
        def remember(finalize: Finalize) -> Finalize:
            self.ends_by_name[name] = finalize
            return finalize
        return remember

    async def finalize(self, obj: Thing, scope: Scope) -> None:
        self.finalized.append(obj.metadata.name)
        if obj.metadata.name in self.ends_by_name:
            await self.ends_by_name[obj.metadata.name](obj, scope)

    def timeout(self, obj: Thing) -> float:
        return self.limit

    def suspended(self, obj: Thing) -> bool:
        return obj.spec.suspend

    def retry_interval(self, obj: Thing) -> float | None:
        return self.retry


class Told:
    """Metrics that are kept."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.looks: list[Reference] = []
        self.gone: list[Reference] = []
        self.without_timer: list[int] = []
        self.blocked: list[float] = []
        self.most_running = 0

    def finished(self, trace: Trace) -> None:
        self.traces.append(trace)

    def looked(self, reference: Reference, seconds: float) -> None:
        self.looks.append(reference)

    def forgotten(self, reference: Reference) -> None:
        self.gone.append(reference)

    def queued(self, depth: int, running: int, waiting: int) -> None:
        self.most_running = max(self.most_running, running)

    def picked(self, lane: int, seconds: float) -> None:
        return None

    def unattended(self, count: int) -> None:
        self.without_timer.append(count)

    def stalled_loop(self, seconds: float) -> None:
        self.blocked.append(seconds)


class World:
    """An engine with everything around it."""

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self.clock = VirtualClock()
        self.objects = Objects()
        self.statuses = Statuses(self.objects)
        self.things = Things()
        self.metrics = Told()
        self.settings = settings or EngineSettings()
        self.engine = Engine(self.objects, [self.things], self.statuses, self.settings, clock=self.clock,
                             random=Random(1), metrics=self.metrics)
        self.stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self.engine.run(self.stop))
            try:
                await settle()
                yield self
            finally:
                self.stop.set()
                await asyncio.wait([running])

    async def put(self, reference: Reference, **content: Any) -> None:
        self.objects.put(reference, **content)
        await settle()

    def causes(self, reference: Reference) -> list[str]:
        """The causes of the last run of an object."""
        return [str(cause) for cause in self.engine.traces(reference)[0].causes]
