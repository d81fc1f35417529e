"""Planning: what a run will do, decided from what is wanted, what was owned and what is known. Pure.

An object whose manifest is the one applied last and whose live signature has not moved needs no request. Everything
else is PENDING: the dry-run decides (`decision`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from headrace.apply import control, inventory, order
from headrace.apply.applied import Record
from headrace.kube.objects import newer
from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject
from headrace.model.plan import Action, InventoryEntry, Plan, PlanEntry, Stage
from headrace.model.read import Part
from headrace.model.reference import Reference


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one object without asking: the record of the last apply, and the watch's view.

    `watched` says whether `live` can be trusted: None then means that the object does not exist or is not ours.
    """

    record: Record | None = None
    live: LiveObject | None = None
    watched: bool = False


Look = Callable[[Reference], Known]

NEW, CHANGED, DRIFTED, UNKNOWN = "new", "manifest changed", "drifted", "not known"
"""Reasons of PENDING entries."""


def plan(
    manifests: Iterable[Manifest], owned: Iterable[InventoryEntry], look: Look, signature: Part,
    *, custom_stages: Iterable[str] = (), delayed: Callable[[Reference], float] = lambda _: 0.0,
) -> Plan:
    """The plan of a run. `owned` is the inventory as it stands; `delayed` tells for how many seconds an object's
    drift is not to be corrected because a rival changes it again and again."""
    manifests, owned = tuple(manifests), tuple(owned)
    wanted = tuple(sorted(inventory.entry(m.reference, m.version) for m in manifests))
    stages = tuple(
        Stage(name, tuple(decide(m, look(m.reference), signature, delayed) for m in items), wait)
        for name, wait, items in order.staged(manifests, custom_stages)
    )
    return Plan(stages, inventory.stale(owned, wanted), wanted, inventory.union(owned, wanted))


def decide(
    manifest: Manifest, known: Known, signature: Part, delayed: Callable[[Reference], float] = lambda _: 0.0
) -> PlanEntry:
    """What happens to one object, as far as that is known without a request."""
    if reason := skipped(manifest, known.live):
        return PlanEntry(manifest, Action.SKIPPED, reason)
    record = known.record
    if record is None or record.skipped:
        return PlanEntry(manifest, Action.PENDING, NEW if known.watched and known.live is None else UNKNOWN)
    if record.digest != manifest.digest:
        return PlanEntry(manifest, Action.PENDING, CHANGED)
    if not drifted(known, signature):
        return PlanEntry(manifest, Action.UNCHANGED)
    if wait := delayed(manifest.reference):
        return PlanEntry(manifest, Action.UNCHANGED, f"drifted; correction delayed by {wait:.0f}s")
    return PlanEntry(manifest, Action.PENDING, DRIFTED if known.watched else UNKNOWN)


def drifted(known: Known, signature: Part) -> bool:
    """Whether the live object may differ from how it was left. What nothing is known of may."""
    record = known.record
    if record is None or not known.watched:
        return True
    if known.live is None:
        return True
    if newer(known.live.metadata.resource_version, record.resource_version) is False:
        return False  # nothing happened since our last write
    return signature.digest(known.live) != record.signature


def skipped(manifest: Manifest, live: LiveObject | None) -> str:
    """Why the object is not applied, or an empty string (KS-ANN-01, 03, 04)."""
    if reason := control.excluded(manifest):
        return f"{reason} in the source"
    if live is None:
        return ""
    if reason := control.excluded(live.metadata):
        return f"{reason} on the cluster"
    return "exists, and is only created (ssa: IfNotPresent)" if control.only_created(manifest) else ""


def settled(entry: PlanEntry) -> bool:
    """Whether the entry needs no request."""
    return entry.action is not Action.PENDING


def with_scope(manifest: Manifest, namespaced: bool | None) -> Manifest:
    """The manifest with the namespace taken out of its reference when the kind is cluster-scoped (KS-INV-04)."""
    reference = manifest.reference
    if namespaced is not False or not reference.namespace:
        return manifest
    bare = Reference(reference.group, reference.kind, "", reference.name, reference.cluster)
    return msgspec.structs.replace(manifest, reference=bare)
