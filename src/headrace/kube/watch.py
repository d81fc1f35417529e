"""One watch connection: from the stream of bytes to events. What to do when it ends is the informer's
business."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

import msgspec

from headrace.kube.client import JSON, PARTIAL_OBJECT, Client
from headrace.kube.deep import members
from headrace.kube.errors import Unreachable, error_from_event
from headrace.kube.lines import LineSplitter
from headrace.kube.objects import Envelope, decode_object
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject

log = logging.getLogger(__name__)

LINE_LIMIT = 32 * 1024 * 1024
"""Bytes of one event; etcd takes objects of 1.5 MiB, managedFields and JSON's escapes come on top."""
SILENCE = 130.0
"""Seconds without any byte after which a watch counts as dead: the server sends a bookmark every minute."""

_INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Selection(msgspec.Struct, frozen=True):
    """What is watched: all objects of a kind, or those in a namespace, with labels, with one name."""

    group: str
    kind: str
    version: str = ""
    namespace: str = ""
    label_selector: str = ""
    name: str = ""
    metadata_only: bool = False

    @property
    def field_selector(self) -> str:
        return f"metadata.name={self.name}" if self.name else ""

    def query(self) -> dict[str, str]:
        """The selectors as query parameters."""
        query = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {key: value for key, value in query.items() if value}


class Event(msgspec.Struct, frozen=True, gc=False):
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK. A bookmark has no object; `initial_end` says that it
    closes the initial events of a streaming list."""

    type: str
    resource_version: str
    live: LiveObject | None = None
    initial_end: bool = False


class _WatchEvent(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


_event = msgspec.json.Decoder(_WatchEvent)
_envelope = msgspec.json.Decoder(Envelope)


async def watch(
    client: Client,
    resource: Resource,
    selection: Selection,
    *,
    resource_version: str,
    initial_events: bool = False,
    timeout_seconds: int = 300,
    silence: float = SILENCE,
) -> AsyncGenerator[list[Event], None]:
    """Events after `resource_version`, as they come, until the server ends the watch.

    With `initial_events` those of all existing objects come first (streaming list). Raises the typed error of
    an ERROR event (Gone: the version is too old), Timeout after `silence` seconds without a byte, Unreachable
    when the stream breaks off or holds what is no event. Use with `contextlib.aclosing`.
    """
    query = selection.query() | {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": str(timeout_seconds),
    }
    if initial_events:
        query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    if resource_version:
        query["resourceVersion"] = resource_version
    accept = PARTIAL_OBJECT if selection.metadata_only else JSON
    splitter = LineSplitter(LINE_LIMIT)
    path = resource.collection(selection.namespace)
    async with client.stream(path, query=query, accept=accept, silence=silence) as chunks:
        # An empty batch tells that the server accepted the watch.
        yield []
        async for chunk in chunks:
            lines = splitter.feed(chunk)
            if lines:
                yield [_decode(line, client.cluster, resource, selection.metadata_only) for line in lines]
        if splitter.unfinished:
            raise Unreachable(f"{client.config.host}: the watch of {resource.plural} ended within an event")


def _decode(line: bytes, cluster: str, resource: Resource, partial: bool) -> Event:
    try:
        event = _decoded(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unreachable(f"the watch of {resource.plural} sent something that is no event") from None
    raw = bytes(event.object)
    if event.type == "ERROR":
        raise error_from_event(raw)
    if event.type == "BOOKMARK":
        return _bookmark(raw)
    try:
        live = decode_object(raw, resource, cluster=cluster, partial=partial)
    except msgspec.MsgspecError as error:
        # One odd object must not end the watch of all others (SEC-39).
        log.warning("left out an event that cannot be decoded", extra={"kind": resource.kind, "error": str(error)})
        return Event("BOOKMARK", "")
    return Event(event.type, live.metadata.resource_version, live)


def _decoded(line: bytes) -> _WatchEvent:
    try:
        return _event.decode(line)
    except RecursionError:
        found = members(line)
        kind = msgspec.json.decode(found.get("type", b'""'), type=str)
        return _WatchEvent(kind, msgspec.Raw(found.get("object", b"null")))


def _bookmark(raw: bytes) -> Event:
    try:
        metadata = _envelope.decode(raw).metadata
    except msgspec.MsgspecError:
        raise Unreachable("the watch sent a bookmark that cannot be decoded") from None
    end = metadata.annotation(_INITIAL_EVENTS_END) == "true"
    return Event("BOOKMARK", metadata.resource_version, initial_end=end)
