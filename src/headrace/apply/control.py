"""Labels and annotations with which an object steers its own delivery (spec section 4.4, KS-ANN-01..05).

Keys count as labels and as annotations; values are compared without regard to case.
"""

from __future__ import annotations

from collections.abc import Mapping

from headrace.api.kustomization import FORCE, OWNER_NAME, OWNER_NAMESPACE, PRUNE, RECONCILE, SSA
from headrace.model.manifests import Manifest
from headrace.model.objects import Metadata

Steered = Manifest | Metadata
"""Anything with labels and annotations: what is wanted, or what a cluster holds."""

CONTROL_KEYS = (RECONCILE, SSA, FORCE, PRUNE)


def _has(obj: Steered, key: str, value: str) -> bool:
    found = ((obj.labels or {}).get(key), (obj.annotations or {}).get(key))
    return any(v is not None and v.lower() == value for v in found)


def excluded(obj: Steered) -> str:
    """Why `obj` is neither applied nor pruned, or an empty string."""
    if _has(obj, RECONCILE, "disabled"):
        return f"{RECONCILE}: disabled"
    if _has(obj, SSA, "ignore"):
        return f"{SSA}: Ignore"
    return ""


def only_created(wanted: Steered) -> bool:
    """Whether the object is left alone once it exists. Read on what is wanted only."""
    return _has(wanted, SSA, "ifnotpresent")


def merged(obj: Steered) -> bool:
    """Whether fields set with kubectl are kept. Read on what is wanted and on what is live."""
    return _has(obj, SSA, "merge")


def forced(obj: Steered) -> bool:
    """Whether the object may be recreated when a field is immutable. Read on what is wanted and on what is live."""
    return _has(obj, FORCE, "enabled")


def kept(live: Metadata) -> str:
    """Why a live object is not pruned although it is stale, or an empty string. Read on what is live only."""
    return f"{PRUNE}: disabled" if _has(live, PRUNE, "disabled") else excluded(live)


def steers(wanted: Manifest) -> bool:
    """Whether what is wanted sets a key that a forced dry-run would write over on the live object."""
    return any(key in (values or {}) for values in (wanted.labels, wanted.annotations) for key in CONTROL_KEYS)


def owner_labels(namespace: str, name: str) -> dict[str, str]:
    """The two labels that every delivered object carries (KS-APPLY-15)."""
    return {OWNER_NAME: name, OWNER_NAMESPACE: namespace}


def owned(live: Metadata, labels: Mapping[str, str]) -> bool:
    """Whether the live object carries exactly these owner labels."""
    return all((live.labels or {}).get(key) == value for key, value in labels.items())
