"""How conditions change: pure functions over metav1.Condition lists, with upstream's rules (sources.md section 1).

A condition whose status, reason and message are the same keeps its time, and takes the new generation (SRC-COM-18);
messages are cut (SRC-COM-19); Stalled and Reconciling exclude each other; those of others are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from headrace.api.meta import READY, RECONCILING, STALLED, StatusCondition
from headrace.core.clock import rfc3339
from headrace.model.outcome import Condition

LONGEST = 32768
"""Characters of a message: the limit of metav1.Condition."""

_FIRST = {STALLED: 0, RECONCILING: 1, READY: 2}
_EXCLUDES = {STALLED: RECONCILING, RECONCILING: STALLED}


def cut(message: str) -> str:
    """A message that fits, with an ellipsis where it was cut."""
    return message if len(message) <= LONGEST else message[: LONGEST - 3] + "..."


def changed(
    existing: Iterable[StatusCondition],
    set_: Iterable[Condition],
    removed: Iterable[str] = (),
    *,
    generation: int,
    now: float,
) -> tuple[StatusCondition, ...]:
    """`existing` with the conditions of `set_` in place and the types of `removed` taken out, in upstream's order."""
    result = {condition.type: condition for condition in existing}
    for kind in removed:
        result.pop(kind, None)
    for condition in set_:
        result.pop(_EXCLUDES.get(condition.type, ""), None)
        result[condition.type] = _stated(result.get(condition.type), condition, generation, now)
    return tuple(sorted(result.values(), key=lambda c: (_FIRST.get(c.type, len(_FIRST)), c.type)))


def _stated(before: StatusCondition | None, condition: Condition, generation: int, now: float) -> StatusCondition:
    message = cut(condition.message)
    same = before is not None and (before.status, before.reason, before.message) == (
        condition.status, condition.reason, message)
    return StatusCondition(
        type=condition.type,
        status=condition.status,
        reason=condition.reason,
        message=message,
        last_transition_time=before.last_transition_time if before is not None and same else rfc3339(now),
        observed_generation=generation,
    )


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of a type."""
    return next((condition for condition in conditions if condition.type == kind), None)


def decode(status: Mapping[str, object]) -> tuple[StatusCondition, ...]:
    """`status.conditions` of a stored object. One that cannot be decoded is left out: it is rewritten, not kept."""
    items = status.get("conditions")
    decoded = []
    for item in items if isinstance(items, list) else ():
        try:
            decoded.append(msgspec.convert(item, StatusCondition))
        except msgspec.ValidationError:
            continue
    return tuple(decoded)
