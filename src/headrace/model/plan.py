"""Decisions as data: what a run is going to do to a cluster, and what became of it."""

from __future__ import annotations

import enum

import msgspec

from headrace.model.manifests import Manifest
from headrace.model.objects import Metadata
from headrace.model.reference import Reference


class Action(enum.Enum):
    """What happens to one object; the values are the words that Flux uses in events and messages."""

    PENDING = "unknown until checked"
    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    DELETED = "deleted"
    DEFERRED = "unknown until applied"
    """Only in a plan that is not acted on: depends on what an earlier stage creates."""
    FAILED = "failed"
    """Only in a plan that is not acted on: the dry-run was refused."""


class PlanEntry(msgspec.Struct, frozen=True, gc=False):
    """One object of a plan: PENDING needs a dry-run to decide, UNCHANGED needs no request; `reason` says why."""

    manifest: Manifest
    action: Action
    reason: str = ""


class Stage(msgspec.Struct, frozen=True, gc=False):
    """Objects that are applied together; `wait` says that the next stage starts only when these are established."""

    name: str
    entries: tuple[PlanEntry, ...]
    wait: bool = False


class InventoryEntry(msgspec.Struct, frozen=True, gc=False, order=True):
    """`status.inventory.entries[]` in upstream's format: `<namespace>_<name>_<group>_<kind>` and the version."""

    id: str
    v: str


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What a run will do: stages in order, then the deletion of `stale` objects.

    `inventory` is what the object will own when all has succeeded, `ahead` (old and new together) what is written
    before the first apply.
    """

    stages: tuple[Stage, ...]
    stale: tuple[InventoryEntry, ...]
    inventory: tuple[InventoryEntry, ...]
    ahead: tuple[InventoryEntry, ...]

    @property
    def entries(self) -> tuple[PlanEntry, ...]:
        return tuple(entry for stage in self.stages for entry in stage.entries)


class Change(msgspec.Struct, frozen=True, gc=False):
    """What became of one object; `metadata` is the live object's after a write, None when nothing was asked."""

    reference: Reference
    action: Action
    metadata: Metadata | None = None
    reason: str = ""

    def __str__(self) -> str:
        """`Kind/namespace/name created`, the line that Flux puts into events."""
        return f"{self.reference} {self.action.value}"


class ChangeSet(msgspec.Struct, frozen=True, gc=False):
    """What a run did, in order."""

    changes: tuple[Change, ...] = ()

    @property
    def effective(self) -> tuple[Change, ...]:
        """Those that wrote something."""
        return tuple(c for c in self.changes if c.action in (Action.CREATED, Action.CONFIGURED, Action.DELETED))

    def __add__(self, other: ChangeSet) -> ChangeSet:
        return ChangeSet(self.changes + other.changes)
