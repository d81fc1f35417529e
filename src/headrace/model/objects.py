"""Kubernetes objects as they travel: raw JSON bytes with the few metadata fields that everybody needs."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from headrace.model.reference import Reference, split_api_version

T = TypeVar("T")


class OwnerReference(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """metadata.ownerReferences[]: who the object belongs to."""

    kind: str
    name: str
    uid: str
    api_version: str = ""
    controller: bool = False


class ManagedField(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """metadata.managedFields[]: which manager owns which fields; the field set stays raw bytes. `time` is that of the
    last write of this manager that changed anything."""

    manager: str = ""
    operation: str = ""
    api_version: str = ""
    subresource: str = ""
    time: str = ""
    fields_v1: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"), name="fieldsV1")


class Metadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The part of ObjectMeta that decisions are made from."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    owner_references: list[OwnerReference] | None = None
    managed_fields: list[ManagedField] | None = None

    @property
    def deleting(self) -> bool:
        return self.deletion_timestamp is not None

    def label(self, key: str) -> str:
        return (self.labels or {}).get(key, "")

    def annotation(self, key: str) -> str:
        return (self.annotations or {}).get(key, "")


class LiveObject(msgspec.Struct, frozen=True, gc=False):
    """An object as a cluster holds it.

    `raw` is the whole JSON, or only the PartialObjectMetadata where just metadata is watched (`partial`).
    """

    reference: Reference
    api_version: str
    metadata: Metadata
    raw: bytes
    partial: bool = False

    @property
    def owners(self) -> tuple[Reference, ...]:
        """Who the object belongs to: objects of its own namespace, or of none."""
        own = self.reference
        return tuple(
            Reference(split_api_version(owner.api_version)[0], owner.kind, own.namespace, owner.name, own.cluster)
            for owner in self.metadata.owner_references or ()
        )

    def decode(self, kind: type[T]) -> T:
        """The object as a typed Struct; raises msgspec.ValidationError naming the field that does not fit."""
        return msgspec.json.decode(self.raw, type=kind)

    def content(self) -> dict[str, Any]:
        """The object as plain JSON data. Made anew at every call: keep it no longer than needed."""
        content: dict[str, Any] = msgspec.json.decode(self.raw)
        return content
