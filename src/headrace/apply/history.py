"""`status.history`: the last deliveries, newest first (spec section 3.3, KS-REC-12). Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headrace.api.kustomization import Snapshot
from headrace.core.clock import rfc3339
from headrace.core.duration import format_duration

LENGTH = 5
"""Deliveries that are kept."""


def record(
    history: Iterable[Snapshot], *, digest: str, status: str, now: float, duration: float, metadata: dict[str, str]
) -> tuple[Snapshot, ...]:
    """The history after a run that ended with the reason `status`: the latest entry is counted up when digest and
    status are the same, anything else becomes a new entry. `duration` is in seconds."""
    former = tuple(history)
    time = rfc3339(now)
    same = next((s for s in former if (s.digest, s.last_reconciled_status) == (digest, status)), None)
    latest = Snapshot(
        digest=digest,
        first_reconciled=same.first_reconciled if same else time,
        last_reconciled=time,
        last_reconciled_duration=format_duration(round(duration, 6)),
        last_reconciled_status=status,
        total_reconciliations=(same.total_reconciliations if same else 0) + 1,
        metadata=metadata,
    )
    return (latest, *(s for s in former if s is not same))[:LENGTH]


def as_status(history: Iterable[Snapshot]) -> list[object]:
    """The history in JSON form."""
    return [msgspec.to_builtins(snapshot) for snapshot in history]
