"""From the wire to LiveObject: only the envelope and the metadata are decoded, the rest stays bytes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable

import msgspec

from headrace.kube.deep import TOO_DEEP, elements, members
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject, ManagedField, Metadata
from headrace.model.reference import MANAGEMENT_CLUSTER, Reference, split_api_version

log = logging.getLogger(__name__)

_SHALLOW = 500
"""Brackets that cannot lead too deep, whoever decodes the object."""
_ROOM = 200
"""Frames that are taken up while an object of more brackets is decoded first: what comes through here can be decoded
again by whoever is called from further down."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Envelope(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What every object has."""

    api_version: str = ""
    kind: str = ""
    metadata: Metadata = Metadata()


class ListMetadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """metav1.ListMeta."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class ObjectList(msgspec.Struct, frozen=True, gc=False):
    """A list answer; the items stay bytes."""

    metadata: ListMetadata = ListMetadata()
    items: list[msgspec.Raw] | None = None


_envelope = msgspec.json.Decoder(Envelope)
_list = msgspec.json.Decoder(ObjectList)


def decode_object(
    raw: bytes, resource: Resource | None = None, *, cluster: str = MANAGEMENT_CLUSTER, partial: bool = False
) -> LiveObject:
    """One object. With `resource`, its group, kind and version count: items of a list carry none, and those
    of PartialObjectMetadata are others. Raises msgspec.DecodeError or ValidationError on what is no
    object."""
    try:
        envelope = _envelope.decode(raw) if raw.count(b"{") + raw.count(b"[") <= _SHALLOW else _with_room(raw, _ROOM)
    except RecursionError:
        raise msgspec.DecodeError(TOO_DEEP) from None
    if resource is not None:
        group, kind, api_version = resource.group, resource.kind, resource.api_version
    else:
        kind, api_version = envelope.kind, envelope.api_version
        group = split_api_version(api_version)[0]
    metadata = envelope.metadata
    reference = Reference(group, kind, metadata.namespace, metadata.name, cluster)
    return LiveObject(reference, api_version, metadata, raw, partial)


def _with_room(raw: bytes, frames: int) -> Envelope:
    return _with_room(raw, frames - 1) if frames else _envelope.decode(raw)


def decode_list(body: bytes) -> ObjectList:
    """The envelope of a list. Raises msgspec.DecodeError or ValidationError."""
    try:
        return _list.decode(body)
    except RecursionError:
        found = members(body)
        items = [msgspec.Raw(item) for item in elements(found.get("items", b"[]"))]
        return ObjectList(msgspec.json.decode(found.get("metadata", b"{}"), type=ListMetadata), items)


def decode_items(
    items: Iterable[msgspec.Raw], resource: Resource, *, cluster: str = MANAGEMENT_CLUSTER, partial: bool = False
) -> tuple[list[LiveObject], int]:
    """The objects of a list, and how many were left out because their metadata cannot be decoded (SEC-39):
    one odd object never hides the others."""
    objects: list[LiveObject] = []
    quarantined = 0
    for item in items:
        # A copy, so that one small cached object does not hold the bytes of the whole list.
        raw = bytes(item)
        try:
            objects.append(decode_object(raw, resource, cluster=cluster, partial=partial))
        except msgspec.MsgspecError as error:
            quarantined += 1
            log.warning("left out an object that cannot be decoded", extra={"kind": resource.kind, "error": str(error)})
    return objects, quarantined


def without_last_applied(metadata: Metadata) -> Metadata:
    """Of kubectl's last-applied annotation only that it is there: it can be as large as the object."""
    annotations = metadata.annotations
    if not annotations or not annotations.get(LAST_APPLIED):
        return metadata
    return msgspec.structs.replace(metadata, annotations={**annotations, LAST_APPLIED: ""})


def slim(live: LiveObject) -> LiveObject:
    """What a cache of metadata keeps by default: of field sets only a digest, no last-applied content, no
    bytes."""
    fields = live.metadata.managed_fields
    reduced = None if fields is None else [without_field_set(field) for field in fields]
    metadata = msgspec.structs.replace(without_last_applied(live.metadata), managed_fields=reduced)
    reference, api_version = live.reference, live.api_version
    raw = msgspec.json.encode(Envelope(api_version, reference.kind, metadata))
    return LiveObject(reference, api_version, metadata, raw, live.partial)


def without_field_set(field: ManagedField) -> ManagedField:
    """The entry with a digest in place of its field set, which is often larger than the object: enough to
    tell whether a manager's fields have changed."""
    digest = f'"{field_set_digest(field)}"'.encode()
    return msgspec.structs.replace(field, fields_v1=msgspec.Raw(digest))


def field_set_digest(field: ManagedField) -> str:
    """Digest of a field set; the same for an entry and for what `without_field_set` makes of it."""
    raw = bytes(field.fields_v1)
    return raw[1:-1].decode() if raw.startswith(b'"') else hashlib.blake2b(raw, digest_size=12).hexdigest()


def newer(version: str, than: str) -> bool | None:
    """Whether a resourceVersion is newer; None when the two cannot be compared (not both are integers)."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return None
