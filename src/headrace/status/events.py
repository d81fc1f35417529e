"""Kubernetes events: what happened to an object, for `kubectl describe`, `flux events` and notifications.

Written as client-go's recorder does. An event that repeats is counted on the one that exists, at most once a minute;
an event that cannot be written is logged, and nothing else: no run ever fails or waits long for one.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec

from headrace.api.kinds import KindInfo
from headrace.api.meta import EVENT_ANNOTATION_PREFIX
from headrace.core.clock import Clock, rfc3339
from headrace.core.redaction import redact
from headrace.kube.client import Client
from headrace.kube.errors import KubeError, NotFound
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject

log = logging.getLogger(__name__)

NORMAL = "Normal"
WARNING = "Warning"

EVENTS = Resource(group="", version="v1", kind="Event", plural="events", namespaced=True)

COUNT_EVERY = 60.0
"""Seconds between two updates of the count of one event."""
REMEMBERED = 4096
"""Events that are known well enough to be counted on."""
DEADLINE = 5.0
"""Seconds for the request."""
LONGEST = 16 * 1024
"""Characters of a message: an event is stored whole in etcd, once for every difference."""


class EventRecord(msgspec.Struct, frozen=True, gc=False):
    """One event as it happened: what notifiers get. `component` is the upstream controller's name."""

    live: LiveObject
    component: str
    type: str
    reason: str
    message: str
    annotations: dict[str, str]
    at: float


class _Written(msgspec.Struct, gc=False):
    """An event on the API server: its name, its count there and in truth, and when it was last written."""

    name: str
    count: int
    written: float


Sink = Callable[[EventRecord], None]


def _log(record: EventRecord) -> None:
    """What is told stands in the log too: a warning as an error, as Flux's controllers log what fails."""
    reference = record.live.reference
    fields = {"kind": reference.kind, "namespace": reference.namespace, "object": reference.name,
              "reason": record.reason}
    if revision := record.annotations.get(f"{reference.group}/revision"):
        fields["revision"] = revision
    log.log(logging.ERROR if record.type == WARNING else logging.INFO, record.message, extra=fields)


class Events:
    """Writes events with `client`, and to the log. `sinks` are told of each one, repeated or not; they must not block
    or raise."""

    def __init__(self, client: Client, clock: Clock, *, sinks: tuple[Sink, ...] = ()) -> None:
        self._client = client
        self._clock = clock
        self._sinks = sinks
        self._known: OrderedDict[tuple[str, ...], _Written] = OrderedDict()

    async def record(self, live: LiveObject, kind: KindInfo[object], *, type_: str, reason: str, message: str,
                     annotations: Mapping[str, str]) -> None:
        """Write one event about `live`; annotations of the object under `event.toolkit.fluxcd.io/` come along."""
        record = self._made(live, kind, type_, reason, message, annotations)
        _log(record)
        try:
            self._tell(record)
            await self._write(record)
        except KubeError as error:
            log.warning("event was not written", extra={"object": str(live.reference), "error": str(error)})

    def announce(self, live: LiveObject, kind: KindInfo[object], *, reason: str, message: str,
                 annotations: Mapping[str, str]) -> None:
        """Tell the sinks alone: what is for those who follow, and not worth a request to the API server."""
        self._tell(self._made(live, kind, NORMAL, reason, message, annotations))

    def _made(self, live: LiveObject, kind: KindInfo[object], type_: str, reason: str, message: str,
              annotations: Mapping[str, str]) -> EventRecord:
        own = {key: value for key, value in (live.metadata.annotations or {}).items()
               if key.startswith(EVENT_ANNOTATION_PREFIX)}
        told = {key: redact(value) for key, value in (own | dict(annotations)).items()}
        text = redact(message)
        text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
        return EventRecord(live, kind.component, type_, reason, text, told, self._clock.now())

    def _tell(self, record: EventRecord) -> None:
        for sink in self._sinks:
            sink(record)

    async def _write(self, record: EventRecord) -> None:
        key = (record.live.metadata.uid, record.type, record.reason, record.message,
               *(f"{name}={value}" for name, value in sorted(record.annotations.items())))
        written = self._known.get(key)
        if written is None or not await self._count(record, written):
            written = _Written(await self._create(record), 1, self._clock.monotonic())
        self._known[key] = written
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def _count(self, record: EventRecord, written: _Written) -> bool:
        """Count a repetition; False when the event is gone, as the API server removes them after an hour."""
        written.count += 1
        now = self._clock.monotonic()
        if now - written.written < COUNT_EVERY:
            return True
        written.written = now
        body = msgspec.json.encode({"count": written.count, "lastTimestamp": rfc3339(record.at)})
        namespace = record.live.metadata.namespace
        try:
            await self._client.patch(EVENTS, namespace, written.name, body, timeout=DEADLINE)
        except NotFound:
            return False
        return True

    async def _create(self, record: EventRecord) -> str:
        live = record.live
        name = f"{live.metadata.name[:230]}.{int(record.at * 1e9):x}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": live.metadata.namespace, "annotations": record.annotations},
            "involvedObject": {
                "apiVersion": live.api_version,
                "kind": live.reference.kind,
                "namespace": live.metadata.namespace,
                "name": live.metadata.name,
                "uid": live.metadata.uid,
                "resourceVersion": live.metadata.resource_version,
            },
            "type": record.type,
            "reason": record.reason,
            "message": record.message,
            "count": 1,
            "firstTimestamp": rfc3339(record.at),
            "lastTimestamp": rfc3339(record.at),
            "source": {"component": record.component},
            "reportingComponent": record.component,
            "reportingInstance": "",
        }
        await self._client.create(EVENTS, live.metadata.namespace, msgspec.json.encode(body), timeout=DEADLINE)
        return name
