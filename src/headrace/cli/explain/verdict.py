"""What one object says about itself, and which objects to ask next. Pure: no cluster, no clock."""

from __future__ import annotations

import enum
import re

import msgspec

from headrace.api.kinds import KINDS
from headrace.api.meta import SOURCE_GROUP
from headrace.cli.view import FluxObject, inventory_reference, shorten, view
from headrace.core.redaction import redact
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference


class State(str, enum.Enum):
    """How an object stands."""

    READY = "ready"
    SUSPENDED = "suspended"
    PROGRESSING = "progressing"
    WAITING = "waiting"
    FAILED = "failed"
    DELETING = "deleting"
    MISSING = "missing"
    UNREADABLE = "unreadable"


class Verdict(msgspec.Struct, frozen=True):
    """One object's own account.

    `since` is RFC 3339 or empty, `unblock` the one thing that would help, `file` the manifest to blame. `follow` are
    objects whose state may be the cause, the likeliest first; `owned` says to look for the objects it controls.
    """

    state: State
    reason: str = ""
    message: str = ""
    since: str = ""
    unblock: str = ""
    file: str = ""
    follow: tuple[Reference, ...] = ()
    owned: tuple[tuple[str, str], ...] = ()


_FILE = re.compile(r"(?<![\w/])((?:[\w.@-]+/)*[\w.@-]+\.(?:ya?ml|json|env|tpl))\b")
_OBJECT = re.compile(r"\b([A-Z][A-Za-z0-9]*)/(?:([a-z0-9][a-z0-9-]*)/)?([A-Za-z0-9][\w.:-]*)(?=[\s,:\]'\"]|$)")

_WAITING_REASONS = frozenset({"DependencyNotReady", "Progressing", "ProgressingWithRetry"})


def missing(reference: Reference) -> Verdict:
    return Verdict(
        State.MISSING,
        "NotFound",
        f"{reference} does not exist",
        unblock=f"create {reference}, or correct the reference",
    )


def is_ours(reference: Reference) -> bool:
    """Whether the object is of a kind that the engine reconciles."""
    return reference.group_kind in KINDS


def judge(live: LiveObject) -> Verdict:
    """The verdict on any object: by its kind where there are rules, else by its conditions."""
    if is_ours(live.reference):
        return judge_flux(view(live))
    from headrace.cli.explain.workload import judge_workload

    return judge_workload(live)


def judge_flux(obj: FluxObject) -> Verdict:
    """A custom resource of ours."""
    ready = obj.ready
    reason, message = (ready.reason, shorten(ready.message)) if ready else ("", "not reconciled yet")
    since = ready.last_transition_time if ready else obj.metadata.creation_timestamp or ""
    known = Verdict(State.FAILED, reason, message, since, file=file_in(message))
    if obj.metadata.deleting:
        return _replace(known, State.DELETING, since=obj.metadata.deletion_timestamp or "", follow=_inventory(obj),
                        unblock="let its finalizers finish: " + ", ".join(obj.metadata.finalizers or ()))  # fmt: skip
    if obj.suspended:
        known = msgspec.structs.replace(known, reason="Suspended", message="spec.suspend is set", file="", since="")
        return _replace(known, State.SUSPENDED, unblock=_command("resume", obj))
    if ready is None and obj.unserved:
        return _without_conditions(obj, known)
    if ready is None or not obj.observed and not obj.stalled:
        return _replace(known, State.PROGRESSING, follow=_upstream(obj), unblock="wait for the engine, or start it")
    if ready.status == "True":
        return _replace(known, State.READY, follow=_upstream(obj))
    return _not_ready(obj, known)


def _without_conditions(obj: FluxObject, known: Verdict) -> Verdict:
    """A registry of charts, or what somebody else produces, whose conditions are nobody's duty."""
    if obj.static or obj.status.artifact is not None:
        message = obj.message if obj.static else f"offers revision {shorten(obj.revision)}"
        return _replace(msgspec.structs.replace(known, message=message), State.READY)
    known = msgspec.structs.replace(known, message="no artifact is offered yet")
    return _replace(known, State.WAITING, unblock="its producer has to offer an artifact")


def _not_ready(obj: FluxObject, known: Verdict) -> Verdict:
    """By reason: what the object waits for, or what failed."""
    if known.reason == "DependencyNotReady":
        return _replace(known, State.WAITING, follow=obj.dependencies())
    if known.reason == "ArtifactFailed" and "path" not in known.message:
        return _replace(known, State.WAITING, follow=_upstream(obj), unblock="the source has to deliver an artifact")
    if known.reason == "HealthCheckFailed":
        return _replace(known, State.FAILED, follow=_named(obj, known.message) + _inventory(obj))
    if obj.reconciling or known.reason in _WAITING_REASONS:
        return _replace(known, State.PROGRESSING, follow=_upstream(obj) + obj.dependencies() + _inventory(obj))
    return _replace(known, State.FAILED, unblock=unblock_failure(obj, known))


def unblock_failure(obj: FluxObject, known: Verdict) -> str:
    """The one thing that cures a failure of the object's own step."""
    text, place = known.message, f" ({known.file})" if known.file else ""
    cures = (
        (r"no matches for kind", "install the CustomResourceDefinition of that kind, or deliver it by a dependency"),
        (r"forbidden|cannot (get|patch|create|list|delete)", "grant the permission named in the message"),
        (r"path not found|path .*(does not exist|is not in)", "add the path to the source, or correct spec.path"),
        (r"variable not set|substitut", "set the variable in postBuild.substitute or substituteFrom"),
        (r"namespace.*not found", "create the namespace, or deliver it by a dependency"),
    )
    for pattern, cure in cures:
        if re.search(pattern, text, re.IGNORECASE):
            return cure + place
    return _by_reason(obj, known, place)


def _by_reason(obj: FluxObject, known: Verdict, place: str) -> str:
    thing = known.file or next(iter(objects_in(known.message)), "the manifest named in the message")
    by_reason = {
        "BuildFailed": f"correct {thing} and push",
        "ReconciliationFailed": f"correct {thing} and push{'' if thing == known.file else place}",
        "ArtifactFailed": "correct the source or spec.path",
        "AuthenticationFailed": "correct the Secret named in spec.secretRef",
        "GitOperationFailed": f"make {redact(obj.spec.url) or 'the repository'} reachable, with an existing ref",
        "URLInvalid": "correct spec.url",
        "AccessDenied": "name a source in the own namespace, or allow references across namespaces",
        "PruneHeld": "look at what would be deleted, then approve it with the command in the message",
        "PruneFailed": "allow the deletion named in the message",
        "EmptyGitRepository": "push a commit",
    }
    return by_reason.get(known.reason, "see the message; the next change of what it read wakes it")


def file_in(message: str) -> str:
    """The manifest file that a message names, if it names one."""
    found = _FILE.search(re.sub(r"https?://\S+", "", message))
    return found.group(1) if found else ""


def objects_in(message: str) -> tuple[str, ...]:
    """The objects that a message names as Kind/namespace/name."""
    return tuple(dict.fromkeys(match.group(0) for match in _OBJECT.finditer(message)))


def _named(obj: FluxObject, message: str) -> tuple[Reference, ...]:
    """Those of the inventory that the message names."""
    named = set(objects_in(message))
    return tuple(reference for reference in _inventory(obj) if str(reference) in named)


def _inventory(obj: FluxObject) -> tuple[Reference, ...]:
    if obj.spec.kube_config is not None:
        return ()
    return tuple(inventory_reference(entry) for entry in obj.inventory)


def _upstream(obj: FluxObject) -> tuple[Reference, ...]:
    source = obj.source(SOURCE_GROUP)
    return (source,) if source else ()


def _command(verb: str, obj: FluxObject) -> str:
    return f"headrace {verb} {obj.kind.lower()} {obj.metadata.name} -n {obj.metadata.namespace}"


def _replace(
    verdict: Verdict, state: State, *, since: str = "", unblock: str = "", follow: tuple[Reference, ...] = ()
) -> Verdict:
    return msgspec.structs.replace(
        verdict, state=state, since=since or verdict.since, unblock=unblock, follow=tuple(dict.fromkeys(follow))
    )
