"""The drift signature: a hash of everything in an object's metadata that would make a new apply necessary.

When anybody changes or removes a field that we own, the API server takes it out of our managedFields entry; when
somebody works with kubectl, an entry appears that the clean-up would take over. So metadata alone tells drift, and a
controller that adds a field or an annotation of its own wakes nobody (KS-APPLY-07..12).

A field set names fields, not values. That values which we own have changed, by a write of ours whose answer never came
or by another process in our name, shows in the time of our entry, which moves with nothing else (REL-15).
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.api.kustomization import CHECKSUM, OWNER_NAME, OWNER_NAMESPACE
from headrace.apply.control import CONTROL_KEYS
from headrace.kube.objects import LAST_APPLIED, field_set_digest
from headrace.model.objects import LiveObject, ManagedField
from headrace.model.read import Part
from headrace.model.trace import SIGNATURE as SIGNATURE_NAME

FIELD_MANAGER = "kustomize-controller"
"""Upstream's field manager, so that objects move over without a change (KS-APPLY-14)."""

CLEANED_ANNOTATIONS = (LAST_APPLIED, CHECKSUM, "fluxcd.io/sync-checksum")
CLEANED_LABELS = ("fluxcd.io/sync-gc-mark",)
"""Left-overs of other tools that a clean-up removes (spec section 4.4)."""


def is_ours(field: ManagedField) -> bool:
    """Whether this is the entry of our own server-side applies."""
    return field.manager == FIELD_MANAGER and field.operation == "Apply" and not field.subresource


def is_taken_over(field: ManagedField, overridden: Iterable[str] = ()) -> bool:
    """Whether the clean-up takes this manager's fields over; `overridden` is the setting override-manager."""
    if field.subresource:
        return False
    if field.operation == "Update" and field.manager.startswith(("before-first-apply", FIELD_MANAGER)):
        return True
    return field.manager.startswith(("kubectl", *overridden))


def _kept(values: dict[str, str] | None, emptied: tuple[str, ...]) -> dict[str, str]:
    keys = (OWNER_NAME, OWNER_NAMESPACE, *CONTROL_KEYS)
    kept = {key: value for key, value in (values or {}).items() if key in keys}
    return kept | {key: "" for key in emptied if key in (values or {})}


def _extract(live: LiveObject, overridden: tuple[str, ...]) -> object:
    meta = live.metadata
    fields = sorted(
        (f.manager, f.operation, field_set_digest(f), f.time if is_ours(f) else "")
        for f in meta.managed_fields or ()
        if is_ours(f) or is_taken_over(f, overridden)
    )
    labels, annotations = _kept(meta.labels, CLEANED_LABELS), _kept(meta.annotations, CLEANED_ANNOTATIONS)
    return [meta.uid, meta.deleting, sorted(labels.items()), sorted(annotations.items()), fields]


def signature_part(overridden: tuple[str, ...] = ()) -> Part:
    """The signature as a Part; `overridden` is the setting override-manager."""
    return Part(SIGNATURE_NAME, lambda live: _extract(live, overridden), metadata_only=True)


SIGNATURE = signature_part()
