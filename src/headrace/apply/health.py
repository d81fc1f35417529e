"""Health of an object, judged from its JSON by the rules of kstatus (spec section 4.6, KS-HC-01). Pure.

Every rule takes decoded JSON of unknown shape (a cluster's answer), so all access goes through the small readers at
the end, which give zero values for what is absent or of another type.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.core.clock import parse_rfc3339
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference

Json = Mapping[str, Any]

SCHEDULE_WINDOW = 15.0
"""Seconds that a pod may be unschedulable before it counts as failed: a node may just be coming."""


class Status(enum.Enum):
    """The words of kstatus, as they stand in messages."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"
    NOT_FOUND = "NotFound"
    UNKNOWN = "Unknown"


class Health(msgspec.Struct, frozen=True, gc=False):
    """The verdict on one object; `message` says why it is not Current, `recheck` seconds after which time alone may
    change it."""

    status: Status
    message: str = ""
    recheck: float | None = None

    @property
    def final(self) -> bool:
        return self.status in (Status.CURRENT, Status.FAILED)


CURRENT = Health(Status.CURRENT)
NOT_FOUND = Health(Status.NOT_FOUND, "not found")

_RBAC, _NETWORK, _STORAGE = "rbac.authorization.k8s.io", "networking.k8s.io", "storage.k8s.io"

ALWAYS_CURRENT = frozenset({
    ("", "ConfigMap"), ("", "Secret"), ("", "ServiceAccount"), ("", "LimitRange"), ("", "ResourceQuota"),
    ("", "Endpoints"), ("", "PodTemplate"), ("batch", "CronJob"), ("discovery.k8s.io", "EndpointSlice"),
    (_RBAC, "Role"), (_RBAC, "RoleBinding"), (_RBAC, "ClusterRole"), (_RBAC, "ClusterRoleBinding"),
    (_NETWORK, "Ingress"), (_NETWORK, "IngressClass"), (_NETWORK, "NetworkPolicy"),
    (_STORAGE, "StorageClass"), (_STORAGE, "CSIDriver"), ("scheduling.k8s.io", "PriorityClass"),
    ("node.k8s.io", "RuntimeClass"), ("coordination.k8s.io", "Lease"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
})  # fmt: skip
"""Kinds without conditions, generation to observe or rule: once accepted they are Current until deleted."""


def assess(reference: Reference, content: Json, *, now: float, pods: Sequence[Json] = ()) -> Health:
    """The health of a live object. `now` is in seconds since the epoch; `pods` are those of a ReplicaSet or
    StatefulSet, which alone tell that it will not get there."""
    special = _SPECIAL.get(reference.group_kind)
    if special is not None:
        return special(content)
    generic = _generic(content)
    if generic is not None:
        return generic
    if reference.group_kind in ALWAYS_CURRENT:
        return CURRENT
    if reference.group_kind == ("", "Pod"):
        return _pod(content, now)
    health = _RULES.get(reference.group_kind, _by_ready_condition)(content)
    if health.status is Status.IN_PROGRESS and reference.group_kind in POD_KINDS:
        return _failed_pod(pods, now) or health
    return health


POD_KINDS = (("apps", "ReplicaSet"), ("apps", "StatefulSet"))
"""Kinds whose progress is judged by their pods too."""


def _verdict(live: LiveObject) -> str:
    return assess(live.reference, {} if live.partial else live.content(), now=0.0).status.value


HEALTH = Part("health", _verdict)
"""The verdict alone: whoever waits in vain for an object is woken when it becomes healthy, or fails otherwise."""


def _generic(content: Json) -> Health | None:
    """The rules that stand before those of the kind; None when they do not decide."""
    metadata, status = _map(content, "metadata"), _map(content, "status")
    if metadata.get("deletionTimestamp"):
        return Health(Status.TERMINATING, "being deleted")
    observed, generation = status.get("observedGeneration"), metadata.get("generation")
    if isinstance(observed, int) and observed != generation:
        return _progress(f"generation is {generation}, but observed is {observed}")
    conditions = _conditions(content)
    if _is(conditions, "Reconciling", "True"):
        return _progress(_message(conditions, "Reconciling"))
    if _is(conditions, "Stalled", "True"):
        return _failed(_message(conditions, "Stalled"))
    return None


def _by_ready_condition(content: Json) -> Health:
    conditions = _conditions(content)
    if "Ready" not in conditions or _is(conditions, "Ready", "True"):
        return CURRENT
    return _progress(_message(conditions, "Ready"))


def _service(content: Json) -> Health:
    spec = _map(content, "spec")
    if spec.get("type") == "LoadBalancer" and not spec.get("clusterIP"):
        return _progress("no cluster IP yet")
    return CURRENT


def _deployment(content: Json) -> Health:
    spec, status, conditions = _map(content, "spec"), _map(content, "status"), _conditions(content)
    if _text(conditions.get("Progressing", {}), "reason") == "ProgressDeadlineExceeded":
        return _failed("progress deadline exceeded")
    if "observedGeneration" not in status and "generation" in _map(content, "metadata"):
        return _progress("not observed by its controller yet")
    wanted = _number(spec, "replicas", 1)
    counts = _counts(status, "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    replicas, updated, ready, available = counts
    if replicas < wanted:
        return _progress(f"replicas: {replicas}/{wanted}")
    if updated < wanted:
        return _progress(f"updated: {updated}/{wanted}")
    if replicas > wanted:
        return _progress(f"pending termination: {replicas - wanted}")
    if available < updated:
        return _progress(f"available: {available}/{updated}")
    if ready < wanted:
        return _progress(f"ready: {ready}/{wanted}")
    progressing = _text(conditions.get("Progressing", {}), "reason")
    if _number(spec, "progressDeadlineSeconds", 2**31 - 1) < 2**31 - 1 and progressing != "NewReplicaSetAvailable":
        return _progress("new ReplicaSet is not available")
    if not _is(conditions, "Available", "True"):
        return _progress("deployment is not available")
    return CURRENT


def _stateful_set(content: Json) -> Health:
    spec, status = _map(content, "spec"), _map(content, "status")
    strategy = _map(spec, "updateStrategy")
    if strategy.get("type") == "OnDelete":
        return CURRENT
    if "observedGeneration" not in status and "generation" in _map(content, "metadata"):
        return _progress("not observed by its controller yet")
    wanted = _number(spec, "replicas", 1)
    replicas, ready, current, updated = _counts(
        status, "replicas", "readyReplicas", "currentReplicas", "updatedReplicas"
    )
    if replicas < wanted:
        return _progress(f"replicas: {replicas}/{wanted}")
    if ready < wanted:
        return _progress(f"ready: {ready}/{wanted}")
    if replicas > wanted:
        return _progress(f"pending termination: {replicas - wanted}")
    partition = _number(_map(strategy, "rollingUpdate"), "partition", -1)
    if partition >= 0 and updated < wanted - partition:
        return _progress(f"updated: {updated}/{wanted - partition}")
    if partition < 0 and current < wanted:
        return _progress(f"current: {current}/{wanted}")
    if partition < 0 and status.get("currentRevision") != status.get("updateRevision"):
        return _progress("waiting for the updated revision to match the current one")
    return CURRENT


def _replica_set(content: Json) -> Health:
    spec, status, conditions = _map(content, "spec"), _map(content, "status"), _conditions(content)
    if _is(conditions, "ReplicaFailure", "True"):
        return _progress("replica failure")
    wanted = _number(spec, "replicas", 1)
    replicas, labelled, available, ready = _counts(
        status, "replicas", "fullyLabeledReplicas", "availableReplicas", "readyReplicas"
    )
    for count, name in ((labelled, "labelled"), (available, "available"), (ready, "ready")):
        if count < wanted:
            return _progress(f"{name}: {count}/{wanted}")
    return _progress(f"pending termination: {replicas - wanted}") if replicas > wanted else CURRENT


def _daemon_set(content: Json) -> Health:
    metadata, status = _map(content, "metadata"), _map(content, "status")
    if "observedGeneration" not in status or "generation" not in metadata:
        return _progress("missing metadata.generation or status.observedGeneration")
    wanted = _number(status, "desiredNumberScheduled", -1)
    if wanted < 0:
        return _progress("missing status.desiredNumberScheduled")
    names = ("currentNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady")
    for count, name in zip(_counts(status, *names), ("current", "updated", "available", "ready"), strict=True):
        if count < wanted:
            return _progress(f"{name}: {count}/{wanted}")
    return CURRENT


def _claim(content: Json) -> Health:
    phase = _text(_map(content, "status"), "phase")
    return CURRENT if phase == "Bound" else _progress(f"not bound: {phase or 'no phase'}")


def _pod(content: Json, now: float) -> Health:
    status, conditions = _map(content, "status"), _conditions(content)
    phase = _text(status, "phase")
    if phase in ("Succeeded", "Failed"):
        return CURRENT
    if phase == "Running":
        if _is(conditions, "Ready", "True"):
            return CURRENT
        crashing = [_text(c, "name") for c in _list(status, "containerStatuses") if _crashes(c)]
        return _failed(f"crashing: {', '.join(crashing)}") if crashing else _progress("running, but not ready")
    scheduled = conditions.get("PodScheduled", {})
    if phase == "Pending" and _text(scheduled, "reason") == "Unschedulable":
        left = SCHEDULE_WINDOW - (now - _time(scheduled, "lastTransitionTime", now))
        if left < 0:
            return _failed("cannot be scheduled")
        return Health(Status.IN_PROGRESS, "not scheduled yet", recheck=left + 0.1)
    return _progress(f"phase is {phase or 'not set'}")


def _crashes(container: Json) -> bool:
    return _text(_map(_map(container, "state"), "waiting"), "reason") == "CrashLoopBackOff"


def _failed_pod(pods: Sequence[Json], now: float) -> Health | None:
    """Failed, when one of the pods is beyond hope; deleting and unschedulable ones do not count."""
    for pod in pods:
        if _map(pod, "metadata").get("deletionTimestamp"):
            continue
        if _text(_conditions(pod).get("PodScheduled", {}), "reason") == "Unschedulable":
            continue
        health = _pod(pod, now)
        if health.status is Status.FAILED:
            return _failed(f"pod {_text(_map(pod, 'metadata'), 'name')}: {health.message}")
    return None


def _job(content: Json) -> Health:
    conditions = _conditions(content)
    if _map(content, "spec").get("suspend") is True or _is(conditions, "Complete", "True"):
        return CURRENT
    if _is(conditions, "Failed", "True"):
        return _failed(f"job failed: {_message(conditions, 'Failed')}")
    return _progress("job in progress")


def _definition(content: Json) -> Health:
    conditions = _conditions(content)
    if _is(conditions, "NamesAccepted", "False"):
        return _failed(_message(conditions, "NamesAccepted"))
    if _is(conditions, "Established", "True"):
        return CURRENT
    installing = _text(conditions.get("Established", {}), "reason") == "Installing"
    if _is(conditions, "Established", "False") and not installing:
        return _failed(_message(conditions, "Established"))
    return _progress("not established yet")


def _always(content: Json) -> Health:
    return CURRENT


_SPECIAL: dict[tuple[str, str], Callable[[Json], Health]] = {("batch", "Job"): _job}
"""Kinds to which the generic rules do not apply."""

_RULES: dict[tuple[str, str], Callable[[Json], Health]] = {
    ("", "Service"): _service,
    ("", "PersistentVolumeClaim"): _claim,
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("policy", "PodDisruptionBudget"): _always,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
}


def _progress(message: str) -> Health:
    return Health(Status.IN_PROGRESS, message)


def _failed(message: str) -> Health:
    return Health(Status.FAILED, message)


def _map(parent: Json, key: str) -> Json:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _list(parent: Json, key: str) -> list[Json]:
    value = parent.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(parent: Json, key: str) -> str:
    value = parent.get(key)
    return value if isinstance(value, str) else ""


def _number(parent: Json, key: str, default: int) -> int:
    value = parent.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _counts(status: Json, *names: str) -> list[int]:
    return [_number(status, name, 0) for name in names]


def _time(parent: Json, key: str, default: float) -> float:
    try:
        return parse_rfc3339(_text(parent, key))
    except ValueError:
        return default


def _conditions(content: Json) -> dict[str, Json]:
    return {_text(c, "type"): c for c in _list(_map(content, "status"), "conditions")}


def _is(conditions: Mapping[str, Json], type_: str, status: str) -> bool:
    return _text(conditions.get(type_, {}), "status") == status


def _message(conditions: Mapping[str, Json], type_: str) -> str:
    return _text(conditions[type_], "message") or _text(conditions[type_], "reason")
