"""The only writer of the status of our objects: one JSON merge patch a run, with only what has changed.

Every patch carries the resourceVersion it was made from. When somebody else has written in between, the object is
read again and the same change is made to what is there now: conditions and fields of others are never lost (REL-14).
A run's own view decides what is observed: its generation and its request token, not newer ones (REL-36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from headrace.api.kinds import KINDS, KindInfo
from headrace.api.meta import COMMIT_STATUS, RECONCILE_REQUEST, UNOBSERVED, UPDATE
from headrace.core.clock import Clock
from headrace.core.redaction import redact
from headrace.kube.client import Client
from headrace.kube.counter import PROGRESS, WORK
from headrace.kube.errors import Conflict
from headrace.kube.resource import Resource
from headrace.model.errors import StepError, Waiting
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition, Outcome
from headrace.model.plan import InventoryEntry
from headrace.status import conditions, summary
from headrace.status.events import NORMAL, WARNING, Events
from headrace.status.rules import rules_of
from headrace.status.summary import Verdict

Status = dict[str, Any]
Decide = Callable[[tuple[Condition, ...]], Verdict]

TENANCY_RELAXED = "TenancyRelaxed"
"""Condition: there is a point of strict tenancy that the operator has turned off."""

ATTEMPTS = 5
"""Tries of one patch before the run counts as failed."""


class ApiStatusWriter:
    """`model.scope.StatusWriter` over an API server, with the engine's own identity.

    The field manager is upstream's for the kind: `gotk-kustomize-controller`, `gotk-source-controller`.
    """

    def __init__(self, client: Client, events: Events, clock: Clock,
                 kinds: Mapping[tuple[str, str], KindInfo[Any]] = KINDS, *, relaxed: Sequence[str] = ()) -> None:
        """`relaxed` names the points of strict tenancy that the operator has turned off: every status says so."""
        self._client = client
        self._events = events
        self._clock = clock
        self._kinds = kinds
        self._relaxed = _relaxed(relaxed)

    async def progress(self, live: LiveObject, reason: str, message: str,
                       conditions: Sequence[Condition]) -> LiveObject:
        """See `StatusWriter.progress`. Not counted among the requests that the work itself needs."""
        rules = rules_of(live.reference.group)
        told = _redacted(conditions)
        text = redact(message)
        return await self._change(
            live, lambda existing: summary.in_progress(reason, text, told, rules, existing), purpose=PROGRESS)

    async def inventory(self, live: LiveObject, entries: Sequence[InventoryEntry],
                        progress: tuple[str, str]) -> LiveObject:
        """See `StatusWriter.inventory`. The progress goes along, and costs no patch of its own."""
        reason, message = progress
        status = status_of(live)
        existing = conditions.decode(status)
        verdict = summary.in_progress(reason, redact(message), (), rules_of(live.reference.group), existing)
        inventory = {"entries": [{"id": entry.id, "v": entry.v} for entry in entries]}
        verdict = msgspec.structs.replace(verdict, fields={"inventory": inventory})
        return await self._patch(live, self._difference(live, status, verdict, final=False), WORK)

    async def succeeded(self, live: LiveObject, outcome: Outcome, *, before: LiveObject) -> LiveObject:
        """See `StatusWriter.succeeded`. A success after failures is an event, whatever the outcome says."""
        rules = rules_of(live.reference.group)
        # A condition often says the same as the outcome, and patterns cost time.
        message = redact(outcome.message)
        same = {outcome.message: message}
        outcome = msgspec.structs.replace(outcome, message=message, conditions=_redacted(outcome.conditions, same))
        recovered = summary.recovered(conditions.decode(status_of(before)))
        written = await self._change(live, lambda _: summary.succeeded(outcome, rules))
        message, reason = outcome.event, outcome.event_reason or outcome.reason
        if recovered and (not message or _same_artifact(live, outcome)):
            message, reason = outcome.message, outcome.reason
        if message:
            annotations = _revision(live, outcome.revision) | outcome.event_annotations
            await self._event(written, NORMAL, reason, message, annotations)
        if outcome.announcement:
            self._announce(written, outcome)
        return written

    def _announce(self, live: LiveObject, outcome: Outcome) -> None:
        """Apart from the event, since a receiver that marks commits takes only what says so, and one that writes to
        people takes nothing of it (KS-REC-13)."""
        marks = {f"{live.reference.group}/{COMMIT_STATUS}": UPDATE}
        self._events.announce(
            live, self._kind(live), reason=outcome.reason, message=outcome.announcement,
            annotations=_revision(live, outcome.revision) | outcome.event_annotations | marks)

    async def failed(self, live: LiveObject, error: StepError, next_after: float | None) -> LiveObject:
        """See `StatusWriter.failed`. Waiting is no warning, and is told once."""
        rules = rules_of(live.reference.group)
        clean = _clean(error)
        written = await self._change(live, lambda existing: summary.failed(clean, rules, existing))
        waiting = isinstance(error, Waiting)
        if not error.quiet and not (waiting and written is live):
            type_ = NORMAL if waiting else WARNING
            revision = error.status.get("lastAttemptedRevision", "")
            annotations = _revision(live, str(revision)) | error.annotations
            await self._event(written, type_, error.reason, clean.message, annotations)
        return written

    async def suspended(self, live: LiveObject) -> LiveObject:
        """See `StatusWriter.suspended`."""
        rules = rules_of(live.reference.group)
        return await self._change(live, lambda existing: summary.suspended(rules, existing))

    async def cleared(self, live: LiveObject) -> LiveObject:
        """See `StatusWriter.cleared`. What the API server fills in by itself counts as nothing."""
        told = {name for name, value in status_of(live).items() if (name, value) != ("observedGeneration", UNOBSERVED)}
        if not told:
            return live
        body = msgspec.json.encode({"status": dict.fromkeys(told)})
        return await self._client.patch(
            self._resource(live), live.metadata.namespace, live.metadata.name, body, subresource="status",
            field_manager=f"gotk-{self._kind(live).component}")

    async def event(
        self, live: LiveObject, reason: str, message: str, *, warning: bool, annotations: Mapping[str, str] = {}
    ) -> None:
        """See `StatusWriter.event`."""
        await self._event(live, WARNING if warning else NORMAL, reason, message, annotations)

    # -- the patch -----------------------------------------------------------------------------------------------

    async def _change(self, live: LiveObject, decide: Decide, purpose: str = WORK) -> LiveObject:
        """Patch what `decide` makes of the conditions that are there, again on each conflict. Returns the object as it
        is then. An object that is another one by now is returned as it is: nobody waits for that status any more."""
        final = purpose != PROGRESS
        for attempt in range(ATTEMPTS):
            status = status_of(live)
            verdict = decide(conditions.decode(status))
            try:
                return await self._patch(live, self._difference(live, status, verdict, final=final), purpose)
            except Conflict:
                fresh = await self._client.get(self._resource(live), live.metadata.namespace, live.metadata.name)
                if fresh.metadata.uid != live.metadata.uid:
                    return fresh
                if "inventory" in verdict.fields and _entries(fresh) != _entries(live):
                    await self._keep_track(live, fresh, verdict)
                    raise
                if attempt + 1 == ATTEMPTS:
                    raise
                live = _rebased(live, fresh)
        raise AssertionError("unreachable")

    async def _keep_track(self, live: LiveObject, fresh: LiveObject, verdict: Verdict) -> None:
        """Another engine has written its inventory meanwhile, and may have dropped what this run has applied: both are
        kept, so that the next run finds and prunes what is stale (REL-10). Raises Conflict when that is too late too.
        """
        said: Status = msgspec.json.decode(msgspec.json.encode(verdict.fields))
        merged = _entries(fresh) | _entries(live) | _read_entries(said)
        if merged != _entries(fresh):
            entries = [{"id": id_, "v": version} for id_, version in sorted(merged.items())]
            await self._patch(_rebased(live, fresh), {"inventory": {"entries": entries}}, WORK)

    def _difference(self, live: LiveObject, status: Status, verdict: Verdict, *, final: bool) -> Status:
        """The merge patch of the status: only what is not there already."""
        after = conditions.changed(
            conditions.decode(status), (*verdict.conditions, *self._relaxed), (*verdict.removed, TENANCY_RELAXED),
            generation=live.metadata.generation, now=self._clock.now())
        fields: Status = dict(verdict.fields)
        fields["conditions"] = after
        if verdict.observed and self._kind(live).observes_generation:
            fields["observedGeneration"] = live.metadata.generation
        requested = live.metadata.annotation(RECONCILE_REQUEST)
        if final and requested:
            fields["lastHandledReconcileAt"] = requested
        # Structs and tuples become what they are when they are read back, or nothing would ever be the same.
        plain: Status = msgspec.json.decode(msgspec.json.encode(fields))
        return merge_patch({name: status.get(name) for name in plain}, plain)

    async def _patch(self, live: LiveObject, patch: Status, purpose: str) -> LiveObject:
        if not patch:
            return live
        body = {"metadata": {"resourceVersion": live.metadata.resource_version}, "status": patch}
        return await self._client.patch(
            self._resource(live), live.metadata.namespace, live.metadata.name, msgspec.json.encode(body),
            subresource="status", field_manager=f"gotk-{self._kind(live).component}", purpose=purpose)

    async def _event(self, live: LiveObject, type_: str, reason: str, message: str,
                     annotations: Mapping[str, str]) -> None:
        await self._events.record(
            live, self._kind(live), type_=type_, reason=reason, message=message, annotations=annotations)

    def _kind(self, live: LiveObject) -> KindInfo[Any]:
        return self._kinds[live.reference.group_kind]

    def _resource(self, live: LiveObject) -> Resource:
        kind = self._kind(live)
        return Resource(kind.group, kind.storage_version, kind.kind, kind.plural, namespaced=True)


def _relaxed(points: Sequence[str]) -> tuple[Condition, ...]:
    text = f"turned off by the operator: {', '.join(points)}"
    return (Condition(TENANCY_RELAXED, "True", "OperatorSetting", text),) if points else ()


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Status:
    """The JSON merge patch (RFC 7386) from `before` to `after`; None in `after` is absence."""
    patch: Status = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = merge_patch(old, new)
            if inner:
                patch[name] = inner
        elif old != new:
            patch[name] = new
    return patch


def status_of(live: LiveObject) -> Status:
    """The status as it is stored, whatever stands in it."""
    content = msgspec.json.decode(live.raw)
    status = content.get("status") if isinstance(content, dict) else None
    return status if isinstance(status, dict) else {}


def _same_artifact(live: LiveObject, outcome: Outcome) -> bool:
    """Whether a source has what it had: then the news is that it is well again (SRC-COM-25)."""
    before, after = status_of(live).get("artifact"), outcome.status.get("artifact")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return False
    return bool(before.get("digest") == after.get("digest"))


def _entries(live: LiveObject) -> dict[str, str]:
    """The inventory of an object: versions by id."""
    return _read_entries(status_of(live))


def _read_entries(status: Status) -> dict[str, str]:
    inventory = status.get("inventory")
    entries = inventory.get("entries") if isinstance(inventory, dict) else None
    return {entry["id"]: entry["v"] for entry in entries or ()}


def _rebased(live: LiveObject, fresh: LiveObject) -> LiveObject:
    """What the run has seen, on the status that is there now."""
    metadata = msgspec.structs.replace(live.metadata, resource_version=fresh.metadata.resource_version)
    return msgspec.structs.replace(live, raw=fresh.raw, metadata=metadata)


def _redacted(told: Sequence[Condition], known: Mapping[str, str] = MappingProxyType({})) -> tuple[Condition, ...]:
    """The conditions as anybody may read them; `known` are texts with what has become of them already."""
    return tuple(
        msgspec.structs.replace(one, message=known.get(one.message) or redact(one.message)) for one in told)


def _clean(error: StepError) -> StepError:
    """The same error without secrets in its message."""
    clean = StepError.__new__(type(error))
    clean.__dict__.update(error.__dict__)
    clean.message = redact(error.message)
    clean.conditions = _redacted(error.conditions)
    return clean


def _revision(live: LiveObject, revision: str) -> dict[str, str]:
    return {f"{live.reference.group}/revision": revision} if revision else {}
