"""Applying a stage: dry-run what is not known to be unchanged, then write what differs, in the order of kinds.

A stage in which any dry-run fails applies nothing (KS-APPLY-06). What is written is remembered at once, object by
object, so that a run that is cut short repeats nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from headrace.apply import order
from headrace.apply.applied import OwnerRecords, Record
from headrace.apply.checker import Checked, Checker, CheckFailed, get, send
from headrace.apply.decision import Step
from headrace.apply.guard import OFF, Guard
from headrace.apply.ignore import NOTHING, IgnoreRules
from headrace.apply.messages import ObjectFailure, apply_failure, stage_failed
from headrace.apply.planner import DRIFTED, skipped
from headrace.apply.rivalry import Rivalry, last_manager, other_owner
from headrace.apply.signature import FIELD_MANAGER
from headrace.apply.takeover import migration_patch, take_over_patch
from headrace.apply.target import Target
from headrace.core.failpoints import failpoint_async
from headrace.kube.client import JSON_PATCH
from headrace.kube.errors import KubeError
from headrace.kube.resource import Resource
from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject
from headrace.model.plan import Action, Change, ChangeSet, PlanEntry, Stage
from headrace.model.read import ABSENT, Part, Read
from headrace.model.reference import Reference
from headrace.model.scope import Scope

T = TypeVar("T")
Item = TypeVar("Item")

TERMINATION_LOOKS = (0.1, 2.0)
"""Seconds between looks whether an object that is being recreated is gone: from the first to the last."""


FOUGHT = "changed again and again by "
"""Begins the reason of a change that corrects what a rival keeps changing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """What the Kustomization and the settings say about applying."""

    force: bool = False
    concurrent: int = 4
    ignored: IgnoreRules = NOTHING
    migrate: bool = False
    """Rewrite the API versions of managedFields first (gate MigrateAPIVersion, off upstream)."""
    guard: Guard = OFF


class Applier:
    """Applies the stages of one run. `answers` collects what the cluster holds after each write, `reached` the objects
    that were checked and found to be as wanted or written, with whatever result."""

    def __init__(
        self, target: Target, records: OwnerRecords, rivalry: Rivalry, scope: Scope, options: ApplyOptions
    ) -> None:
        self._target = target
        self._records = records
        self._rivalry = rivalry
        self._scope = scope
        self._options = options
        self._places = asyncio.Semaphore(options.concurrent)
        migrate = self._migrate if options.migrate else None
        self._checker = Checker(
            target, force=options.force, recreate=self._recreate,
            migrate=migrate, ignored=options.ignored, guard=options.guard
        )
        self.answers: dict[Reference, LiveObject] = {}
        self.reached: set[Reference] = set()

    async def apply(self, stage: Stage, done: ChangeSet) -> ChangeSet:
        """The changes of one stage; `done` are those of the stages before, for the error's text.

        Raises Retry(ReconciliationFailed) naming every object that failed, Superseded.
        """
        pending = [entry for entry in stage.entries if entry.action is Action.PENDING]
        settled = [self._settled(entry) for entry in stage.entries if entry.action is not Action.PENDING]
        await self._target.watch({entry.manifest.reference.group_kind for entry in stage.entries})
        checked, failures = await self._each(pending, self._checker.check)
        if failures:
            raise stage_failed(failures, done)
        changes = list(settled)
        for _, group in itertools.groupby(checked, lambda c: order.rank(c.entry.manifest.reference)):
            made, failures = await self._each(group, self._act)
            changes += made
            if failures:
                raise stage_failed(failures, done + ChangeSet(tuple(changes)))
        return ChangeSet(tuple(changes))

    async def _each(
        self, items: Iterable[Item], work: Callable[[Item], Awaitable[T]]
    ) -> tuple[list[T], list[ObjectFailure]]:
        """`work` on all items at a time, as many as have a place: results and failures, each in order."""

        async def one(item: Item) -> T | ObjectFailure:
            try:
                async with self._places:
                    return await work(item)
            except CheckFailed as error:
                return error.failure

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
        results = [task.result() for task in tasks]
        failures = [result for result in results if isinstance(result, ObjectFailure)]
        return [result for result in results if not isinstance(result, ObjectFailure)], failures

    # -- objects that need no request ------------------------------------------------------------------------------

    def _settled(self, entry: PlanEntry) -> Change:
        reference = entry.manifest.reference
        if entry.action is Action.SKIPPED:
            self._skip(entry.manifest, self._target.look(reference, None).live, entry.reason)
        elif entry.reason:
            self._scope.note(f"{reference}: {entry.reason}")
        return Change(reference, entry.action, reason=entry.reason)

    def _skip(self, manifest: Manifest, live: LiveObject | None, reason: str) -> None:
        """Remember the object as left alone, so that the end of the reason wakes us."""
        self._scope.note(f"{manifest.reference} skipped: {reason}")
        version = live.metadata.resource_version if live is not None else ""
        record = Record(manifest.digest, self._target.signature.digest(live), version, skipped=True)
        self._records.put(manifest.reference, record)
        subscribe(self._scope, manifest.reference, record, self._target.signature)

    # -- writes ----------------------------------------------------------------------------------------------------

    async def _act(self, checked: Checked) -> Change:
        """Do what the dry-run has told. Raises CheckFailed."""
        manifest, reference = checked.entry.manifest, checked.entry.manifest.reference
        if checked.step is Step.SKIP:
            self._skip(manifest, checked.live, checked.reason)
            return Change(reference, Action.SKIPPED, reason=checked.reason)
        self.reached.add(reference)
        if checked.step is Step.COMPARE and checked.live is not None:
            self._remember(manifest, checked.live)
            return Change(reference, Action.UNCHANGED, checked.live.metadata, checked.reason)
        try:
            rival = await self._rival(checked)
            with self._own_write(reference):
                if checked.step is Step.TAKE_OVER:
                    await self._take_over(manifest, checked.resource)
                await failpoint_async("apply-before-write")
                live, created = await send(self._target, manifest, checked.resource, dry_run=False)
                await failpoint_async("apply-after-write")
        except KubeError as error:
            raise CheckFailed(apply_failure(manifest, error)) from error
        self._remember(manifest, live)
        return self._change(checked, live, rival, created=created)

    @contextlib.contextmanager
    def _own_write(self, reference: Reference) -> Iterator[None]:
        """Events of what is written inside may come before the answer; they must not wake the object."""
        record = self._records.records.get(reference)
        if record is not None:
            disregard(self._scope, reference, self._target.signature)
        try:
            yield
        except BaseException:
            if record is not None:
                subscribe(self._scope, reference, record, self._target.signature)
            raise

    async def _rival(self, checked: Checked) -> str:
        """Who changes the object again and again, where somebody does; empty otherwise."""
        manifest = checked.entry.manifest
        if checked.entry.reason != DRIFTED or not self._rivalry.fighting(manifest.reference):
            return ""
        live = await get(self._target, manifest, checked.resource)
        if live is None:
            return ""
        return other_owner(live.metadata, manifest.labels or {}) or last_manager(live)

    def _change(self, checked: Checked, live: LiveObject, rival: str, *, created: bool) -> Change:
        reference, version = checked.entry.manifest.reference, live.metadata.resource_version
        written = Action.CREATED if created else Action.CONFIGURED
        action = Action.UNCHANGED if version == checked.version else written
        if action is not Action.UNCHANGED:
            self._scope.note(f"{reference} {action.value}: {checked.reason}")
            if checked.entry.reason == DRIFTED:
                self._rivalry.corrected(reference)
        return Change(reference, action, live.metadata, f"{FOUGHT}'{rival}'" if rival else checked.reason)

    def _remember(self, manifest: Manifest, live: LiveObject) -> None:
        """Subscribe to the object as it is now, before any watch hears of it: our own write is no news."""
        record = Record(
            manifest.digest, self._target.signature.digest(live), live.metadata.resource_version,
            vanishes=vanishes(manifest),
        )
        self._records.put(manifest.reference, record)
        subscribe(self._scope, manifest.reference, record, self._target.signature)
        self._target.observe(live)
        self.answers[manifest.reference] = live

    async def _take_over(self, manifest: Manifest, resource: Resource) -> None:
        """Make the fields of kubectl and of older managers ours (spec section 4.4)."""
        live = await get(self._target, manifest, resource)
        patch = take_over_patch(live, manifest.api_version, self._target.overridden) if live is not None else b""
        if patch:
            await self._target.client.patch(
                resource, manifest.reference.namespace, manifest.reference.name, patch,
                content_type=JSON_PATCH, field_manager=FIELD_MANAGER,
            )

    async def _migrate(self, manifest: Manifest, resource: Resource) -> None:
        """Have every managedFields entry say our API version, whoever's it is: one that names an older version makes
        an apply fail when the newer one has defaults for fields that the older one does not know (KS-APPLY-22)."""
        live = await get(self._target, manifest, resource)
        if live is None or skipped(manifest, live):
            return
        if patch := migration_patch(live, manifest.api_version):
            reference = manifest.reference
            with self._own_write(reference):
                await self._target.client.patch(
                    resource, reference.namespace, reference.name, patch,
                    content_type=JSON_PATCH, field_manager=FIELD_MANAGER,
                )
            self._scope.note(f"{reference}: managedFields migrated to {manifest.api_version}")

    # -- force -----------------------------------------------------------------------------------------------------

    async def _recreate(self, manifest: Manifest, resource: Resource, live: LiveObject) -> None:
        """Delete a live object that cannot be changed, and wait until it is gone (KS-FORCE-01..05)."""
        self._scope.note(f"{manifest.reference} is recreated: force")
        meta, reference = live.metadata, manifest.reference
        self._records.drop([reference])
        disregard(self._scope, reference, self._target.signature)
        await self._target.client.delete(resource, reference.namespace, reference.name, uid=meta.uid)
        await self._scope.wait(
            self._gone(manifest, resource, meta.uid), on=(reference,), note=f"termination of {reference}"
        )

    async def _gone(self, manifest: Manifest, resource: Resource, uid: str) -> None:
        pause, longest = TERMINATION_LOOKS
        while (live := await get(self._target, manifest, resource)) is not None and live.metadata.uid == uid:
            await self._target.clock.sleep(pause)
            pause = min(pause * 2, longest)


def subscribe(scope: Scope, reference: Reference, record: Record, signature: Part) -> None:
    """Be woken when a delivered object is not any more as it was left. One that goes away by itself is made anew at
    the next interval, as upstream does, and not as soon as it is gone: a Job would run in a loop."""
    if not record.vanishes:
        scope.record(Read(reference, signature.name, record.signature, record.resource_version))


UNTIL_TOLD = str(2**63 - 1)
"""A resourceVersion that no event is newer than."""


def disregard(scope: Scope, reference: Reference, signature: Part) -> None:
    """Be woken by nothing that happens to the object until it is subscribed to anew: it is about to be our doing."""
    scope.record(Read(reference, signature.name, ABSENT, UNTIL_TOLD))


class _Job(msgspec.Struct, frozen=True, gc=False):
    spec: dict[str, object] = {}


def vanishes(manifest: Manifest) -> bool:
    """Whether the object is removed by the cluster when it is done (KS-HC-07)."""
    if manifest.reference.group_kind != ("batch", "Job"):
        return False
    return msgspec.json.decode(manifest.body, type=_Job).spec.get("ttlSecondsAfterFinished") is not None
