"""When a delivery has come to rest: every object Ready, or something failed and nothing moves. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from headrace.api.kinds import KINDS
from headrace.api.meta import SOURCE_GROUP
from headrace.cli.root import KUSTOMIZATION_REFERENCE
from headrace.cli.view import FluxObject, inventory_reference
from headrace.model.reference import Reference


class Standing(enum.Enum):
    """How one object, or all of them together, stands."""

    READY = "ready"
    MOVING = "moving"
    BLOCKED = "blocked"
    FAILED = "failed"


def standing(obj: FluxObject) -> Standing:
    """How one object stands, from its own conditions."""
    if obj.spec.suspend:
        return Standing.READY
    if obj.stalled:
        return Standing.FAILED
    if obj.metadata.deleting or not obj.observed or obj.reconciling or obj.ready is None:
        return Standing.MOVING
    if obj.ready.status == "True":
        return Standing.READY
    if obj.ready.status == "Unknown":
        return Standing.MOVING
    return Standing.BLOCKED if obj.ready.reason == "DependencyNotReady" else Standing.FAILED


def overall(objects: Mapping[Reference, FluxObject], revision: str) -> Standing:
    """How the whole delivery stands. `revision`, when known, is the one that the root has to have delivered."""
    root = objects.get(KUSTOMIZATION_REFERENCE)
    if root is None:
        return Standing.MOVING
    states = {reference: standing(obj) for reference, obj in objects.items()}
    if Standing.MOVING in states.values() or _behind(objects, states):
        return Standing.MOVING
    if all(state is Standing.READY for state in states.values()):
        arrived = not revision or root.status.last_applied_revision == revision
        return Standing.READY if arrived and _children_known(objects) else Standing.MOVING
    return Standing.FAILED


def _behind(objects: Mapping[Reference, FluxObject], states: Mapping[Reference, Standing]) -> bool:
    """Whether a Ready object has yet to deliver what its Ready source has now."""
    for reference, obj in objects.items():
        source = objects.get(obj.source(SOURCE_GROUP) or reference)
        if source is None or source is obj or obj.spec.suspend or states[reference] is not Standing.READY:
            continue
        artifact = source.status.artifact
        if artifact is not None and artifact.revision != obj.status.last_applied_revision:
            return True
    return False


def _children_known(objects: Mapping[Reference, FluxObject]) -> bool:
    """Whether every object of ours that was delivered has been seen: the watches of kinds do not run in step."""
    return all(
        child in objects
        for obj in objects.values()
        if obj.spec.kube_config is None
        for child in map(inventory_reference, obj.inventory)
        if child.group_kind in KINDS
    )
