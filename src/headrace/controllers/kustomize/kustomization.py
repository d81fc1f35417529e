"""Kustomization: delivers a directory of a source with Kustomize and keeps it there (spec: kustomization.md).

Thin on purpose: reads, renders and delivers through the stages. What is said in which words is upstream's.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from headrace import __version__
from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import HealthCheck, Inventory, Kustomization, KustomizationSpec
from headrace.api.meta import APPROVE, COMMIT_STATUS, FINALIZER, KUSTOMIZE_GROUP, PRUNE_BUDGET, READY, UPDATE
from headrace.apply import control
from headrace.apply.applied import AppliedStore, LastDelivery, OwnerRecords
from headrace.apply.applier import FOUGHT, ApplyOptions
from headrace.apply.budget import PruneBudget, limit_of
from headrace.apply.delivery import Delivered, Deliverer, DeliveryOptions, PruneError
from headrace.apply.expressions import CONTENT, Cel, HealthRules, InvalidExpression
from headrace.apply.guard import OFF, Guard
from headrace.apply.health import HEALTH
from headrace.apply.ignore import IgnoreRules
from headrace.apply.inventory import Entries, readable
from headrace.apply.messages import RECONCILIATION_FAILED
from headrace.apply.prune import PRUNE_FAILED, Handover, prune
from headrace.apply.rivalry import Rivalry
from headrace.apply.target import Target
from headrace.apply.waiter import Checked, HealthWait, Unhealthy, wait_gone
from headrace.controllers.cloud_clusters import ClusterIssuers, cloud_providers
from headrace.controllers.consumers import Consumers
from headrace.controllers.kustomize.attempt import SUCCEEDED, Attempt, inventory_status, revision_annotations
from headrace.controllers.kustomize.coherence import Coherence
from headrace.controllers.kustomize.decryption import DecryptionPolicy, KeyReader, check_decryption, keep_secret
from headrace.controllers.kustomize.dependencies import INVALID_EXPRESSION, TERMINAL, Dependencies
from headrace.controllers.kustomize.handover import Handovers
from headrace.controllers.kustomize.key_identities import Issuers, KeyIdentities
from headrace.controllers.kustomize.neighbours import Neighbours
from headrace.controllers.kustomize.targets import TargetPolicy, Targets
from headrace.controllers.kustomize.teardown import Teardown
from headrace.controllers.kustomize.variables import Variables, read_variables
from headrace.controllers.sources.artifact import SourcePolicy, Sources
from headrace.core.backoff import Backoff
from headrace.core.clock import Clock
from headrace.core.duration import format_duration, parse_duration
from headrace.kube.cluster import Clusters
from headrace.kube.errors import NoMatch, NotFound
from headrace.kube.tokens import ServiceAccountTokens
from headrace.model.artifact import Artifact, Tree
from headrace.model.errors import Retry, Stalled
from headrace.model.manifests import Manifests
from headrace.model.outcome import Condition, Outcome
from headrace.model.plan import Action, ChangeSet
from headrace.model.read import Part, Read
from headrace.model.reference import REMOTE, Reference, split_api_version
from headrace.model.scope import Scope
from headrace.render.kustomize import Builder, DecryptionKeys, IdentityWanted, RenderOptions, render
from headrace.render.reads import changed_read
from headrace.toolbox import ToolboxError

log = logging.getLogger(__name__)

HEALTHY = "Healthy"
HEALTH_CHECK_FAILED = "HealthCheckFailed"
PROGRESSING = "Progressing"

SHORTEST_TIMEOUT = 30.0
"""Seconds: the floor of spec.timeout, explicit values included (KS-SPEC-05)."""

RUN_LIMIT = 900.0
"""Seconds that a run may take besides its own timeout: stages that wait, builds, a slow API server."""


class Trees(Protocol):
    """Opens artifacts."""

    def open(self, artifact: Artifact) -> AbstractAsyncContextManager[Tree]:
        """The files of an artifact for as long as the context is open. Raises Retry(ArtifactFailed)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KustomizationOptions:
    """What operators decide about Kustomizations (upstream's flags and gates)."""

    sources: SourcePolicy = field(default_factory=SourcePolicy)
    targets: TargetPolicy = field(default_factory=TargetPolicy)
    concurrent_ssa: int = 4
    custom_stages: tuple[str, ...] = ()
    strict_substitutions: bool = True
    scalar_substitutions: bool = False
    """Variables are put into scalars only: a value that changes the structure of an object is an error (SEC-44)."""
    no_remote_bases: bool = False
    fail_fast: bool = True
    additive_ready_expressions: bool = False
    """A readyExpr adds to the built-in test of a dependency (gate AdditiveCELDependencyCheck, off upstream)."""
    decryption: DecryptionPolicy = field(default_factory=DecryptionPolicy)
    guard: Guard = OFF
    """What strict tenancy refuses of single objects."""
    migrate_api_version: bool = False
    """Rewrite the API versions of managedFields before an apply (gate MigrateAPIVersion, off upstream)."""
    prune_budget: int = -1
    """Objects that one run may delete without approval; negative for any number, as Flux."""
    prune_protected: tuple[str, ...] = ("CustomResourceDefinition", "Namespace", "PersistentVolumeClaim")
    """Kinds of which none is deleted without approval, where there is a budget."""


class Tools(Builder, Cel, Protocol):
    """What is needed of the toolbox."""


class CloudIssuers(Issuers, ClusterIssuers, Protocol):
    """What is needed of identities at clouds."""


class KustomizationController:
    """Reconciles Kustomizations; implements `engine.controller.Controller`."""

    kind = KUSTOMIZATION
    finalizer = FINALIZER

    def __init__(
        self, *, clusters: Clusters, toolbox: Tools, trees: Trees, store: AppliedStore, clock: Clock,
        consumers: Consumers | None = None, options: KustomizationOptions | None = None,
        tokens: ServiceAccountTokens | None = None, issuers: CloudIssuers | None = None,
    ) -> None:
        """`tokens` are those with which accounts that objects name prove themselves elsewhere, `issuers` give
        identities at clouds, for their key services and clusters; without, there are none."""
        self._toolbox = toolbox
        self._trees = trees
        self._store = store
        self._clock = clock
        self._consumers = consumers or Consumers()
        self._options = options or KustomizationOptions()
        self._sources = Sources(self._options.sources)
        self._coherence = Coherence()
        additive = self._options.additive_ready_expressions
        self._dependencies = Dependencies(
            toolbox, self._options.sources.requeue, additive=additive, coherence=self._coherence)
        neighbours = Neighbours(clusters)
        self._handovers = Handovers(neighbours, store, trees, clock)
        self._teardown = Teardown(neighbours, clock)
        self._keys = KeyReader(self._options.decryption, tokens)
        self._key_identities = KeyIdentities(self._options.decryption, issuers)
        self._targets = Targets(clusters, self._options.targets, clock, tokens, cloud_providers(issuers))
        self._rivalry = Rivalry(clock, Backoff(minimum=1.0))

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self._targets.signature, HEALTH, CONTENT)

    def timeout(self, obj: Kustomization) -> float:
        return RUN_LIMIT + timeout(obj.spec)

    def suspended(self, obj: Kustomization) -> bool:
        return obj.spec.suspend

    def retry_interval(self, obj: Kustomization) -> float:
        return parse_duration(obj.spec.retry_interval or obj.spec.interval)

    # -- reconcile -------------------------------------------------------------------------------------------------

    async def reconcile(self, obj: Kustomization, scope: Scope) -> Outcome:
        """See the module. Reasons raised: ArtifactFailed, AccessDenied, DependencyNotReady, BuildFailed,
        ReconciliationFailed, PruneFailed, HealthCheckFailed, InvalidCELExpression."""
        rules = await health_rules(obj.spec, self._toolbox)
        check_decryption(obj.spec, self._options.decryption)
        namespace, retry = obj.metadata.namespace, self.retry_interval(obj)
        artifact = await self._sources.artifact(obj.spec.source_ref, namespace, retry, scope)
        attempt = Attempt(obj, artifact, self._clock)
        with attempt.told():
            await self._dependencies.require(obj, artifact, scope)
        with attempt.recorded():
            target = await self._targets.open(obj.spec.kube_config, obj.spec.service_account_name, scope)
            attempt.cluster = target.name
            records = await self._store.owner(obj.metadata.uid)
            run = _Run(self, obj, scope, attempt, target, records, rules=rules)
            try:
                delivered = await run.deliver()
            except Exception:
                run.leave_as_is()
                raise
            finally:
                await self._store.save(records)
            try:
                healthy = await run.check_health(delivered)
            except Exception:
                run.tell_changes(delivered.changes)
                raise
            return run.outcome(delivered, healthy)

    # -- deletion --------------------------------------------------------------------------------------------------

    async def finalize(self, obj: Kustomization, scope: Scope) -> None:
        """Delete what was delivered, as the deletion policy says (spec section 3.5, KS-FIN-01..05).

        Raises Retry(PruneFailed) as long as something that must be deleted is not, and Waiting for what has to come
        first: dependents that are deleted as well, a new owner of the objects.
        """
        await self._teardown.await_turn(obj, scope)
        owned = _owned(obj)
        if owned and deletes(obj.spec):
            if await self._targets.account_exists(obj.spec.service_account_name, scope):
                await self._delete(obj, owned, scope)
            else:
                self._leave(obj, owned, scope)
        self._consumers.forget(scope.live.reference)
        await self._store.forget(obj.metadata.uid)
        self._handovers.forget(obj.metadata.uid)
        self._coherence.forget(obj.metadata.uid)
        self._targets.release(scope)

    def _leave(self, ks: Kustomization, owned: Entries, scope: Scope) -> None:
        """Say which objects nobody can delete in their owner's name, and so stay."""
        said = "unable to prune objects: the service account to impersonate does not exist"
        log.warning(said, extra={"object": str(scope.live.reference), "objects": len(owned)})
        left = (str(reference) for _, reference in readable(owned))
        scope.event(PRUNE_FAILED, "\n".join((said, *left)), warning=True, annotations=_applied(ks))

    async def _delete(self, ks: Kustomization, owned: Entries, scope: Scope) -> None:
        target = await self._targets.open(ks.spec.kube_config, ks.spec.service_account_name, scope)
        claims = await self._handovers.for_deletion(ks, scope)
        pruned = await prune(
            target, owned, owner_labels(ks), concurrent=self._options.concurrent_ssa, claims=claims
        )
        if error := pruned.error():
            if ks.spec.deletion_policy != "WaitForTermination":
                # What is gone is not looked for again: its kind may go with it, and nobody could tell any more.
                await scope.record_inventory(pruned.kept)
            error.annotations = _applied(ks)
            raise error
        for entry in pruned.claimed:
            await self._handovers.await_claimant(ks, claims[entry.id], scope)
        if pruned.changes.effective:
            text = "\n".join(map(str, pruned.changes.effective))
            scope.event(SUCCEEDED, text, annotations=_applied(ks))
        deleted = [change.reference for change in pruned.changes.changes if change.action is Action.DELETED]
        if ks.spec.deletion_policy == "WaitForTermination" and deleted:
            gone = wait_gone(target, deleted, lambda reference: _exists(target, reference), timeout(ks.spec))
            left = await scope.wait(gone, on=deleted, note="termination of deleted objects")
            if left:
                text = f"failed to wait for resources termination: {', '.join(map(str, left))}"
                scope.event(PRUNE_FAILED, text, warning=True, annotations=_applied(ks))


class _Run:
    """One run over one artifact: the middle of the sentence, from the tree to the outcome."""

    def __init__(
        self, controller: KustomizationController, ks: Kustomization, scope: Scope, attempt: Attempt, target: Target,
        records: OwnerRecords, *, rules: HealthRules | None,
    ) -> None:
        self._controller = controller
        self._options = controller._options
        self._ks = ks
        self._scope = scope
        self._attempt = attempt
        self._artifact = attempt.artifact
        self._target = target
        self._records = records
        self._rules = rules
        self._deliverer = Deliverer(target, records, controller._rivalry, scope, self._delivery_options())

    def _delivery_options(self) -> DeliveryOptions:
        return DeliveryOptions(
            labels=owner_labels(self._ks),
            prune=self._ks.spec.prune,
            apply=ApplyOptions(
                force=self._ks.spec.force, concurrent=self._options.concurrent_ssa, ignored=ignored(self._ks.spec),
                migrate=self._options.migrate_api_version,
                guard=self._options.guard,
            ),
            custom_stages=self._options.custom_stages,
            handover=self._handover,
            budget=prune_budget(self._ks, self._options, self._artifact.revision),
            listed=lambda: self._controller._handovers.listed(self._ks, self._artifact),
        )

    async def _handover(self, stale: Entries) -> Handover:
        return await self._controller._handovers.look(self._ks, self._artifact, stale, self._scope)

    # -- deliver ---------------------------------------------------------------------------------------------------

    async def deliver(self) -> Delivered:
        """Bring the cluster to what the artifact says; asks nothing and nobody when nothing has changed."""
        variables = await read_variables(self._ks, self._scope)
        keys = await self._controller._keys.read(self._ks.spec.decryption, self._scope)
        inputs = self._inputs(variables, keys)
        if await self._is_current(inputs):
            self._scope.note("nothing that was read has changed, and nothing that was delivered")
            self._remember()
            return Delivered(ChangeSet(), _owned(self._ks))
        manifests = await self._render(variables, keys)
        self._attempt.digest = manifests.digest
        await self._say("Detecting drift")
        self._records.delivered(None)
        self._controller._consumers.forget(self._scope.live.reference)
        try:
            with self._scope.step("apply"):
                delivered = await self._deliverer.deliver(manifests, _owned(self._ks))
        except PruneError as failure:
            await self._scope.read(self._scope.live.reference, APPROVAL)
            failure.error.status = {"inventory": inventory_status(failure.delivered.inventory)}
            self.tell_changes(failure.delivered.changes)
            raise failure.error from failure
        if not manifests.remote and delivered.delayed is None:
            self._records.delivered(LastDelivery(inputs, self._artifact.digest, manifests.digest, manifests.reads))
            self._remember()
        return delivered

    def _remember(self) -> None:
        """Have the source know what would concern this delivery."""
        if self._records.delivery is not None:
            self._controller._consumers.delivered(self._scope.live.reference, self._records.delivery.reads)

    def leave_as_is(self) -> None:
        """The delivery has failed; see Deliverer."""
        self._deliverer.leave_as_is()

    async def _is_current(self, inputs: str) -> bool:
        """Whether the last delivery is still what is wanted and what there is (skip)."""
        last = self._records.delivery
        undisturbed = await self._deliverer.undisturbed(_owned(self._ks))
        if last is None or last.inputs != inputs or not undisturbed:
            return False
        if last.artifact != self._artifact.digest:
            async with self._controller._trees.open(self._artifact) as tree:
                changed = await asyncio.to_thread(changed_read, last.reads, tree)
            if changed is not None:
                self._scope.note(f"{changed.path or '.'} has changed")
                return False
            same = msgspec.structs.replace(last, artifact=self._artifact.digest)
            self._records.delivered(same)
        self._attempt.digest = last.manifests
        return True

    async def _render(self, variables: Variables, keys: DecryptionKeys | None) -> Manifests:
        await self._say("Fetching manifests")
        manifests = await self._build(variables, keys)
        if keys is not None:
            keep_secret(manifests.items)
        return manifests

    async def _build(self, variables: Variables, keys: DecryptionKeys | None) -> Manifests:
        """Each build that fails for want of an identity at a key service is made again with it."""
        while True:
            try:
                return await self._built(variables, keys)
            except IdentityWanted as failure:
                if keys is None or self._ks.spec.decryption is None:
                    raise
                keys = await self._controller._key_identities.lend(
                    keys, failure, self._ks.spec.decryption, self._scope)

    async def _built(self, variables: Variables, keys: DecryptionKeys | None) -> Manifests:
        async with self._controller._trees.open(self._artifact) as tree:
            await self._say("Building manifests")
            with self._scope.step("build"):
                try:
                    return await render(
                        self._controller._toolbox, tree, self._ks, variables.values, self._render_options(keys)
                    )
                except Retry as error:
                    error.message = variables.masked(error.message)
                    raise

    def _render_options(self, keys: DecryptionKeys | None) -> RenderOptions:
        return RenderOptions(
            labels=owner_labels(self._ks), cluster=self._target.name, strict=self._options.strict_substitutions,
            scalars=self._options.scalar_substitutions, allow_remote=not self._options.no_remote_bases, keys=keys,
        )

    def _inputs(self, variables: Variables, keys: DecryptionKeys | None) -> str:
        """Digest of everything but the tree that the delivered objects depend on. Of Secrets only the version goes
        in, so that the digest tells nothing of their values."""
        spec = msgspec.structs.replace(
            self._ks.spec, interval="", retry_interval="", timeout="", depends_on=(), wait=False, health_checks=(),
            health_check_exprs=(),
            prune=False, deletion_policy="", suspend=False,
        )
        options = self._options
        policy = [__version__, options.strict_substitutions, options.scalar_substitutions, options.no_remote_bases]
        versions = [*variables.versions, "" if keys is None else keys.version]
        told = [msgspec.json.encode(spec).decode(), versions, self._target.name, policy]
        return hashlib.blake2b(msgspec.json.encode(told), digest_size=16).hexdigest()

    async def _say(self, doing: str) -> None:
        await self._scope.progress(PROGRESSING, self._doing(doing))

    def _doing(self, doing: str) -> str:
        limit = format_duration(timeout(self._ks.spec))
        return f"{doing} for revision {self._artifact.revision} with a timeout of {limit}"

    # -- health ----------------------------------------------------------------------------------------------------

    async def check_health(self, delivered: Delivered) -> Condition | None:
        """Wait until what is to be checked is healthy; None when there is nothing (KS-REC-15).

        Raises Retry(HealthCheckFailed), Superseded.
        """
        checked = await self._checked(delivered)
        if not checked:
            return None
        since = self._controller._clock.monotonic()
        wait = HealthWait(
            self._target, checked, delivered.answers, rules=self._rules, fail_fast=self._options.fail_fast
        )
        try:
            await self._wait(wait)
        except Unhealthy as error:
            self._explain(wait)
            passed = format_duration(round(self._controller._clock.monotonic() - since, 3))
            text = f"health check failed after {passed}: {error.text}"
            raise Retry(HEALTH_CHECK_FAILED, text, condition=HEALTHY, objects=error.objects) from error
        return self._still_healthy(delivered) or _passed(self._controller._clock.monotonic() - since)

    def _still_healthy(self, delivered: Delivered) -> Condition | None:
        """The condition as it is, where nothing has changed: how long it took this time is not worth a write."""
        known = next((c for c in self._ks.status.conditions if c.type == HEALTHY and c.status == "True"), None)
        if known is None or delivered.changes.effective:
            return None
        return Condition(known.type, known.status, known.reason, known.message)

    def _explain(self, wait: HealthWait) -> None:
        """Tell why, and be woken when one of the objects gets better or worse."""
        for reason in wait.reasons():
            self._scope.note(reason)
        for reference in wait.open:
            live = self._target.whole(reference)
            version = live.metadata.resource_version if live is not None else ""
            part = CONTENT if self._rules is not None and self._rules.covers(reference) else HEALTH
            self._scope.record(Read(reference, part.name, part.digest(live), version))

    async def _wait(self, wait: HealthWait) -> None:
        limit = timeout(self._ks.spec)
        if wait.open:
            text = self._doing("Running health checks")
            await self._scope.progress(PROGRESSING, text, [Condition(HEALTHY, "Unknown", PROGRESSING, text)])
            await self._scope.wait(wait.wait(limit), on=wait.open, note="health")
        else:
            await wait.wait(limit)

    async def _checked(self, delivered: Delivered) -> list[Checked]:
        """`wait` means everything that was delivered, else spec.healthChecks (KS-HC-02); never the object itself."""
        myself = self._scope.live.reference
        if self._ks.spec.wait:
            records = self._records.records
            return [self._deliverer.check(r) for r, record in records.items() if not record.skipped and r != myself]
        checked = [await self._named(check) for check in self._ks.spec.health_checks]
        return [check for check in checked if check.reference != myself]

    async def _named(self, check: HealthCheck) -> Checked:
        group, _ = split_api_version(check.api_version or "apps/v1")
        reference = Reference(group, check.kind, check.namespace, check.name, self._target.name)
        try:
            resource = await self._target.resource(reference.group_kind, "")
        except NoMatch:
            return Checked(reference, owned=False)  # may come; until then it is unknown
        if resource.namespaced and not check.namespace:
            raise Retry(HEALTH_CHECK_FAILED, f"health check of {reference}: namespace not specified", condition=HEALTHY)
        scoped = reference if resource.namespaced else Reference(group, check.kind, "", check.name, self._target.name)
        known = scoped in self._records.records
        return self._deliverer.check(scoped) if known else Checked(scoped, owned=False)

    # -- outcome ---------------------------------------------------------------------------------------------------

    def outcome(self, delivered: Delivered, healthy: Condition | None) -> Outcome:
        """Ready, with one event that says what was done, where there is something to say."""
        interval = parse_duration(self._ks.spec.interval)
        self._controller._coherence.handled(self._ks.metadata.uid, self._artifact.revision)
        after = interval if delivered.due is None else min(interval, delivered.due)
        event = self._event(delivered, healthy)
        passed = format_duration(round(self._attempt.duration, 3))
        finished = f"Reconciliation finished in {passed}, next run in {format_duration(after)}"
        alone = not event and self._is_caused_by("requested")
        return Outcome(
            reason=SUCCEEDED,
            message=f"Applied revision: {self._artifact.revision}",
            status=self._attempt.succeeded(delivered.inventory, counts=self._counts(delivered)),
            conditions=() if healthy is None else (healthy,),
            remove=() if healthy is not None else (HEALTHY,),
            event=finished if alone else event,
            event_annotations=self._attempt.event_annotations() | (MARK if alone else {}),
            announcement=finished if not alone and self._is_worth_telling(delivered) else "",
            revision=self._artifact.revision,
            after=after,
            jitter=delivered.due is None,
        )

    def _counts(self, delivered: Delivered) -> bool:
        """Whether the run was one of the object's. An engine that starts looks at everything, and writes nothing."""
        return not self._is_known(delivered) or any(
            cause.what != "started" and not (cause.reference and cause.reference.cluster == REMOTE)
            for cause in self._scope.causes
        )

    def _is_known(self, delivered: Delivered) -> bool:
        """Whether the status says already what this run has come to."""
        was_ready = any(c.type == READY and c.status == "True" for c in self._ks.status.conditions)
        same = self._ks.status.last_applied_revision == self._artifact.revision
        return was_ready and same and not delivered.changes.effective

    def _is_worth_telling(self, delivered: Delivered) -> bool:
        """Whether those who mark commits are told: of what is new, and again at each interval, for what was lost."""
        return not self._is_known(delivered) or self._is_caused_by("interval", "requested")

    def _is_caused_by(self, *what: str) -> bool:
        return any(cause.what in what for cause in self._scope.causes)

    def tell_changes(self, changes: ChangeSet) -> None:
        """What was done by a run that fails, or is cut short, afterwards: its one event does not say it."""
        if lines := _lines(changes):
            self._scope.event(PROGRESSING, "\n".join(lines), annotations=self._attempt.event_annotations())

    def _event(self, delivered: Delivered, healthy: Condition | None) -> str:
        lines = _lines(delivered.changes)
        lines += [f"{kind[1]} objects are not watched: {why}" for kind, why in self._target.unwatched.items() if lines]
        if healthy is not None and (self._was_unhealthy() or self._is_rollout(delivered)):
            lines.append(healthy.message)
        return "\n".join(lines)

    def _was_unhealthy(self) -> bool:
        return not any(c.type == HEALTHY and c.status == "True" for c in self._ks.status.conditions)

    def _is_rollout(self, delivered: Delivered) -> bool:
        new = self._ks.status.last_applied_revision != self._artifact.revision
        return new and bool(delivered.changes.effective)


# -- pure views of an object -------------------------------------------------------------------------------------------


MARK = {f"{KUSTOMIZE_GROUP}/{COMMIT_STATUS}": UPDATE}
"""On what is told of a success to those who mark commits, and on nothing else: such events reach nobody besides."""


def _lines(changes: ChangeSet) -> list[str]:
    """What is said of the changes of a run, in which a rival is named."""
    return [
        f"{change} ({change.reason})" if change.reason.startswith(FOUGHT) else str(change)
        for change in changes.effective
    ]


def _applied(ks: Kustomization) -> dict[str, str]:
    """Annotations of what is said when an object goes: they name what it had delivered."""
    return revision_annotations(ks.status.last_applied_revision, ks.status.last_applied_origin_revision)


def _passed(seconds: float) -> Condition:
    return Condition(HEALTHY, "True", "Succeeded", f"Health check passed in {format_duration(round(seconds, 3))}")


async def health_rules(spec: KustomizationSpec, cel: Cel) -> HealthRules | None:
    """spec.healthCheckExprs, compiled. Raises Stalled(InvalidCELExpression): KS-HC-09."""
    if not spec.health_check_exprs:
        return None
    try:
        rules = HealthRules.parse(cel, spec.health_check_exprs)
        await rules.check()
    except InvalidExpression as error:
        raise Stalled(INVALID_EXPRESSION, f"{TERMINAL}: {error}") from error
    except ToolboxError as error:
        raise Retry(HEALTH_CHECK_FAILED, f"health expressions cannot be compiled: {error.message}") from error
    return rules


def ignored(spec: KustomizationSpec) -> IgnoreRules:
    """spec.ignore. Raises Stalled(ReconciliationFailed) for a selector that cannot be used."""
    try:
        return IgnoreRules(spec.ignore)
    except ValueError as error:
        raise Stalled(RECONCILIATION_FAILED, f"spec.ignore: {error}") from error


def timeout(spec: KustomizationSpec) -> float:
    """Seconds: spec.timeout, else the interval less 30 seconds, and never below 30 seconds (KS-SPEC-05)."""
    stated = parse_duration(spec.timeout) if spec.timeout else parse_duration(spec.interval) - SHORTEST_TIMEOUT
    return max(stated, SHORTEST_TIMEOUT)


def deletes(spec: KustomizationSpec) -> bool:
    """Whether delivered objects are deleted with the Kustomization (KS-FIN-01, KS-FIN-02)."""
    if spec.suspend:
        return False
    if spec.deletion_policy in ("", "MirrorPrune"):
        return spec.prune
    return spec.deletion_policy in ("Delete", "WaitForTermination")


APPROVAL = Part(
    "approval", lambda live: [live.metadata.annotation(APPROVE), live.metadata.annotation(PRUNE_BUDGET)],
    metadata_only=True,
)
"""What a person says about held deletions."""


def prune_budget(ks: Kustomization, options: KustomizationOptions, revision: str) -> PruneBudget | None:
    """How much a run may delete, None where nothing limits it."""
    limit = limit_of(ks.metadata.annotation(PRUNE_BUDGET), options.prune_budget)
    if limit is None:
        return None
    name, namespace = ks.metadata.name, ks.metadata.namespace
    return PruneBudget(
        limit=limit,
        protected=frozenset(options.prune_protected),
        approval=ks.metadata.annotation(APPROVE),
        revision=revision,
        how=f"kubectl annotate kustomization {name} -n {namespace} --overwrite {APPROVE}=",
        after=parse_duration(ks.spec.interval),
    )


def owner_labels(ks: Kustomization) -> dict[str, str]:
    """The labels of everything that this Kustomization delivers."""
    return control.owner_labels(ks.metadata.namespace, ks.metadata.name)


def _owned(ks: Kustomization) -> Entries:
    stated: Inventory | None = ks.status.inventory
    return stated.entries if stated is not None else ()


async def _exists(target: Target, reference: Reference) -> bool:
    """Whether an object that was deleted is still there. With its kind went the object."""
    try:
        resource = await target.any_resource(reference.group_kind, "")
        await target.client.get(resource, reference.namespace, reference.name, metadata_only=True)
    except (NotFound, NoMatch):
        return False
    return True
