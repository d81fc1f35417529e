"""Taking fields over from kubectl and from older managers, as a JSON patch. Pure (spec section 4.4, KS-APPLY-10..13).

Their managedFields entries become part of our own, so that the next apply removes what Git does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.apply.signature import CLEANED_ANNOTATIONS, CLEANED_LABELS, FIELD_MANAGER, is_ours, is_taken_over
from headrace.model.objects import LiveObject, ManagedField

Json = dict[str, Any]


def take_over_patch(live: LiveObject, api_version: str, overridden: tuple[str, ...] = ()) -> bytes:
    """The JSON patch to send, with the resourceVersion it was made from as precondition; empty when there is
    nothing to do. `api_version` is that of our manifests."""
    operations = [*_cleaned("annotations", live.metadata.annotations, CLEANED_ANNOTATIONS),
                  *_cleaned("labels", live.metadata.labels, CLEANED_LABELS)]
    fields = live.metadata.managed_fields or []
    if any(is_taken_over(field, overridden) for field in fields):
        operations.append(
            {"op": "replace", "path": "/metadata/managedFields", "value": _merged(live, api_version, overridden)}
        )
    if not operations:
        return b""
    guard = {"op": "test", "path": "/metadata/resourceVersion", "value": live.metadata.resource_version}
    return msgspec.json.encode([guard, *operations])


def migration_patch(live: LiveObject, api_version: str) -> bytes:
    """The JSON patch after which every managedFields entry says `api_version`, with the resourceVersion it was made
    from as precondition; empty when all do."""
    entries: list[Json] = live.content()["metadata"].get("managedFields") or []
    if all(entry.get("apiVersion") == api_version for entry in entries):
        return b""
    guard = {"op": "test", "path": "/metadata/resourceVersion", "value": live.metadata.resource_version}
    migrated = [{**entry, "apiVersion": api_version} for entry in entries]
    return msgspec.json.encode([guard, {"op": "replace", "path": "/metadata/managedFields", "value": migrated}])


def _cleaned(where: str, values: Mapping[str, str] | None, keys: tuple[str, ...]) -> list[Json]:
    present = [key for key in keys if key in (values or {})]
    return [{"op": "remove", "path": f"/metadata/{where}/{key.replace('~', '~0').replace('/', '~1')}"}
            for key in present]


def _merged(live: LiveObject, api_version: str, overridden: tuple[str, ...]) -> list[Json]:
    """The entries as they shall be. They are taken from the raw object, since the time of each must stay."""
    entries: list[Json] = live.content()["metadata"]["managedFields"]
    fields: Json = {}
    ours: Json = {"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": api_version, "fieldsType": "FieldsV1"}
    rest: list[Json] = []
    for entry in entries:
        typed = ManagedField(
            manager=entry.get("manager", ""),
            operation=entry.get("operation", ""),
            subresource=entry.get("subresource", ""),
        )
        if is_ours(typed):
            ours = entry
        elif not is_taken_over(typed, overridden):
            rest.append(entry)
            continue
        else:
            ours.setdefault("time", entry.get("time"))
        union(fields, entry.get("fieldsV1") or {})
    return [{**ours, "fieldsV1": fields}, *rest]


def union(into: Json, more: Json) -> None:
    """Add the field set `more` to `into`; both are trees of FieldsV1."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            union(into[key], value)
        else:
            into.setdefault(key, value)
