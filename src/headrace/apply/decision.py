"""What becomes of an object after its dry-run, and whether two objects differ. Pure (spec sections 4.3 and 4.4)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.apply import control
from headrace.apply.planner import CHANGED, DRIFTED, skipped
from headrace.apply.signature import CLEANED_ANNOTATIONS, CLEANED_LABELS, is_ours, is_taken_over
from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject
from headrace.model.plan import PlanEntry

Json = dict[str, Any]


class Step(enum.Enum):
    """The next thing to do with an object whose dry-run succeeded."""

    SKIP = "skip"
    APPLY = "apply"
    COMPARE = "compare"
    """Nothing is known of the live object: get it, and apply only when the dry-run changed it."""
    TAKE_OVER = "take over"
    """Fields of kubectl or of an older manager go first, else they would survive what Git says."""
    RECREATE = "recreate"
    """Delete and create: a field is immutable. Only told by a check that must not write."""


def after_dry_run(
    entry: PlanEntry, answer: LiveObject, *, created: bool, live: LiveObject | None, overridden: tuple[str, ...] = ()
) -> tuple[Step, str]:
    """The next step and why. `answer` is what the object would be; `live` what it is, where that is known without
    asking: only the answer's labels and annotations are, since they come from the live object."""
    if created:
        return Step.APPLY, "does not exist"
    view = live or answer
    if reason := skipped(entry.manifest, view):
        return Step.SKIP, reason
    if needs_take_over(entry.manifest, answer, overridden):
        return Step.TAKE_OVER, "fields of another manager are taken over"
    if entry.reason in (CHANGED, DRIFTED):
        return Step.APPLY, entry.reason
    return Step.COMPARE, entry.reason


def needs_take_over(wanted: Manifest, answer: LiveObject, overridden: tuple[str, ...]) -> bool:
    """Whether the clean-up has something to do (KS-APPLY-10, 11, 13; KS-ANN-02)."""
    metadata = answer.metadata
    if control.merged(wanted) or control.merged(metadata):
        return False
    if any(is_taken_over(field, overridden) for field in metadata.managed_fields or ()):
        return True
    return any(key in (metadata.annotations or {}) for key in CLEANED_ANNOTATIONS) or any(
        key in (metadata.labels or {}) for key in CLEANED_LABELS
    )


def after_compare(live: LiveObject, answer: LiveObject) -> tuple[Step, str]:
    """What is to be done about an object that was looked at: COMPARE says nothing at all (KS-APPLY-07)."""
    if differs(live.content(), answer.content()):
        return Step.APPLY, "differs"
    if loses_ownership(live, answer):
        return Step.APPLY, "fields of ours have another manager"
    return Step.COMPARE, "as wanted"


def loses_ownership(live: LiveObject, answer: LiveObject) -> bool:
    """Whether a field that the apply would make ours is not ours now. Its value is right, but once it leaves the
    source it would stay. Fields that are ours without being wanted do not count: other versions of Flux name some
    that are empty (`creationTimestamp`), and an object is taken over from them untouched."""
    return not _within(_owned(answer), _owned(live))


def _owned(live: LiveObject) -> Json:
    fields = next((field.fields_v1 for field in live.metadata.managed_fields or () if is_ours(field)), None)
    return {} if fields is None else msgspec.json.decode(fields, type=Json)


def _within(fields: Json, others: Json) -> bool:
    """Whether a tree of FieldsV1 is part of another."""
    return all(key in others and _within(inner, others[key]) for key, inner in fields.items())


def differs(live: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether the dry-run changed anything that counts: labels, annotations, all outside metadata and status."""
    return comparable(live) != comparable(answer)


def comparable(content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an object that counts when it is compared with what is wanted."""
    metadata = content.get("metadata") or {}
    rest = {key: value for key, value in content.items() if key not in ("metadata", "status", "apiVersion")}
    kept = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    return {"metadata": kept} | rest


def is_immutable(status: int, reason: str, message: str) -> bool:
    """Whether `force` helps against a refused dry-run (KS-FORCE-01, 04, 05): conflict, invalid, or the text that
    admission rules and webhooks use."""
    if status == 422 or (status == 409 and reason != "AlreadyExists"):
        return True
    return "is immutable" in message or "immutable field" in message
