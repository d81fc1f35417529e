"""One delivery: from manifests to a cluster that holds them and nothing stale. The order of steps is the safety of it.

The inventory is written ahead of the first apply as old and new together, shrinks only when a deletion was accepted,
and an incomplete apply deletes nothing (REL-01..03).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from headrace.apply import control, inventory, planner
from headrace.apply.applied import OwnerRecords
from headrace.apply.applier import Applier, ApplyOptions, disregard, subscribe
from headrace.apply.budget import PruneBudget
from headrace.apply.inventory import Entries
from headrace.apply.messages import RECONCILIATION_FAILED
from headrace.apply.prune import Handover, Pruned, prune
from headrace.apply.rivalry import Rivalry
from headrace.apply.scopes import DEFINITION, defined_kinds, scoped
from headrace.apply.target import GroupKind, Target
from headrace.apply.waiter import Checked, HealthWait, Unhealthy
from headrace.core.failpoints import failpoint_async
from headrace.kube.errors import KubeError, NoMatch, is_too_large
from headrace.model.errors import Retry
from headrace.model.manifests import Manifests
from headrace.model.objects import LiveObject
from headrace.model.plan import Action, Change, ChangeSet, InventoryEntry, Plan, Stage
from headrace.model.read import Read
from headrace.model.reference import Reference
from headrace.model.scope import Scope

ESTABLISH = 60.0
"""Seconds that definitions and classes may take to be established before what needs them is applied (spec 4.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions:
    """What the object and the settings say about delivering."""

    labels: Mapping[str, str]
    """Owner labels: what is pruned must carry them."""
    prune: bool
    apply: ApplyOptions = field(default_factory=ApplyOptions)
    custom_stages: tuple[str, ...] = ()
    handover: Callable[[Entries], Awaitable[Handover]] | None = None
    """Asked before anything is deleted: which of these stale objects are another owner's, or may be."""
    budget: PruneBudget | None = None
    listed: Callable[[], None] | None = None
    """Called as soon as the inventory says all that is wanted."""


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The end of a delivery. `answers` are what writes were answered with; `delayed` is in how many seconds the
    correction of an object is due that a rival keeps changing, None when there is none; `put_off` the same for
    deletions that wait for another owner to say what it wants."""

    changes: ChangeSet
    inventory: Entries
    answers: dict[Reference, LiveObject] = {}
    delayed: float | None = None
    put_off: float | None = None

    @property
    def due(self) -> float | None:
        """In how many seconds there is something left to do."""
        return min((seconds for seconds in (self.delayed, self.put_off) if seconds is not None), default=None)


class PruneError(Exception):
    """Some stale objects were not deleted; everything else was done. `delivered` says what, `error` what to say."""

    def __init__(self, delivered: Delivered, error: Retry) -> None:
        super().__init__(error.message)
        self.delivered = delivered
        self.error = error


class Deliverer:
    """Delivers for one object in one run."""

    def __init__(
        self, target: Target, records: OwnerRecords, rivalry: Rivalry, scope: Scope, options: DeliveryOptions
    ) -> None:
        self._target = target
        self._records = records
        self._rivalry = rivalry
        self._scope = scope
        self._options = options

    # -- nothing to do ---------------------------------------------------------------------------------------------

    async def undisturbed(self, owned: Iterable[InventoryEntry]) -> bool:
        """Whether everything that was delivered is there as it was left, so far as watches tell: then there is
        nothing to ask a cluster. Subscribes to all of it in any case."""
        self._subscribe()
        records = self._records.records
        if {e.id for e in owned} != {inventory.entry(r, "").id for r in records}:
            return False
        await self._target.watch({reference.group_kind for reference in records})
        return not any(
            planner.drifted(self._target.look(reference, record), self._target.signature)
            for reference, record in records.items()
        )

    def _subscribe(self) -> None:
        """Before anything is looked at: what happens from here on wakes the object."""
        for reference, record in self._records.records.items():
            subscribe(self._scope, reference, record, self._target.signature)

    def leave_as_is(self) -> None:
        """After a failure: what has drifted is for the next try to correct, and until then only news wakes the object.
        Compared with how it was left, each such object would have it try again at once, and without end."""
        for reference, record in self._records.records.items():
            known = self._target.look(reference, record)
            if not record.vanishes and planner.drifted(known, self._target.signature):
                self._read_as_is(reference)

    # -- deliver ---------------------------------------------------------------------------------------------------

    async def deliver(self, manifests: Manifests, owned: Entries) -> Delivered:
        """Make the cluster hold `manifests` and delete what is stale of `owned`, the inventory as it stands.

        Raises Retry(ReconciliationFailed) naming every object that failed; PruneError; Superseded; KubeError.
        """
        items = self._options.apply.ignored.marked(await scoped(self._target, manifests))
        await self._target.watch({manifest.reference.group_kind for manifest in items})
        plan = planner.plan(
            items, owned, lambda reference: self._target.look(reference, self._records.records.get(reference)),
            self._target.signature, custom_stages=self._options.custom_stages, delayed=self._rivalry.delay,
        )
        await self._write_ahead(plan)
        if self._options.listed is not None:
            self._options.listed()
        await failpoint_async("inventory-written-ahead")
        applier = Applier(self._target, self._records, self._rivalry, self._scope, self._options.apply)
        try:
            changes = await self._apply(plan, applier, frozenset(defined_kinds(items)))
        except Retry as failure:
            held = _held_after_failure(plan, owned, applier.reached, self._may_be_there)
            failure.status = {"inventory": {"entries": msgspec.to_builtins(held)}} | failure.status
            raise
        await failpoint_async("stages-applied")
        pruned, put_off = await self._prune(plan)
        self._forget(manifest.reference for manifest in items)
        delivered = Delivered(
            changes + pruned.changes, inventory.union(plan.inventory, pruned.kept), applier.answers,
            self._delayed(plan), put_off,
        )
        if error := pruned.error():
            raise PruneError(delivered, error)
        if any(c.action is Action.DELETED and c.reference.group_kind == DEFINITION for c in pruned.changes.changes):
            # Whatever becomes of this run: the next one cannot look for objects of a kind that is not served any more.
            await self._scope.record_inventory(delivered.inventory)
        return delivered

    async def _write_ahead(self, plan: Plan) -> None:
        """What cannot be tracked is not applied: an inventory that the cluster cannot store fails here."""
        try:
            await self._scope.record_inventory(plan.ahead)
        except KubeError as error:
            if not is_too_large(error):
                raise
            text = (f"nothing was applied: the inventory of {len(plan.ahead)} objects, {len(plan.stale)} of them to be "
                    f"deleted, is too large for the status of one object ({error}): deliver them by several "
                    "Kustomizations, or change fewer of them in one commit")
            raise Retry(RECONCILIATION_FAILED, text) from error

    def _may_be_there(self, reference: Reference) -> bool:
        """Whether the cluster may hold the object, whoever's it is: another owner that has it must not delete it."""
        return self._target.look(reference, None).live is not None or reference.group_kind in self._target.unwatched

    async def _apply(self, plan: Plan, applier: Applier, defined: frozenset[GroupKind]) -> ChangeSet:
        changes = ChangeSet()
        for stage in plan.stages:
            await self._await_kinds(stage, defined)
            made = await applier.apply(stage, changes)
            changes += made
            if stage.wait:
                await self._establish(stage, made, applier.answers)
        return changes

    async def _await_kinds(self, stage: Stage, defined: frozenset[GroupKind]) -> None:
        """Kinds whose definition came in an earlier stage are served a moment after it (KS-APPLY-01, KS-HC-11)."""
        kinds = {(e.manifest.reference.group_kind, e.manifest.version)
                 for e in stage.entries if e.manifest.reference.group_kind in defined}
        for kind, version in kinds:
            with contextlib.suppress(NoMatch):
                await self._target.established(kind, version)

    async def _establish(self, stage: Stage, made: ChangeSet, answers: Mapping[Reference, LiveObject]) -> None:
        """Wait until definitions and classes can be used. Raises Retry(ReconciliationFailed)."""
        wait = HealthWait(self._target, self.checked(made.changes), answers)
        try:
            if wait.open:
                waiting = wait.wait(ESTABLISH)
                await self._scope.wait(waiting, on=wait.open, note=f"stage {stage.name}")
        except Unhealthy as error:
            lines = [error.text, *(str(change) for change in made.effective)]
            raise Retry(RECONCILIATION_FAILED, "\n".join(lines), objects=error.objects) from error

    def checked(self, changes: Iterable[Change]) -> list[Checked]:
        """The objects of a delivery whose health counts: all but those left alone (KS-HC-03)."""
        return [self.check(change.reference) for change in changes
                if change.action not in (Action.SKIPPED, Action.DELETED) and change.reference in self._records.records]

    def check(self, reference: Reference) -> Checked:
        """The health of one delivered object, no older than our last write of it."""
        record = self._records.records[reference]
        return Checked(reference, version=record.resource_version, may_vanish=record.vanishes)

    async def _prune(self, plan: Plan) -> tuple[Pruned, float | None]:
        """Delete what is stale, and in how many seconds what was put off is due."""
        if not self._options.prune or not plan.stale:
            return Pruned(ChangeSet()), None
        handover = Handover() if self._options.handover is None else await self._options.handover(plan.stale)
        stale = tuple(entry for entry in plan.stale if entry not in handover.undecided)
        if handover.undecided:
            self._scope.note(f"deletion of {len(handover.undecided)} objects is put off: {handover.waits_for} has not "
                             "handled this revision and may want them")
        if held := self._held(stale, handover.claims):
            return Pruned(ChangeSet(), kept=plan.stale, held=held), handover.left
        self._disregard(stale)
        pruned = await prune(
            self._target, stale, self._options.labels, concurrent=self._options.apply.concurrent,
            claims=handover.claims,
        )
        for change in pruned.changes.changes:
            self._scope.note(f"{change.reference} {change.action.value}: {change.reason or 'not wanted any more'}")
        kept = tuple(sorted({*pruned.kept, *handover.undecided}))
        return msgspec.structs.replace(pruned, kept=kept), handover.left

    def _held(self, stale: Entries, claims: Mapping[str, Reference]) -> Retry | None:
        """Why nothing is deleted by this run, as far as a budget says so."""
        if self._options.budget is None:
            return None
        return self._options.budget.hold(
            (entry.id, reference) for entry, reference in inventory.readable(stale, self._target.name)
            if entry.id not in claims and self._would_go(reference)
        )

    def _would_go(self, reference: Reference) -> bool:
        """Whether a prune would delete the object, so far as the watches tell."""
        known = self._target.look(reference, None)
        if known.live is None:
            return not known.watched
        return control.owned(known.live.metadata, self._options.labels) and not control.kept(known.live.metadata)

    def _disregard(self, stale: Iterable[InventoryEntry]) -> None:
        ids = {entry.id for entry in stale}
        for reference in self._records.records:
            if inventory.entry(reference, "").id in ids:
                disregard(self._scope, reference, self._target.signature)

    def _forget(self, wanted: Iterable[Reference]) -> None:
        kept = set(wanted)
        self._rivalry.forget([reference for reference in self._records.records if reference not in kept])
        self._records.keep_only(kept)

    # -- drift that is not corrected yet ---------------------------------------------------------------------------

    def _delayed(self, plan: Plan) -> float | None:
        """The time of the next correction of what a rival keeps changing. Such an object is read as it is now, or
        it would wake us at once."""
        delays = [
            self._rivalry.delay(entry.manifest.reference)
            for entry in plan.entries
            if entry.action is Action.UNCHANGED and entry.reason and self._read_as_is(entry.manifest.reference)
        ]
        return min(delays, default=None)

    def _read_as_is(self, reference: Reference) -> bool:
        live = self._target.look(reference, None).live
        version = live.metadata.resource_version if live is not None else ""
        signature = self._target.signature
        self._scope.record(Read(reference, signature.name, signature.digest(live), version))
        return True


def _held_after_failure(
    plan: Plan, owned: Entries, reached: Container[Reference], may_be_there: Callable[[Reference], bool]
) -> Entries:
    """The inventory of a run whose apply has failed: what was owned and what may be there now. An object that was not
    reached is not there, unless it was before, as one that moves here from another owner: its name may be wrong, its
    kind may never exist, and nobody could delete it."""
    entries = (entry for stage in plan.stages for entry in stage.entries)
    absent = {
        inventory.entry(entry.manifest.reference, "").id for entry in entries
        if entry.action is Action.PENDING and entry.manifest.reference not in reached
        and not may_be_there(entry.manifest.reference)
    } - {entry.id for entry in owned}
    return tuple(entry for entry in plan.ahead if entry.id not in absent)
