"""Preview: the plan of a run with everything decided that can be decided without writing.

Same planner, same checks, same look at what is stale as a delivery; only nobody acts. `plan`, `diff` and `adopt` print
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec

from headrace.apply import inventory, planner
from headrace.apply.checker import Checked, Checker, CheckFailed, get, send
from headrace.apply.decision import Step
from headrace.apply.delivery import DeliveryOptions
from headrace.apply.inventory import Entries
from headrace.apply.messages import ObjectFailure, dry_run_failure
from headrace.apply.prune import prune
from headrace.apply.scopes import DEFINITION, defined_kinds, scoped
from headrace.apply.target import GroupKind, Target
from headrace.kube.errors import KubeError
from headrace.model.manifests import Manifests
from headrace.model.objects import LiveObject
from headrace.model.plan import Action, Plan, PlanEntry, Stage
from headrace.model.reference import Reference

PRUNED = "prune"
"""The stage of objects that are wanted no more."""

NAMESPACE = ("", "Namespace")


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One object of a preview: what would become of it and why. `live` is what the cluster holds, `answer` what it
    would hold, where they are known and something would be written."""

    reference: Reference
    stage: str
    action: Action
    reason: str = ""
    file: str = ""
    live: LiveObject | None = None
    answer: LiveObject | None = None


class Preview(msgspec.Struct, frozen=True, gc=False):
    """A plan whose entries are all decided, the objects of it in order, those to be deleted last. `failures` are
    entries of the inventory that nothing can be told of. `held` is why nothing would be deleted, where a budget says
    so."""

    plan: Plan
    objects: tuple[Seen, ...]
    failures: tuple[str, ...] = ()
    held: str = ""

    @property
    def changes(self) -> tuple[Seen, ...]:
        """What a delivery would change, as far as that is known."""
        return tuple(o for o in self.objects if o.action not in (Action.UNCHANGED, Action.SKIPPED, Action.FAILED))

    @property
    def failed(self) -> tuple[str, ...]:
        """Why some of it cannot be told."""
        return (*(o.reason for o in self.objects if o.action is Action.FAILED), *self.failures)


async def preview(
    target: Target, manifests: Manifests, owned: Entries, options: DeliveryOptions,
    claims: Mapping[str, Reference] = {},
) -> Preview:
    """What delivering `manifests` would do to the cluster; `owned` is the inventory as it stands, `claims` are ids that
    other owners list. Sends reads and dry-runs only. Raises KubeError when the cluster does not answer at all."""
    items = options.apply.ignored.marked(await scoped(target, manifests))
    plan = planner.plan(
        items, owned, lambda reference: target.look(reference, None), target.signature,
        custom_stages=options.custom_stages,
    )
    looking = _Looking(target, options, frozenset(defined_kinds(items)))
    stages = [await looking.stage(stage) for stage in plan.stages]
    stale, failures = await looking.stale(plan, claims) if options.prune else ((), ())
    stale, held = _held(stale, options)
    decided = msgspec.structs.replace(plan, stages=tuple(map(_decided, plan.stages, stages)))
    return Preview(decided, (*(seen for stage in stages for seen in stage), *stale), failures, held)


def _held(stale: tuple[Seen, ...], options: DeliveryOptions) -> tuple[tuple[Seen, ...], str]:
    """What becomes of stale objects where a budget holds their deletion, and what is to be said then."""
    doomed = [seen for seen in stale if seen.action is Action.DELETED]
    if options.budget is None or not doomed:
        return stale, ""
    held = options.budget.hold((inventory.entry(seen.reference, "").id, seen.reference) for seen in doomed)
    if held is None:
        return stale, ""
    kept = {seen.reference for seen in doomed}
    reason = "its deletion is held by the prune budget"
    shown = (msgspec.structs.replace(seen, action=Action.SKIPPED, reason=reason) if seen.reference in kept else seen
             for seen in stale)
    return tuple(shown), held.message


def _decided(stage: Stage, seen: Iterable[Seen]) -> Stage:
    entries = (PlanEntry(e.manifest, s.action, s.reason) for e, s in zip(stage.entries, seen, strict=True))
    return msgspec.structs.replace(stage, entries=tuple(entries))


class _Looking:
    """Looks at one object after the other, remembering what the stages before would create."""

    def __init__(self, target: Target, options: DeliveryOptions, defined: frozenset[GroupKind]) -> None:
        self._target = target
        self._options = options
        self._defined = defined
        self._checker = Checker(target, force=options.apply.force, ignored=options.apply.ignored)
        self._places = asyncio.Semaphore(options.apply.concurrent)
        self._namespaces: set[str] = set()
        self._redefined = False

    async def stage(self, stage: Stage) -> list[Seen]:
        """The objects of one stage, in order."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._look(entry, stage.name)) for entry in stage.entries]
        seen = [task.result() for task in tasks]
        created = [s.reference for s in seen if s.action is Action.CREATED]
        self._namespaces |= {reference.name for reference in created if reference.group_kind == NAMESPACE}
        self._redefined |= any(
            s.reference.group_kind == DEFINITION and s.action in (Action.CREATED, Action.CONFIGURED) for s in seen
        )
        return seen

    async def _look(self, entry: PlanEntry, stage: str) -> Seen:
        manifest = entry.manifest
        seen = Seen(manifest.reference, stage, entry.action, entry.reason, manifest.file)
        if planner.settled(entry):
            return seen
        try:
            async with self._places:
                checked = await self._checker.check(entry)
                if checked.entry.manifest.body != manifest.body:
                    checked = await self._around(checked)
                return msgspec.structs.replace(seen, **await self._told(checked))
        except CheckFailed as error:
            return self._refused(seen, error.failure)

    async def _around(self, checked: Checked) -> Checked:
        """What is applied is not what is wanted, since fields are ignored: dry-run just that, to tell what differs."""
        try:
            answer, _ = await send(self._target, checked.entry.manifest, checked.resource, dry_run=True)
        except KubeError as error:
            raise CheckFailed(dry_run_failure(checked.entry.manifest, error)) from error
        return replace(checked, answer=answer)

    async def _told(self, checked: Checked) -> dict[str, object]:
        live, answer = checked.live, checked.answer
        match checked.step:
            case Step.SKIP:
                return {"action": Action.SKIPPED, "reason": checked.reason, "live": live}
            case Step.COMPARE:
                return {"action": Action.UNCHANGED, "reason": checked.reason, "live": live}
        if not checked.version and checked.step is Step.APPLY:
            return {"action": Action.CREATED, "reason": checked.reason, "answer": answer}
        if live is None or live.partial:
            live = await self._whole(checked)
        return {"action": Action.CONFIGURED, "reason": checked.reason, "live": live, "answer": answer}

    async def _whole(self, checked: Checked) -> LiveObject | None:
        try:
            return await get(self._target, checked.entry.manifest, checked.resource)
        except KubeError:
            return None  # the decision stands; only what differs cannot be shown

    def _refused(self, seen: Seen, failure: ObjectFailure) -> Seen:
        """What cannot be dry-run because it depends on an earlier stage is no failure."""
        reason = failure.message
        if seen.reference.group_kind in self._defined and self._redefined:
            return msgspec.structs.replace(seen, action=Action.DEFERRED, reason="its kind is defined first")
        if seen.reference.namespace in self._namespaces:
            return msgspec.structs.replace(seen, action=Action.DEFERRED, reason="its namespace is created first")
        return msgspec.structs.replace(seen, action=Action.FAILED, reason=reason)

    async def stale(self, plan: Plan, claims: Mapping[str, Reference]) -> tuple[tuple[Seen, ...], tuple[str, ...]]:
        """What would become of objects that are wanted no more, and what cannot be told of them."""
        found = await prune(
            self._target, plan.stale, self._options.labels, concurrent=self._options.apply.concurrent, claims=claims,
            dry_run=True,
        )
        seen = (Seen(c.reference, PRUNED, c.action, c.reason or "not wanted any more") for c in found.changes.changes)
        return tuple(seen), found.failures
