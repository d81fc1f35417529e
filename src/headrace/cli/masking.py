"""Secrets in what is shown: two states of one object with every secret value masked, as `flux diff` does. Pure.

What counts is the kind that the cluster says the object has, not the one that a manifest claims (SEC-36).
"""

from __future__ import annotations

import json
from typing import Any

from headrace.kube.objects import LAST_APPLIED
from headrace.model.objects import LiveObject

Json = dict[str, Any]

MASK = "*****"
BEFORE, AFTER = f"{MASK} (before)", f"{MASK} (after)"

_VALUES = ("data", "stringData")
_COPIES = (LAST_APPLIED, "kapp.k14s.io/original", "kapp.k14s.io/original-diff")
"""Annotations in which tools keep the whole object."""


def is_secret(*objects: LiveObject | None) -> bool:
    """Whether any of these is a Secret, by the reference that it was read as or by what its own JSON says."""
    return any(o is not None and (o.reference.group_kind == ("", "Secret") or _claims_secret(o)) for o in objects)


def _claims_secret(live: LiveObject) -> bool:
    content = live.content()
    return content.get("kind") == "Secret" and content.get("apiVersion", "v1") == "v1"


def mask_secret(before: Json, after: Json) -> tuple[Json, Json]:
    """Two states of a Secret with masked values: one that is the same in both, one that differs, told apart."""
    return _masked(before, after, BEFORE), _masked(after, before, AFTER)


def _masked(state: Json, other: Json, differs: str) -> Json:
    """`state` with masks; `differs` stands where `other` has another value or none."""
    shown = dict(state)
    for field in _VALUES:
        if state.get(field) is not None:
            shown[field] = _masks(_mapping(state[field]), _mapping(other.get(field)), differs)
    annotations, others = _annotations(state), _annotations(other)
    if annotations:
        copies = {key: value for key, value in annotations.items() if key in _COPIES}
        shown["metadata"] = state["metadata"] | {"annotations": annotations | _masks(copies, others, differs)}
    return shown


def _masks(values: Json, others: Json, differs: str) -> Json:
    return {key: MASK if key in others and others[key] == value else differs for key, value in values.items()}


def _annotations(state: Json) -> Json:
    return (state.get("metadata") or {}).get("annotations") or {}


def _mapping(values: Any) -> Json:
    """The values of a field that should be a map; anything else is masked as a whole."""
    if values is None:
        return {}
    return values if isinstance(values, dict) else {"": json.dumps(values)}
