"""Pruning: delete what was owned and is wanted no more (spec section 3.5, KS-GC-01..08).

An object is deleted only when it is in the inventory, carries our owner labels on a read made just before, and is
still the one that was read (uid and resourceVersion as preconditions of the DELETE). Otherwise it is left.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from headrace.apply import control, inventory, order
from headrace.apply.inventory import Entries, UnreadableEntryError
from headrace.apply.messages import cures
from headrace.apply.target import Target
from headrace.core.failpoints import failpoint_async
from headrace.kube.errors import ConfigError, Conflict, KubeError, NoMatch, NotFound
from headrace.kube.resource import Resource
from headrace.model.errors import Retry
from headrace.model.plan import Action, Change, ChangeSet, InventoryEntry
from headrace.model.reference import Reference

PRUNE_FAILED = "PruneFailed"

ATTEMPTS = 10
"""Reads and deletes of one object: its status may move between the two, each time with a new resourceVersion."""


class Handover(msgspec.Struct, frozen=True, gc=False):
    """Stale objects that another owner takes, or may take. `claims` are ids that another inventory lists, with its
    owner. `undecided` are not deleted for another `left` seconds, because of `waits_for`."""

    claims: Mapping[str, Reference] = {}
    undecided: Entries = ()
    waits_for: Reference | None = None
    left: float | None = None


class Pruned(msgspec.Struct, frozen=True, gc=False):
    """What became of the stale objects. `kept` are the entries that stay in the inventory: their deletion was not
    accepted, for the reasons of `failures`, or another owner has claimed them (`claimed`) and does not hold them yet,
    or it is put off until `held` is resolved. `cures` are what may end the failures."""

    changes: ChangeSet
    kept: tuple[InventoryEntry, ...] = ()
    failures: tuple[str, ...] = ()
    claimed: tuple[InventoryEntry, ...] = ()
    held: Retry | None = None
    cures: tuple[Reference, ...] = ()

    def error(self) -> Retry | None:
        """The error of the run, None when all went well (KS-GC-06, KS-GC-08)."""
        if not self.failures:
            return self.held
        lines = [str(change) for change in self.changes.effective]
        text = "delete failed, errors: " + "; ".join(self.failures)
        return Retry(PRUNE_FAILED, "\n".join([text, *lines]), cures=self.cures)


@dataclass(frozen=True, slots=True)
class _Stale:
    entry: InventoryEntry
    reference: Reference
    version: str
    claimant: Reference | None = None


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    cures: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class _Claimed:
    """The object carries our labels still, and is about to get another owner's."""

    change: Change


_Result = Change | _Claimed | _Failure


async def prune(
    target: Target, stale: Iterable[InventoryEntry], labels: Mapping[str, str], *, concurrent: int = 4,
    claims: Mapping[str, Reference] = {}, dry_run: bool = False,
) -> Pruned:
    """Delete the objects of `stale` entries, in the reverse order of applying. `labels` are the owner labels; objects
    of `claims` (by id) are left to the owner named there. With `dry_run` everything is looked at and nothing deleted.
    """
    objects, unreadable = _readable(stale, target.name, claims)
    objects.sort(key=lambda o: order.sort_key(o.reference), reverse=True)
    places = asyncio.Semaphore(concurrent)
    results: list[tuple[_Stale, _Result]] = []
    for _, group in itertools.groupby(objects, lambda o: order.rank(o.reference)):
        async with asyncio.TaskGroup() as tasks:
            running = [(o, tasks.create_task(_prune_one(target, o, labels, places, dry_run))) for o in group]
        results += [(o, task.result()) for o, task in running]
    return _summed_up(results, unreadable)


def _summed_up(results: list[tuple[_Stale, _Result]], unreadable: list[tuple[InventoryEntry, str]]) -> Pruned:
    failed = [(o.entry, result) for o, result in results if isinstance(result, _Failure)]
    claimed = [o.entry for o, result in results if isinstance(result, _Claimed)]
    changes = [r.change if isinstance(r, _Claimed) else r for _, r in results if not isinstance(r, _Failure)]
    return Pruned(
        ChangeSet(tuple(changes)),
        kept=tuple(sorted([*(entry for entry, _ in failed), *(entry for entry, _ in unreadable), *claimed])),
        failures=(*(failure.text for _, failure in failed), *(text for _, text in unreadable)),
        claimed=tuple(claimed),
        cures=tuple(dict.fromkeys(cure for _, failure in failed for cure in failure.cures)),
    )


def _readable(
    stale: Iterable[InventoryEntry], cluster: str, claims: Mapping[str, Reference]
) -> tuple[list[_Stale], list[tuple[InventoryEntry, str]]]:
    objects: list[_Stale] = []
    unreadable: list[tuple[InventoryEntry, str]] = []
    for entry in stale:
        try:
            reference, version = inventory.parse(entry.id, entry.v, cluster)
        except UnreadableEntryError as error:
            unreadable.append((entry, str(error)))
        else:
            objects.append(_Stale(entry, reference, version, claims.get(entry.id)))
    return objects, unreadable


async def _prune_one(
    target: Target, stale: _Stale, labels: Mapping[str, str], places: asyncio.Semaphore, dry_run: bool
) -> _Result:
    """The change made of one object, or why it could not be deleted. A kind that is not served (any more) is not
    the same as an object that does not exist (REL-06)."""
    try:
        async with places:
            resource = await target.any_resource(stale.reference.group_kind, stale.version)
            if reason := _impossible(resource, stale.reference):
                return Change(stale.reference, Action.UNCHANGED, reason=reason)
            return await _delete(target, resource, stale, labels, dry_run=dry_run)
    except KubeError as error:
        if isinstance(error, NoMatch) and not await target.may_exist(stale.reference.group_kind):
            return Change(stale.reference, Action.UNCHANGED, reason="cannot exist: nothing defines its kind")
        return _Failure(f"{stale.reference} delete failed: {error}", cures(stale.reference, error))


def _impossible(resource: Resource, reference: Reference) -> str:
    """Why no API server can hold such an object: an apply that was refused has left its name in the inventory."""
    try:
        resource.object(reference.namespace, reference.name)
    except ConfigError as error:
        return f"cannot exist: {error}"
    return ""


async def _delete(
    target: Target, resource: Resource, stale: _Stale, labels: Mapping[str, str], *, dry_run: bool
) -> _Result:
    attempt, reference = 0, stale.reference
    while True:
        attempt += 1
        try:
            live = await target.client.get(resource, reference.namespace, reference.name, metadata_only=True)
            meta = live.metadata
            if not control.owned(meta, labels):
                return Change(reference, Action.SKIPPED, meta, "carries no owner labels of this object")
            if reason := control.kept(meta):
                return Change(reference, Action.SKIPPED, meta, reason)
            if stale.claimant is not None:
                return _Claimed(Change(reference, Action.SKIPPED, meta, f"is handed over to {stale.claimant}"))
            if dry_run:
                return Change(reference, Action.DELETED, meta)
            await failpoint_async("prune-before-delete")
            await target.client.delete(
                resource, reference.namespace, reference.name, uid=meta.uid, resource_version=meta.resource_version
            )
            await failpoint_async("prune-after-delete")
            return Change(reference, Action.DELETED, meta)
        except NotFound as error:
            if not error.definite:
                raise
            return Change(reference, Action.UNCHANGED, reason="is gone already")
        except Conflict:
            if attempt >= ATTEMPTS:
                raise
