"""Which events of an own object wake it, into which lane and why. Pure.

Woken by: creation, a new generation, a new `reconcile.fluxcd.io/requestedAt`, deletion (sources.md section 1,
kustomization.md 3.1). Everything else about the metadata, and every write of the status, wakes nothing (SRC-COM-05).
"""

from __future__ import annotations

import msgspec

from headrace.api.artifactgenerator import RECONCILE
from headrace.api.meta import EXTENSIONS_GROUP, READY, RECONCILE_REQUEST, UNOBSERVED
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition
from headrace.model.trace import HUMAN, INTERVAL, RETRY, REVISION, Cause, Lane

WakeUp = tuple[Lane, Cause]


class _Status(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    observed_generation: int = UNOBSERVED
    last_handled_reconcile_at: str = ""
    conditions: tuple[Condition, ...] | None = None


class _Object(msgspec.Struct, frozen=True, gc=False):
    status: _Status | None = None


def wakeup(old: LiveObject | None, new: LiveObject) -> WakeUp | None:
    """The wake-up that a change means, None for one that means nothing. `old` is None for what was not known."""
    if old is None or old.metadata.uid != new.metadata.uid:
        return _first(new)
    requested = new.metadata.annotation(RECONCILE_REQUEST)
    if requested and requested != old.metadata.annotation(RECONCILE_REQUEST):
        return HUMAN, Cause("requested")
    if new.metadata.deleting and not old.metadata.deleting:
        return REVISION, Cause("deleted")
    if new.metadata.generation != old.metadata.generation or _paused(old) != _paused(new):
        return REVISION, Cause("spec")
    return None


def _paused(live: LiveObject) -> str:
    """The annotation by which kinds without `spec.suspend` are paused (SRC-AGN-19)."""
    return live.metadata.annotation(RECONCILE) if live.reference.group == EXTENSIONS_GROUP else ""


def _first(new: LiveObject) -> WakeUp:
    """An object seen for the first time: new to the world, or new to an engine that has just started."""
    status = _status(new)
    requested = new.metadata.annotation(RECONCILE_REQUEST)
    if requested and requested != status.last_handled_reconcile_at and status.conditions:
        return HUMAN, Cause("requested")
    if new.metadata.deleting:
        return REVISION, Cause("deleted")
    if not status.conditions:
        return REVISION, Cause("created")
    if status.observed_generation != new.metadata.generation:
        return REVISION, Cause("spec")
    ready = any(condition.type == READY and condition.status == "True" for condition in status.conditions)
    return (INTERVAL if ready else RETRY), Cause("started")


def _status(live: LiveObject) -> _Status:
    """The status as far as it matters here; one that does not decode says nothing (SEC-39)."""
    try:
        return msgspec.json.decode(live.raw, type=_Object).status or _Status()
    except msgspec.MsgspecError:
        return _Status()
