"""`/metrics`: upstream's names and labels, and the engine's own beside them.

| metric | from |
|---|---|
| gotk_reconcile_duration_seconds{kind,name,namespace} | every run; the series of an object goes when the object goes |
| gotk_reconcile_condition{kind,name,namespace,type,status}, gotk_suspend_status, gotk_resource_info | watches |
| leader_election_master_status{name} | the lease |
| headrace_* | the engine's own; docs/metrics.md lists them |

Series per object are written as text by hand: a client library takes 10 us for each of them, here it is below one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec
from aiohttp import web

from headrace.api.meta import READY, StatusCondition
from headrace.kube.counter import RequestCounter
from headrace.model.artifact import Artifact
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference
from headrace.model.trace import HUMAN, INTERVAL, LAST, RETRY, REVISION, Trace

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0)
"""Seconds. A part of upstream's boundaries (powers of ten) and two for runs that wait; a run takes no nanoseconds."""
WAIT_BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0)
LANES = {
    int(HUMAN): "human", int(REVISION): "revision", int(RETRY): "retry", int(INTERVAL): "interval", int(LAST): "last",
}  # fmt: skip

Labels = tuple[tuple[str, str], ...]


class _Spec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    suspend: bool = False
    source_ref: dict[str, str] | None = None


class _Status(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    conditions: tuple[StatusCondition, ...] = ()
    artifact: Artifact | None = None
    last_applied_revision: str = ""


class _Resource(msgspec.Struct, frozen=True, gc=False):
    """What the metrics of an object say, from any kind."""

    spec: _Spec = _Spec()
    status: _Status = _Status()


class Histogram:
    """Counts of observations below each bound, their sum and number."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._sum += value
        index = next((i for i, bound in enumerate(self._bounds) if value <= bound), len(self._bounds))
        self._counts[index] += 1

    def lines(self, name: str, labels: Labels) -> Iterable[str]:
        """The series of the histogram in the text format."""
        inner = _inner(labels)
        prefix = f"{inner}," if inner else ""
        total = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{prefix}le="{"+Inf" if bound is None else bound}"}} {total}'
        yield f"{name}_sum{_braces(inner)} {self._sum:.9g}"
        yield f"{name}_count{_braces(inner)} {total}"


class _Lines(NamedTuple):
    """The lines that one object adds to the page."""

    conditions: list[str]
    suspended: str
    info: str


class TokenCounts(Protocol):
    """A cache of tokens of clouds: what was asked of it so far, and how many it holds."""

    hits: int
    misses: int
    failures: int
    evictions: int

    def __len__(self) -> int: ...


BATCH = 100
"""Objects whose lines are written before others may work: 10 ms of them."""


class EngineMetrics:
    """Collects what the engine tells (it is the engine's `Metrics`) and what the watches show; writes the page."""

    def __init__(self, requests: RequestCounter, storage_bytes: Callable[[], int] = lambda: 0) -> None:
        self._requests = requests
        self._storage_bytes = storage_bytes
        self._durations: dict[Reference, Histogram] = {}
        self._objects: dict[Reference, _Lines] = {}
        self._unwritten: dict[Reference, LiveObject] = {}
        self._results: dict[Labels, int] = {}
        self._lanes = {lane: Histogram(WAIT_BUCKETS) for lane in LANES}
        self._gauges: dict[str, float] = dict.fromkeys(_GAUGES, 0)
        self._blocked = Histogram(WAIT_BUCKETS)
        self._lease = ""
        self._tokens: TokenCounts | None = None

    # What the engine calls (engine.metrics.Metrics).

    def finished(self, trace: Trace) -> None:
        self.looked(trace.reference, trace.duration)
        labels = (("kind", trace.reference.kind), ("result", trace.result), ("reason", trace.reason))
        self._results[labels] = self._results.get(labels, 0) + 1

    def looked(self, reference: Reference, seconds: float) -> None:
        self._durations.setdefault(reference, Histogram(BUCKETS)).observe(seconds)

    def forgotten(self, reference: Reference) -> None:
        self._durations.pop(reference, None)
        self._drop(reference)

    def queued(self, depth: int, running: int, waiting: int) -> None:
        self._gauges["headrace_queue_depth"] = depth
        self._gauges["headrace_runs_working"] = running
        self._gauges["headrace_runs_waiting"] = waiting

    def picked(self, lane: int, seconds: float) -> None:
        self._lanes[int(lane)].observe(seconds)

    def unattended(self, count: int) -> None:
        self._gauges["headrace_objects_without_timer"] = count

    def stalled_loop(self, seconds: float) -> None:
        self._blocked.observe(seconds)

    # What the process calls.

    def leading(self, lease: str, leads: bool) -> None:
        """Whether this process holds the lease."""
        self._lease = lease
        self._gauges["leader_election_master_status"] = float(leads)

    def tokens(self, counts: TokenCounts) -> None:
        """Where tokens are kept from now on."""
        self._tokens = counts

    def changed(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        """A listener of the watches: keeps each object of ours. Its lines are written when somebody reads them, since
        it changes more often."""
        if new is None:
            self._drop(reference)
        else:
            self._unwritten[reference] = new

    async def read(self) -> str:
        """As `page`, in steps: thousands of objects may have changed since it was read last."""
        while self._unwritten:
            self._write(BATCH)
            await asyncio.sleep(0)
        return self.page()

    def page(self) -> str:
        """The whole page in the Prometheus text format."""
        self._write(len(self._unwritten))
        return "\n".join((*self._per_object(), *self._own(), *self._process(), ""))

    def _write(self, most: int) -> None:
        for reference in list(itertools.islice(self._unwritten, most)):
            self._objects[reference] = _object_lines(self._unwritten.pop(reference))

    def _drop(self, reference: Reference) -> None:
        self._objects.pop(reference, None)
        self._unwritten.pop(reference, None)

    def _per_object(self) -> Iterable[str]:
        name = "gotk_reconcile_duration_seconds"
        yield from _head(name, "histogram", "The duration in seconds of a reconciliation.")
        for reference, histogram in self._durations.items():
            yield from histogram.lines(name, _identity(reference))
        objects = list(self._objects.values())
        yield from _head("gotk_reconcile_condition", "gauge", "The current condition status of a resource.")
        for lines in objects:
            yield from lines.conditions
        yield from _head("gotk_suspend_status", "gauge", "The current suspend status of a resource.")
        yield from (lines.suspended for lines in objects)
        yield from _head("gotk_resource_info", "gauge", "The current state of a resource.")
        yield from (lines.info for lines in objects)

    def _own(self) -> Iterable[str]:
        for name, text in _GAUGES.items():
            yield from _head(name, "gauge", text)
            labels: Labels = (("name", self._lease),) if name == "leader_election_master_status" else ()
            yield f"{name}{_braces(_inner(labels))} {self._gauges[name]:g}"
        yield from _head("headrace_artifact_storage_bytes", "gauge", "Bytes of stored artifacts.")
        yield f"headrace_artifact_storage_bytes {self._storage_bytes()}"
        yield from _head("headrace_reconciles_total", "counter", "Runs by kind, result and reason.")
        for result, count in self._results.items():
            yield f"headrace_reconciles_total{_braces(_inner(result))} {count}"
        yield from _head("headrace_queue_seconds", "histogram", "Time in the queue by lane.")
        for lane, histogram in self._lanes.items():
            yield from histogram.lines("headrace_queue_seconds", (("lane", LANES[lane]),))
        yield from _head("headrace_loop_blocked_seconds", "histogram", "Times that the event loop was blocked.")
        yield from self._blocked.lines("headrace_loop_blocked_seconds", ())
        yield from self._request_lines()
        yield from self._token_lines()

    def _token_lines(self) -> Iterable[str]:
        """As upstream's token cache, without its labels for single objects."""
        found = self._tokens
        if found is None:
            return
        succeeded = found.hits + found.misses - found.failures
        for name, kind, text, values in (
            ("gotk_token_cache_events_total", "counter", "Tokens asked for, by what was found.",
             {'event_type="cache_hit"': found.hits, 'event_type="cache_miss"': found.misses}),
            ("gotk_token_cache_requests_total", "counter", "Tokens asked for, by outcome.",
             {'status="success"': succeeded, 'status="failure"': found.failures}),
            ("gotk_token_cache_evictions_total", "counter", "Tokens dropped for want of room.",
             {"": found.evictions}),
            ("gotk_token_cached_items", "gauge", "Tokens kept.", {"": len(found)}),
        ):  # fmt: skip
            yield from _head(name, kind, text)
            yield from (f"{name}{_braces(labels)} {value}" for labels, value in values.items())

    def _request_lines(self) -> Iterable[str]:
        yield from _head("headrace_api_requests_total", "counter", "Requests to API servers, as sent.")
        for key, count in self._requests.snapshot().items():
            labels = tuple((name, _text(value)) for name, value in msgspec.structs.asdict(key).items())
            yield f"headrace_api_requests_total{_braces(_inner(labels))} {count}"
        yield from _head("rest_client_requests_total", "counter", "Answers of API servers by method and code.")
        for (method, code), count in self._requests.codes().items():
            yield f"rest_client_requests_total{_braces(_inner((('method', method), ('code', code))))} {count}"

    def _process(self) -> Iterable[str]:
        """CPU, memory and files of this process, by the client library's collector."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        yield generate_latest(registry).decode().rstrip("\n")


_GAUGES = {
    "leader_election_master_status": "Whether this process holds the lease.",
    "headrace_queue_depth": "Objects that wait for a run.",
    "headrace_runs_working": "Runs that hold a slot.",
    "headrace_runs_waiting": "Runs that wait without a slot.",
    "headrace_objects_without_timer": "Objects neither Stalled nor suspended that nothing will wake: always 0.",
}


def metrics_application(metrics: EngineMetrics) -> web.Application:
    """Serves `/metrics`."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=(await metrics.read()).encode(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    return app


def _object_lines(live: LiveObject) -> _Lines:
    """The lines of one object: conditions, suspend status, info. Unreadable objects have no conditions."""
    try:
        resource = live.decode(_Resource)
    except msgspec.MsgspecError:
        resource = _Resource()
    identity = _identity(live.reference)
    conditions = [
        f"gotk_reconcile_condition{_braces(_inner((*identity, ('status', status), ('type', c.type))))}"
        f" {int(c.status == status)}"
        for c in resource.status.conditions
        for status in ("True", "False", "Unknown")
    ]
    suspended = f"gotk_suspend_status{_braces(_inner(identity))} {int(resource.spec.suspend)}"
    return _Lines(conditions, suspended, _info(live, resource))


def _info(live: LiveObject, resource: _Resource) -> str:
    """The labels that flux2-monitoring-example gives this metric by kube-state-metrics."""
    ready = next((c.status for c in resource.status.conditions if c.type == READY), "Unknown")
    group, _, version = live.api_version.rpartition("/")
    labels = [
        ("customresource_group", group),
        ("customresource_kind", live.reference.kind),
        ("customresource_version", version),
        ("exported_namespace", live.reference.namespace),
        ("name", live.reference.name),
        ("ready", ready),
        ("suspended", str(resource.spec.suspend).lower()),
        ("revision", resource.status.artifact.revision if resource.status.artifact
         else resource.status.last_applied_revision),
    ]  # fmt: skip
    if resource.spec.source_ref:
        labels.append(("source_name", resource.spec.source_ref.get("name", "")))
    return f"gotk_resource_info{_braces(_inner(tuple(labels)))} 1"


def _identity(reference: Reference) -> Labels:
    return (("kind", reference.kind), ("name", reference.name), ("namespace", reference.namespace))


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _inner(labels: Labels) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels)


def _braces(inner: str) -> str:
    return f"{{{inner}}}" if inner else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
