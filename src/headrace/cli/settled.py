"""When a delivery has come to rest: every object Ready, or something failed and nothing moves. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.api.kinds import KINDS
from headrace.api.meta import SOURCE_GROUP
from headrace.cli.root import GIT_REPOSITORY_REFERENCE, KUSTOMIZATION_REFERENCE
from headrace.cli.view import FluxObject, inventory_reference
from headrace.controllers.generate.sources import sources_digest
from headrace.model.reference import Reference


class Standing(enum.Enum):
    """How one object, or all of them together, stands."""

    READY = "ready"
    MOVING = "moving"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What was asked for: what was there before must not be taken for the answer.

    `request` is the token that the source was asked to run with, `revision` what it has to find (empty: whatever it
    finds), `generations` those that the root objects have at least.
    """

    request: str = ""
    revision: str = ""
    generations: Mapping[Reference, int] = field(default_factory=dict)

    def outdated(self, obj: FluxObject) -> bool:
        """Whether an object, as it is seen, is from before the goal was set."""
        if obj.metadata.generation < self.generations.get(obj.reference, 0):
            return True
        asked = obj.reference == GIT_REPOSITORY_REFERENCE and self.request
        return bool(asked) and obj.status.last_handled_reconcile_at != self.request


def standing(obj: FluxObject) -> Standing:
    """How one object stands, from its own conditions."""
    if obj.suspended:
        return Standing.READY
    if obj.unserved:
        return _unserved(obj)
    if obj.stalled:
        return Standing.FAILED
    if obj.metadata.deleting or not obj.observed or obj.reconciling or obj.ready is None:
        return Standing.MOVING
    if obj.ready.status == "True":
        return Standing.READY
    if obj.ready.status == "Unknown":
        return Standing.MOVING
    return Standing.BLOCKED if obj.ready.reason == "DependencyNotReady" else Standing.FAILED


def _unserved(obj: FluxObject) -> Standing:
    """An object whose status is its producer's, who need not say which generation it speaks of, or nobody's."""
    if obj.ready is not None and obj.ready.status == "False":
        return Standing.FAILED
    return Standing.READY if obj.static or obj.status.artifact is not None else Standing.MOVING


def overall(objects: Mapping[Reference, FluxObject], goal: Goal) -> Standing:
    """How the whole delivery stands: READY, FAILED (which may still pass), or MOVING."""
    root = objects.get(KUSTOMIZATION_REFERENCE)
    if root is None or GIT_REPOSITORY_REFERENCE not in objects or any(map(goal.outdated, objects.values())):
        return Standing.MOVING
    states = {reference: standing(obj) for reference, obj in objects.items()}
    if Standing.MOVING in states.values() or _behind(objects, states):
        return Standing.MOVING
    if any(state is not Standing.READY for state in states.values()):
        return Standing.FAILED
    arrived = goal.revision in ("", root.status.last_applied_revision)
    return Standing.READY if arrived and _children_known(objects) else Standing.MOVING


def _behind(objects: Mapping[Reference, FluxObject], states: Mapping[Reference, Standing]) -> bool:
    """Whether a Ready object has yet to deliver what its source has now."""
    return any(
        states[reference] is Standing.READY
        and not obj.suspended
        and (_source_is_newer(obj, objects) or _sources_are_newer(obj, objects))
        for reference, obj in objects.items()
    )


def _source_is_newer(obj: FluxObject, objects: Mapping[Reference, FluxObject]) -> bool:
    named = obj.source(SOURCE_GROUP)
    source = objects.get(named) if named is not None else None
    return source is not None and source.status.artifact is not None and source.revision != obj.source_revision


def _sources_are_newer(obj: FluxObject, objects: Mapping[Reference, FluxObject]) -> bool:
    """For an ArtifactGenerator, all of whose sources are known."""
    named = {alias: objects.get(reference) for alias, reference in obj.sources(SOURCE_GROUP).items()}
    found = {alias: source.status.artifact for alias, source in named.items() if source and source.status.artifact}
    return bool(found) and len(found) == len(named) and sources_digest(found) != obj.status.observed_sources_digest


def _children_known(objects: Mapping[Reference, FluxObject]) -> bool:
    """Whether every object of ours that was delivered has been seen: the watches of kinds do not run in step."""
    return all(
        child in objects
        for obj in objects.values()
        if obj.spec.kube_config is None
        for child in map(inventory_reference, obj.inventory)
        if child.group_kind in KINDS
    )
