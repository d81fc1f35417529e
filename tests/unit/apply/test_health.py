from typing import Any

import pytest

from headrace.apply.health import Health, Status, assess
from headrace.core.clock import rfc3339
from headrace.model.reference import Reference

NOW = 1_795_000_000.0
CURRENT, IN_PROGRESS, FAILED, TERMINATING = Status.CURRENT, Status.IN_PROGRESS, Status.FAILED, Status.TERMINATING


def condition(name: str, status: str = "True", reason: str = "", **more: str) -> dict[str, str]:
    return {"type": name, "status": status, "reason": reason, "message": ""} | more


def obj(spec: Any = None, status: Any = None, *conditions: dict[str, str], **metadata: Any) -> dict[str, Any]:
    status = (status or {}) | ({"conditions": list(conditions)} if conditions else {})
    return {"metadata": {"name": "x", "generation": 1} | metadata, "spec": spec or {}, "status": status}


AVAILABLE = (condition("Progressing", reason="NewReplicaSetAvailable"), condition("Available"))
ROLLED_OUT = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
TWO = {"replicas": 2, "progressDeadlineSeconds": 600}
SET = {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "currentReplicas": 2, "updatedReplicas": 2,
       "currentRevision": "a", "updateRevision": "a"}
REPLICAS = {"replicas": 2, "fullyLabeledReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}
DAEMONS = {"observedGeneration": 1, "desiredNumberScheduled": 2, "currentNumberScheduled": 2,
           "updatedNumberScheduled": 2, "numberAvailable": 2, "numberReady": 2}
WAITING = {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
APPS = "apps"


def unschedulable(ago: float) -> dict[str, str]:
    return condition("PodScheduled", "False", "Unschedulable", lastTransitionTime=rfc3339(NOW - ago))


RULES: list[Any] = [
    ("generic: deleting", "", "Secret", obj(deletionTimestamp="2026-01-01T00:00:00Z"), TERMINATING),
    ("generic: not observed", "x.io", "Widget", obj({}, {"observedGeneration": 0}), IN_PROGRESS),
    ("generic: observed later than it is", "x.io", "Widget", obj({}, {"observedGeneration": 2}), IN_PROGRESS),
    ("generic: reconciling", "x.io", "Widget", obj({}, {}, condition("Reconciling")), IN_PROGRESS),
    ("generic: stalled", "x.io", "Widget", obj({}, {}, condition("Stalled")), FAILED),
    ("rest: no conditions", "x.io", "Widget", obj(), CURRENT),
    ("rest: Ready", "x.io", "Widget", obj({}, {}, condition("Ready")), CURRENT),
    ("rest: not Ready", "x.io", "Widget", obj({}, {}, condition("Ready", "False")), IN_PROGRESS),
    ("rest: Ready unknown", "x.io", "Widget", obj({}, {}, condition("Ready", "Unknown")), IN_PROGRESS),
    ("Secret", "", "Secret", obj(), CURRENT),
    ("CronJob", "batch", "CronJob", obj(), CURRENT),
    ("Namespace", "", "Namespace", obj({}, {"phase": "Active"}), CURRENT),
    ("Service", "", "Service", obj({"type": "ClusterIP"}), CURRENT),
    ("Service without address", "", "Service", obj({"type": "LoadBalancer"}), IN_PROGRESS),
    ("Service with address", "", "Service", obj({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}), CURRENT),
    ("Deployment", APPS, "Deployment", obj(TWO, ROLLED_OUT, *AVAILABLE), CURRENT),
    ("Deployment just created", APPS, "Deployment", obj(TWO), IN_PROGRESS),
    ("Deployment of none, not observed", APPS, "Deployment", obj({"replicas": 0}), IN_PROGRESS),
    ("Deployment without deadline", APPS, "Deployment", obj({"replicas": 2}, ROLLED_OUT, AVAILABLE[1]), CURRENT),
    ("Deployment too few", APPS, "Deployment", obj(TWO, ROLLED_OUT | {"replicas": 1}, *AVAILABLE), IN_PROGRESS),
    ("Deployment old ones", APPS, "Deployment", obj(TWO, ROLLED_OUT | {"updatedReplicas": 1}, *AVAILABLE), IN_PROGRESS),
    ("Deployment surplus", APPS, "Deployment", obj(TWO, ROLLED_OUT | {"replicas": 3}, *AVAILABLE), IN_PROGRESS),
    ("Deployment unready", APPS, "Deployment", obj(TWO, ROLLED_OUT | {"readyReplicas": 1}, *AVAILABLE), IN_PROGRESS),
    ("Deployment unavailable", APPS, "Deployment", obj(TWO, ROLLED_OUT | {"availableReplicas": 1}, *AVAILABLE),
     IN_PROGRESS),
    ("Deployment rolling", APPS, "Deployment",
     obj(TWO, ROLLED_OUT, condition("Progressing"), AVAILABLE[1]), IN_PROGRESS),
    ("Deployment not available", APPS, "Deployment", obj(TWO, ROLLED_OUT, AVAILABLE[0]), IN_PROGRESS),
    ("Deployment late", APPS, "Deployment",
     obj(TWO, ROLLED_OUT, condition("Progressing", "False", "ProgressDeadlineExceeded")), FAILED),
    ("StatefulSet", APPS, "StatefulSet", obj(TWO, SET), CURRENT),
    ("StatefulSet OnDelete", APPS, "StatefulSet",
     obj({"replicas": 9, "updateStrategy": {"type": "OnDelete"}}), CURRENT),
    ("StatefulSet of none, not observed", APPS, "StatefulSet", obj({"replicas": 0}), IN_PROGRESS),
    ("StatefulSet too few", APPS, "StatefulSet", obj(TWO, SET | {"replicas": 1}), IN_PROGRESS),
    ("StatefulSet surplus", APPS, "StatefulSet", obj(TWO, SET | {"replicas": 3}), IN_PROGRESS),
    ("StatefulSet old ones", APPS, "StatefulSet", obj(TWO, SET | {"currentReplicas": 1}), IN_PROGRESS),
    ("StatefulSet unready", APPS, "StatefulSet", obj(TWO, SET | {"readyReplicas": 1}), IN_PROGRESS),
    ("StatefulSet revisions", APPS, "StatefulSet", obj(TWO, SET | {"updateRevision": "b"}), IN_PROGRESS),
    ("StatefulSet partition", APPS, "StatefulSet",
     obj(TWO | {"updateStrategy": {"rollingUpdate": {"partition": 1}}}, SET | {"updatedReplicas": 1}), CURRENT),
    ("StatefulSet below partition", APPS, "StatefulSet",
     obj(TWO | {"updateStrategy": {"rollingUpdate": {"partition": 0}}}, SET | {"updatedReplicas": 1}), IN_PROGRESS),
    ("ReplicaSet", APPS, "ReplicaSet",
     obj({"replicas": 1}, {"replicas": 1, "fullyLabeledReplicas": 1, "availableReplicas": 1, "readyReplicas": 1}),
     CURRENT),
    ("ReplicaSet unavailable", APPS, "ReplicaSet", obj(TWO, REPLICAS | {"availableReplicas": 1}), IN_PROGRESS),
    ("ReplicaSet unready", APPS, "ReplicaSet", obj(TWO, REPLICAS | {"readyReplicas": 1}), IN_PROGRESS),
    ("ReplicaSet surplus", APPS, "ReplicaSet", obj(TWO, REPLICAS | {"replicas": 3}), IN_PROGRESS),
    ("ReplicaSet unlabelled", APPS, "ReplicaSet",
     obj({"replicas": 1}, {"replicas": 1, "availableReplicas": 1, "readyReplicas": 1}), IN_PROGRESS),
    ("ReplicaSet failure", APPS, "ReplicaSet", obj(TWO, REPLICAS, condition("ReplicaFailure")), IN_PROGRESS),
    ("DaemonSet", APPS, "DaemonSet", obj({}, DAEMONS), CURRENT),
    ("DaemonSet of no node", APPS, "DaemonSet",
     obj({}, {"observedGeneration": 1, "desiredNumberScheduled": 0}), CURRENT),
    ("DaemonSet not observed", APPS, "DaemonSet", obj(), IN_PROGRESS),
    *((f"DaemonSet {count}", APPS, "DaemonSet", obj({}, DAEMONS | {count: 1}), IN_PROGRESS)
      for count in ("currentNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady")),
    ("PVC bound", "", "PersistentVolumeClaim", obj({}, {"phase": "Bound"}), CURRENT),
    ("PVC pending", "", "PersistentVolumeClaim", obj({}, {"phase": "Pending"}), IN_PROGRESS),
    ("Pod succeeded", "", "Pod", obj({}, {"phase": "Succeeded"}), CURRENT),
    ("Pod failed", "", "Pod", obj({}, {"phase": "Failed"}), CURRENT),
    ("Pod ready", "", "Pod", obj({}, {"phase": "Running"}, condition("Ready")), CURRENT),
    ("Pod unready", "", "Pod", obj({}, {"phase": "Running"}), IN_PROGRESS),
    ("Pod crashing", "", "Pod", obj({}, {"phase": "Running"} | WAITING), FAILED),
    ("Pod just unschedulable", "", "Pod", obj({}, {"phase": "Pending"}, unschedulable(5)), IN_PROGRESS),
    ("Pod long unschedulable", "", "Pod", obj({}, {"phase": "Pending"}, unschedulable(20)), FAILED),
    ("PDB", "policy", "PodDisruptionBudget", obj({}, {"observedGeneration": 1}), CURRENT),
    ("Job running", "batch", "Job", obj(), IN_PROGRESS),
    ("Job suspended", "batch", "Job", obj({"suspend": True}), CURRENT),
    ("Job complete", "batch", "Job", obj({}, {}, condition("Complete")), CURRENT),
    ("Job complete and deleting", "batch", "Job", obj({}, {}, condition("Complete"), deletionTimestamp="t"), CURRENT),
    ("Job failed", "batch", "Job", obj({}, {}, condition("Failed")), FAILED),
    ("CRD", "apiextensions.k8s.io", "CustomResourceDefinition", obj({}, {}, condition("Established")), CURRENT),
    ("CRD new", "apiextensions.k8s.io", "CustomResourceDefinition", obj(), IN_PROGRESS),
    ("CRD installing", "apiextensions.k8s.io", "CustomResourceDefinition",
     obj({}, {}, condition("Established", "False", "Installing")), IN_PROGRESS),
    ("CRD not established", "apiextensions.k8s.io", "CustomResourceDefinition",
     obj({}, {}, condition("Established", "False", "NotAccepted")), FAILED),
    ("CRD refused", "apiextensions.k8s.io", "CustomResourceDefinition",
     obj({}, {}, condition("NamesAccepted", "False")), FAILED),
]


@pytest.mark.spec("KS-HC-01")
@pytest.mark.parametrize(("group", "kind", "content", "status"), [pytest.param(*r[1:], id=r[0]) for r in RULES])
def test_each_kind_has_its_rule(group: str, kind: str, content: dict[str, Any], status: Status) -> None:
    assert assess(Reference(group, kind, "a", "x"), content, now=NOW).status is status


REPLICA_SET = Reference("apps", "ReplicaSet", "a", "x")


def pod(**metadata: Any) -> dict[str, Any]:
    return obj({}, {"phase": "Running"} | WAITING, **metadata)


@pytest.mark.spec("KS-HC-01")
def test_a_replica_set_with_a_crashing_pod_has_failed() -> None:
    health = assess(REPLICA_SET, obj(), now=NOW, pods=[pod()])
    assert health == Health(FAILED, "pod x: crashing: c")


@pytest.mark.spec("KS-HC-01")
def test_a_deleting_or_unschedulable_pod_does_not_fail_its_replica_set() -> None:
    unscheduled = obj({}, {"phase": "Pending"}, unschedulable(60))
    pods = [pod(deletionTimestamp="t"), unscheduled]
    assert assess(REPLICA_SET, obj(), now=NOW, pods=pods).status is IN_PROGRESS


def test_a_verdict_that_time_changes_says_when() -> None:
    health = assess(Reference("", "Pod", "a", "x"), obj({}, {"phase": "Pending"}, unschedulable(5)), now=NOW)
    assert health.recheck is not None
    assert 10 < health.recheck < 11


@pytest.mark.parametrize("content", [{}, {"status": None}, {"status": {"conditions": "x"}}, {"spec": []}])
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"])
def test_an_object_of_odd_shape_is_no_crash(kind: str, content: dict[str, Any]) -> None:
    assert assess(Reference("apps", kind, "a", "x"), content, now=NOW).status in Status
