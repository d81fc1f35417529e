"""Verdicts on workloads: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, Pod, PersistentVolumeClaim, and the rest
by its conditions. Shaped after what `kubectl describe` would make a person look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from headrace.cli.explain.verdict import State, Verdict
from headrace.model.objects import LiveObject

Content = dict[str, Any]
_POD = ("", "Pod")
_REPLICA_SET = ("apps", "ReplicaSet")

_CONTAINER_CURES = {
    "ImagePullBackOff": "correct the image name, or the pull secret",
    "ErrImagePull": "correct the image name, or the pull secret",
    "InvalidImageName": "correct the image name",
    "CrashLoopBackOff": "correct what makes the container exit: kubectl logs --previous",
    "CreateContainerConfigError": "create the ConfigMap or Secret that the message names",
    "CreateContainerError": "correct the container's command or mounts",
    "RunContainerError": "correct the container's command or mounts",
}


def judge_workload(live: LiveObject) -> Verdict:
    """The verdict on a delivered object. A kind without rules counts as ready unless a condition says otherwise."""
    content = live.content()
    if live.metadata.deleting:
        return Verdict(State.DELETING, "Terminating", "is being deleted", live.metadata.deletion_timestamp or "",
                       unblock="let its finalizers finish: " + ", ".join(live.metadata.finalizers or ()))  # fmt: skip
    rules: dict[tuple[str, str], Callable[[Content], Verdict]] = {
        ("apps", "Deployment"): _deployment,
        ("apps", "StatefulSet"): _stateful_set,
        ("apps", "DaemonSet"): _daemon_set,
        _REPLICA_SET: _replica_set,
        ("batch", "Job"): _job,
        _POD: _pod,
        ("", "PersistentVolumeClaim"): _claim,
    }
    return rules.get(live.reference.group_kind, _by_conditions)(content)


def _deployment(content: Content) -> Verdict:
    wanted, status = content.get("spec", {}).get("replicas", 1), content.get("status", {})
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    if _observed(content) and ready >= wanted and updated >= wanted:
        return Verdict(State.READY, "Available", f"{ready} of {wanted} replicas are ready")
    progress = _condition(content, "Progressing")
    stuck = progress.get("reason") == "ProgressDeadlineExceeded"
    return Verdict(
        State.FAILED if stuck else State.PROGRESSING,
        progress.get("reason", "Progressing") if stuck else "Progressing",
        f"{ready} of {wanted} replicas are ready",
        _since(_condition(content, "Available")) or content["metadata"].get("creationTimestamp", ""),
        owned=(_REPLICA_SET,),
    )


def _replica_set(content: Content) -> Verdict:
    wanted, status = content.get("spec", {}).get("replicas", 1), content.get("status", {})
    failure = _condition(content, "ReplicaFailure")
    if failure.get("status") == "True":
        return Verdict(State.FAILED, failure.get("reason", ""), failure.get("message", ""), _since(failure),
                       unblock="allow the pods to be created: " + failure.get("message", ""))  # fmt: skip
    ready = status.get("readyReplicas", 0)
    state = State.READY if ready >= wanted else State.PROGRESSING
    return Verdict(state, "", f"{ready} of {wanted} pods are ready", owned=() if ready >= wanted else (_POD,))


def _stateful_set(content: Content) -> Verdict:
    wanted, status = content.get("spec", {}).get("replicas", 1), content.get("status", {})
    ready = status.get("readyReplicas", 0)
    if _observed(content) and ready >= wanted and status.get("currentRevision") == status.get("updateRevision"):
        return Verdict(State.READY, "", f"{ready} of {wanted} replicas are ready")
    return Verdict(State.PROGRESSING, "Progressing", f"{ready} of {wanted} replicas are ready",
                   content["metadata"].get("creationTimestamp", ""), owned=(_POD,))  # fmt: skip


def _daemon_set(content: Content) -> Verdict:
    status = content.get("status", {})
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    state = State.READY if _observed(content) and ready >= wanted else State.PROGRESSING
    return Verdict(state, "", f"{ready} of {wanted} pods are ready", owned=() if state is State.READY else (_POD,))


def _job(content: Content) -> Verdict:
    failed, complete = _condition(content, "Failed"), _condition(content, "Complete")
    if failed.get("status") == "True":
        return Verdict(State.FAILED, failed.get("reason", "Failed"), failed.get("message", ""), _since(failed),
                       unblock="correct the Job; a new one needs force or another name", owned=(_POD,))  # fmt: skip
    if complete.get("status") == "True" or content.get("spec", {}).get("suspend"):
        return Verdict(State.READY, "Complete", "the Job is complete")
    return Verdict(State.PROGRESSING, "Running", "the Job is not complete",
                   content.get("status", {}).get("startTime", ""), owned=(_POD,))  # fmt: skip


def _claim(content: Content) -> Verdict:
    phase = content.get("status", {}).get("phase", "Pending")
    if phase == "Bound":
        return Verdict(State.READY, phase, "the volume is bound")
    return Verdict(State.PROGRESSING, phase, "no volume is bound", content["metadata"].get("creationTimestamp", ""),
                   unblock="give the claim a StorageClass that provisions, or a fitting volume")  # fmt: skip


def _pod(content: Content) -> Verdict:
    phase = content.get("status", {}).get("phase", "Pending")
    scheduled = _condition(content, "PodScheduled")
    if scheduled.get("status") == "False":
        message = scheduled.get("message", "")
        return Verdict(State.FAILED, scheduled.get("reason", "Unschedulable"), message, _since(scheduled),
                       unblock=_scheduling_cure(content, message))  # fmt: skip
    for container in _containers(content):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _CONTAINER_CURES:
            reason, message = waiting["reason"], waiting.get("message", "")
            return Verdict(State.FAILED, reason, f"container {container.get('name')}: {message}",
                           _since(_condition(content, "Ready")), unblock=_CONTAINER_CURES[reason])  # fmt: skip
    ready = _condition(content, "Ready")
    if phase == "Succeeded" or ready.get("status") == "True":
        return Verdict(State.READY, phase, "the pod is ready")
    if phase == "Failed":
        return Verdict(State.FAILED, content["status"].get("reason", phase), content["status"].get("message", ""),
                       _since(ready), unblock="correct what made the pod fail: kubectl logs")  # fmt: skip
    return Verdict(State.PROGRESSING, ready.get("reason", phase), ready.get("message", f"the pod is {phase}"),
                   _since(ready), unblock="wait for its containers, or correct their readiness probes")  # fmt: skip


def _scheduling_cure(content: Content, message: str) -> str:
    selector = content.get("spec", {}).get("nodeSelector")
    if selector and "node affinity/selector" in message:
        labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        return f"add a node with the label {labels}, or change the nodeSelector of the pod template"
    if "nsufficient" in message:
        return "add a node with room, or lower the resource requests of the pod template"
    if "taint" in message:
        return "add a toleration to the pod template, or remove the taint of a node"
    return "make a node fit the pod, or the pod template a node"


def _by_conditions(content: Content) -> Verdict:
    for kind in ("Stalled", "Failed"):
        bad = _condition(content, kind)
        if bad.get("status") == "True":
            return Verdict(State.FAILED, bad.get("reason", kind), bad.get("message", ""), _since(bad))
    ready = _condition(content, "Ready") or _condition(content, "Established")
    if ready.get("status", "True") == "True" and _observed(content):
        return Verdict(State.READY)
    return Verdict(State.PROGRESSING, ready.get("reason", ""), ready.get("message", "not ready"), _since(ready))


def _containers(content: Content) -> Iterable[Content]:
    status = content.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _condition(content: Content, kind: str) -> Content:
    conditions = content.get("status", {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == kind), {})


def _since(condition: Content) -> str:
    return str(condition.get("lastTransitionTime") or "")


def _observed(content: Content) -> bool:
    observed = content.get("status", {}).get("observedGeneration")
    return observed is None or observed >= content["metadata"].get("generation", 0)
