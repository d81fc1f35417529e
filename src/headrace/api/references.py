"""Which fields of a spec name another namespace: found in the Structs themselves, so that no kind is forgotten.

Every field whose name has to do with namespaces counts as a reference unless `NO_REFERENCES` says why it is none. A new
kind is therefore held to its own namespace before anybody has thought of it (SEC-24).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from headrace.api.kinds import KINDS
from headrace.model.objects import Metadata
from headrace.model.reference import Reference

NO_REFERENCES: Mapping[tuple[str, str], str] = {
    ("KustomizationSpec", "target_namespace"): "where objects are delivered to: the account that delivers decides",
    ("HelmReleaseSpec", "target_namespace"): "where a release is delivered to: the account that delivers decides",
    ("HelmReleaseSpec", "storage_namespace"): "where a release is recorded: the account that delivers decides",
    ("HealthCheck", "namespace"): "a delivered object, read as the account that delivers",
    ("Selector", "namespace"): "selects objects of the build",
    ("AccessFrom", "namespace_selectors"): "legacy, without effect, and names consumers, no target",
}
"""Fields of Structs (by name) that say a namespace and refer to nothing in it that the engine reads."""


class CrossReference(msgspec.Struct, frozen=True, gc=False):
    """A field of a specification that names another namespace. `kind` and `name` are those of the object it refers to,
    as far as the fields beside it tell."""

    field: str
    namespace: str
    kind: str = ""
    name: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind or self.field, self.namespace, self.name) if part)

    @property
    def target(self) -> Reference | None:
        """The object, where it is of a kind of ours: those can say who may refer to them."""
        group = next((group for group, kind in KINDS if kind == self.kind), None)
        return Reference(group, self.kind, self.namespace, self.name) if group and self.name else None


def cross_references(obj: Any, kind: str) -> tuple[CrossReference, ...]:
    """All fields of `obj.spec` that name a namespace other than that of `obj`, an object of a kind of ours. Pure."""
    metadata: Metadata = obj.metadata
    return tuple(_found(obj.spec, "spec", metadata.namespace, kind))


def _found(value: object, path: str, home: str, owner: str) -> Iterator[CrossReference]:
    if isinstance(value, msgspec.Struct):
        for field, encoded in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
            inner, where = getattr(value, field), f"{path}.{encoded}"
            if "namespace" not in field.lower():
                yield from _found(inner, where, home, owner)
            elif (type(value).__name__, field) not in NO_REFERENCES:
                yield from _named(value, inner, where, home, owner)
    elif isinstance(value, tuple | list):
        for index, inner in enumerate(value):
            yield from _found(inner, f"{path}[{index}]", home, owner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _found(inner, f"{path}[{key}]", home, owner)


def _named(holder: msgspec.Struct, value: object, path: str, home: str, owner: str) -> Iterator[CrossReference]:
    """The reference that a field for a namespace makes. What is no text is taken for one to everywhere."""
    if value and value != home:
        name = getattr(holder, "name", "")
        yield CrossReference(path, value if isinstance(value, str) else "*", _kind(holder, owner), name)


def _kind(holder: msgspec.Struct, owner: str) -> str:
    """The kind that a reference is to: what it says, else what its type is for."""
    said = getattr(holder, "kind", "")
    if said:
        return str(said)
    name = type(holder).__name__
    return owner if "Dependency" in name else next((kind for kind in ("Secret", "ConfigMap") if kind in name), "")
