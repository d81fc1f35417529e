"""Corrections that come again and again: how long the next one waits, so that no fight runs at wire speed.

The first corrections are immediate, since a single edit by a person is the usual case. Pure but for its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.api.kustomization import OWNER_NAME, OWNER_NAMESPACE
from headrace.apply.signature import FIELD_MANAGER
from headrace.core.backoff import Backoff
from headrace.core.clock import Clock
from headrace.model.objects import LiveObject, Metadata
from headrace.model.reference import Reference

FREE = 3
"""Corrections of one object that are made at once."""

FORGOTTEN = 600.0
"""Seconds without a correction after which an object starts anew; longer than that is no fight."""


@dataclass(slots=True)
class _Fight:
    corrections: int
    due: float


class Rivalry:
    """Counts corrections of each delivered object. In memory only: after a restart a fight starts anew."""

    def __init__(self, clock: Clock, backoff: Backoff) -> None:
        self._clock = clock
        self._backoff = backoff
        self._fights: dict[Reference, _Fight] = {}

    def delay(self, reference: Reference) -> float:
        """Seconds until the object may be corrected again; 0 when now."""
        fight = self._fights.get(reference)
        return 0.0 if fight is None else max(0.0, fight.due - self._clock.monotonic())

    def fighting(self, reference: Reference) -> bool:
        """Whether corrections of this object are being delayed by now, so that the rival is worth a look."""
        fight = self._fights.get(reference)
        return fight is not None and fight.corrections >= FREE

    def corrected(self, reference: Reference) -> None:
        """The object was written although what is wanted has not changed."""
        now = self._clock.monotonic()
        fight = self._fights.get(reference)
        if fight is None or now - fight.due > FORGOTTEN:
            fight = self._fights[reference] = _Fight(0, now)
        fight.corrections += 1
        excess = fight.corrections - FREE
        fight.due = now + (self._backoff.delay(excess + 1) if excess >= 0 else 0.0)

    def forget(self, references: list[Reference]) -> None:
        """The objects are wanted differently now, or not any more."""
        for reference in references:
            self._fights.pop(reference, None)


def last_manager(live: LiveObject) -> str:
    """The field manager, other than ours and besides those of subresources, that has written last."""
    fields: list[dict[str, str]] = live.content()["metadata"].get("managedFields") or []
    others = [f for f in fields if f.get("manager") != FIELD_MANAGER and not f.get("subresource")]
    latest: dict[str, str] = max(others, key=lambda f: f.get("time") or "", default={})
    return latest.get("manager") or ""


def other_owner(live: Metadata, labels: Mapping[str, str]) -> str:
    """`Kustomization/namespace/name` of somebody else who delivers the object too; empty when there is none."""
    namespace, name = live.label(OWNER_NAMESPACE), live.label(OWNER_NAME)
    same = (namespace, name) == (labels.get(OWNER_NAMESPACE), labels.get(OWNER_NAME))
    return f"Kustomization/{namespace}/{name}" if name and not same else ""
