"""Checking: ask the cluster by dry-run what an apply of one object would do, and decide. It writes nothing.

The applier acts on what comes out; plan, diff and adopt print it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from headrace.apply import control, decision, guard, ignore
from headrace.apply.decision import Step
from headrace.apply.guard import Guard
from headrace.apply.ignore import IgnoreRules, Path
from headrace.apply.messages import ObjectFailure, dry_run_failure, namespace_missing, refusal
from headrace.apply.planner import skipped
from headrace.apply.signature import FIELD_MANAGER
from headrace.apply.target import Target
from headrace.kube.errors import ApiError, KubeError, NotFound
from headrace.kube.resource import Resource
from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject
from headrace.model.plan import PlanEntry

Recreate = Callable[[Manifest, Resource, LiveObject], Awaitable[None]]
"""Deletes a live object that cannot be changed, and returns when it is gone."""

Migrate = Callable[[Manifest, Resource], Awaitable[None]]
"""Rewrites the API versions of a live object's managedFields, where there is one and they differ."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A plan entry whose dry-run has told what to do."""

    entry: PlanEntry
    resource: Resource
    step: Step
    reason: str
    live: LiveObject | None = None
    """What the cluster holds, where it was read."""
    answer: LiveObject | None = None
    """What the cluster would hold; None where the dry-run tells nothing of it."""
    version: str = ""
    """The resourceVersion that an apply without effect will answer with; empty for an object that does not exist."""


class CheckFailed(Exception):
    """Carries the failure of one object out of its task; the others go on."""

    def __init__(self, failure: ObjectFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Checker:
    """Checks the objects of one run. `force` is the Kustomization's; without `recreate` nothing is ever deleted, and
    what would have to be is told as Step.RECREATE; without `migrate` no managedFields are rewritten.
    `ignored` are the fields that are left as they are found."""

    def __init__(
        self, target: Target, *, force: bool = False, recreate: Recreate | None = None,
        migrate: Migrate | None = None,
        ignored: IgnoreRules = ignore.NOTHING, guard: Guard = guard.OFF,
    ) -> None:
        self._target = target
        self._guard = guard
        self._force = force
        self._recreate = recreate
        self._migrate = migrate
        self._ignored = ignored

    async def check(self, entry: PlanEntry) -> Checked:
        """What an apply would do. Raises CheckFailed."""
        manifest = entry.manifest
        try:
            resource = await self._target.resource(manifest.reference.group_kind, manifest.version)
            if resource.namespaced and not manifest.reference.namespace:
                raise CheckFailed(namespace_missing(manifest))
            await self._refuse(manifest, resource)
            return await self._check(entry, resource)
        except _MustRecreate as must:
            return Checked(entry, must.resource, Step.RECREATE, "a field is immutable: force", must.live)
        except KubeError as error:
            raise CheckFailed(dry_run_failure(manifest, error)) from error

    async def _refuse(self, manifest: Manifest, resource: Resource) -> None:
        """Raises CheckFailed for what strict tenancy does not apply. Who holds the object is read now, as the tenant:
        a forced dry-run would answer with our own labels."""
        impersonated = self._target.client.config.impersonation is not None
        if reason := self._guard.token_refused(manifest, impersonated=impersonated):
            raise CheckFailed(refusal(manifest, reason))
        if not self._guard.ownership:
            return
        live = await get(self._target, manifest, resource, metadata_only=True)
        if live is not None and (reason := self._guard.conflict(manifest, live.metadata)):
            raise CheckFailed(refusal(manifest, reason))

    async def _check(self, entry: PlanEntry, resource: Resource) -> Checked:
        live = await self._steered(entry.manifest, resource)
        if self._migrate is not None:
            await self._migrate(entry.manifest, resource)
        answer, created = await self._dry_run(entry.manifest, resource)
        step, reason = decision.after_dry_run(
            entry, answer, created=created, live=live, overridden=self._target.overridden
        )
        paths = self._ignored.paths(entry.manifest)
        if paths and not created and step is not Step.SKIP:
            return await self._around(paths, entry, resource, answer, step)
        if step is Step.COMPARE:
            return await self._compare(entry, resource, answer)
        version = "" if created else answer.metadata.resource_version
        return Checked(entry, resource, step, reason, live, answer, version)

    async def _steered(self, manifest: Manifest, resource: Resource) -> LiveObject | None:
        """The live object where its own control annotations count and the dry-run's answer would hide them."""
        known = self._target.look(manifest.reference, None)
        if known.live is not None or known.watched or not control.steers(manifest):
            return known.live
        return await get(self._target, manifest, resource)

    async def _dry_run(self, manifest: Manifest, resource: Resource) -> tuple[LiveObject, bool]:
        try:
            return await send(self._target, manifest, resource, dry_run=True)
        except ApiError as error:
            if not decision.is_immutable(error.status, error.reason, str(error)):
                raise
            live = await self._forced(manifest, resource)
            if live is None:
                raise
        if self._recreate is None:
            raise _MustRecreate(resource, live)
        await self._recreate(manifest, resource, live)
        return await send(self._target, manifest, resource, dry_run=True)

    async def _forced(self, manifest: Manifest, resource: Resource) -> LiveObject | None:
        """The live object that may be deleted to be made anew, where that was asked for (KS-FORCE-01..05)."""
        live = await get(self._target, manifest, resource)
        if live is None or not (self._force or control.forced(manifest) or control.forced(live.metadata)):
            return None
        if reason := self._guard.recreation_refused(manifest, live.metadata):
            raise CheckFailed(refusal(manifest, reason))
        return live

    async def _compare(self, entry: PlanEntry, resource: Resource, answer: LiveObject) -> Checked:
        """Nothing is known of the object: look at it, and leave it when the dry-run changed nothing (KS-APPLY-07).

        What is ours is compared too: a field that somebody else owns now has its value still, but the next apply
        without it would not remove it any more.
        """
        live = await get(self._target, entry.manifest, resource)
        if live is None:
            return Checked(entry, resource, Step.APPLY, "does not exist any more", None, answer)
        if reason := skipped(entry.manifest, live):
            return Checked(entry, resource, Step.SKIP, reason, live, answer)
        step, reason = decision.after_compare(live, answer)
        return Checked(entry, resource, step, reason, live, answer, live.metadata.resource_version)

    async def _around(
        self, paths: tuple[Path, ...], entry: PlanEntry, resource: Resource, answer: LiveObject, step: Step
    ) -> Checked:
        """An object with ignored fields: left when nothing else differs, else applied around them (KS-IGN-01..03)."""
        live = await get(self._target, entry.manifest, resource)
        if live is None:
            return Checked(entry, resource, Step.APPLY, "does not exist any more", None, answer)
        if reason := skipped(entry.manifest, live):
            return Checked(entry, resource, Step.SKIP, reason, live, answer)
        version = live.metadata.resource_version
        if step is not Step.TAKE_OVER and not ignore.drifted(live.content(), answer.content(), paths):
            return Checked(entry, resource, Step.COMPARE, "as wanted but for ignored fields", live, answer, version)
        adapted = PlanEntry(ignore.adapted(entry.manifest, live, answer, paths), entry.action, entry.reason)
        step = step if step is Step.TAKE_OVER else Step.APPLY
        return Checked(adapted, resource, step, entry.reason, live, answer, version)


async def send(target: Target, manifest: Manifest, resource: Resource, *, dry_run: bool) -> tuple[LiveObject, bool]:
    """Server-side apply of one object: what the cluster holds then, and whether it was created. Raises KubeError."""
    reference = manifest.reference
    applied = await target.client.apply(
        resource, reference.namespace, reference.name, manifest.body,
        field_manager=FIELD_MANAGER, force=True, dry_run=dry_run,
    )
    return applied.live, applied.created


async def get(
    target: Target, manifest: Manifest, resource: Resource, *, metadata_only: bool = False
) -> LiveObject | None:
    """The object as the cluster holds it; None when it does not exist. Raises KubeError."""
    namespace, name = manifest.reference.namespace, manifest.reference.name
    try:
        return await target.client.get(resource, namespace, name, metadata_only=metadata_only)
    except NotFound:
        return None


class _MustRecreate(Exception):
    def __init__(self, resource: Resource, live: LiveObject) -> None:
        super().__init__()
        self.resource = resource
        self.live = live
