"""What a run means: the only mapping from Outcome and StepError to conditions. Pure.

A step says what went wrong and which condition shows it; that Ready, Reconciling and Stalled follow is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from headrace.api.meta import READY, RECONCILING, STALLED
from headrace.model.errors import Stalled, StepError
from headrace.model.outcome import Condition, Outcome
from headrace.status.conditions import find
from headrace.status.rules import Rules

PROGRESSING = "Progressing"
PROGRESSING_WITH_RETRY = "ProgressingWithRetry"
OUTDATED = "ArtifactOutdated"

NEGATIVE = ("Stalled", "Failed", "Unavailable", "Outdated", "Reconciling")
"""Endings of condition types of which True is the bad news; of all others it is False (Healthy, SourceVerified)."""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What changes in the status: conditions to set and to remove, whether the generation counts as observed, and
    further fields (None removes one)."""

    conditions: tuple[Condition, ...] = ()
    removed: tuple[str, ...] = ()
    observed: bool = False
    fields: Mapping[str, object] = {}


def succeeded(outcome: Outcome, rules: Rules) -> Verdict:
    """Ready=True; nothing is in progress, stalled or failing any more (SRC-COM-14)."""
    ready = Condition(READY, "True", outcome.reason, outcome.message)
    told = {condition.type for condition in outcome.conditions}
    failing = tuple(kind for kind in rules.failing if kind not in told)
    removed = (RECONCILING, STALLED, *failing, *outcome.remove)
    return Verdict((ready, *outcome.conditions), removed, observed=True, fields=outcome.status)


def failed(error: StepError, rules: Rules, existing: Sequence[Condition]) -> Verdict:
    """Ready=False. Stalled takes the generation as observed (SRC-COM-08); everything else says that it goes on
    (SRC-COM-13) and leaves the generation back (SRC-COM-09, KS-REC-08)."""
    conditions: list[Condition] = list(error.conditions)
    if error.condition and not conditions:
        bad = "True" if error.condition.endswith(NEGATIVE) else "False"
        conditions.append(Condition(error.condition, bad, error.reason, error.message))
    told = {condition.type for condition in conditions}
    steps = (*_steps_before(error.condition, rules), *error.remove)
    removed = tuple(kind for kind in steps if kind not in told)
    conditions.append(_ready(error, rules, [*conditions, *_kept(existing, removed, error.condition)]))
    stalled = isinstance(error, Stalled)
    conditions.append(_stalled(error) if stalled else _retrying(error, existing))
    return Verdict(tuple(conditions), (*removed, RECONCILING if stalled else STALLED), stalled, error.status)


def in_progress(reason: str, message: str, told: Iterable[Condition], rules: Rules,
                existing: Sequence[Condition]) -> Verdict:
    """Reconciling=True, and Ready=Unknown where nothing better can be said while the run goes on."""
    conditions = [Condition(RECONCILING, "True", reason, message), *told]
    if find(conditions, READY) is None and (ready := _ready_meanwhile(message, conditions, rules, existing)):
        conditions.append(ready)
    return Verdict(tuple(conditions), (STALLED,))


def suspended(rules: Rules, existing: Sequence[Condition]) -> Verdict:
    """Nothing is done, so nothing is in progress; what is known stays."""
    ready = find(existing, READY)
    return Verdict(observed=rules.observes_suspended or (ready is not None and ready.status == "True"),
                   removed=(RECONCILING,) if ready is not None and ready.status == "True" else ())


def recovered(existing: Sequence[Condition]) -> bool:
    """Whether a success now is one after failures."""
    ready = find(existing, READY)
    return ready is not None and ready.status == "False"


def _steps_before(kind: str, rules: Rules) -> tuple[str, ...]:
    steps = rules.steps
    return tuple(step for step in steps[: steps.index(kind)] if step in rules.failing) if kind in steps else ()


def _kept(existing: Sequence[Condition], removed: Sequence[str], replaced: str) -> list[Condition]:
    return [condition for condition in existing if condition.type not in (*removed, replaced)]


def _ready(error: StepError, rules: Rules, conditions: Sequence[Condition]) -> Condition:
    """Ready=False with the reason of the most telling condition: by the order of types, not of time (SRC-COM-17)."""
    telling: Condition | None = None
    verdict = find(conditions, rules.verdict)
    if verdict is not None and verdict.status == "False":
        telling = verdict
    elif error.condition:
        failing = (find(conditions, kind) for kind in rules.failing)
        telling = next((condition for condition in failing if condition and condition.status == "True"), None)
    if telling is None:
        return Condition(READY, "False", error.reason, error.message)
    return Condition(READY, "False", telling.reason, telling.message)


def _stalled(error: StepError) -> Condition:
    return Condition(STALLED, "True", error.reason, error.message)


def _retrying(error: StepError, existing: Sequence[Condition]) -> Condition:
    """What was being done when it failed, if this run has said so."""
    reconciling = find(existing, RECONCILING)
    said = reconciling is not None and reconciling.reason != PROGRESSING_WITH_RETRY
    message = reconciling.message if reconciling is not None and said else error.message
    return Condition(RECONCILING, "True", PROGRESSING_WITH_RETRY, message)


def _ready_meanwhile(message: str, conditions: Sequence[Condition], rules: Rules,
                     existing: Sequence[Condition]) -> Condition | None:
    """Sources stay Ready while they look, and are Unknown once there is something new (SRC-COM-11, SRC-COM-12)."""
    if not rules.keeps_ready:
        return Condition(READY, "Unknown", PROGRESSING, rules.progress_message)
    ready = find(existing, READY)
    if find(conditions, OUTDATED) is not None or ready is None or ready.status == "Unknown":
        return Condition(READY, "Unknown", PROGRESSING, message)
    return None
