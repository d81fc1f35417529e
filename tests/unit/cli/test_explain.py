"""explain: from an object that is not Ready to the one thing that has to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from headrace.api.meta import KUSTOMIZE_GROUP, SOURCE_GROUP
from headrace.cli.explain import text
from headrace.cli.explain.verdict import State, file_in, judge, objects_in
from headrace.cli.explain.walk import Event, Explainer, Finding, NextRun, Unreadable
from headrace.kube.objects import decode_object
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

SINCE = "2026-11-21T11:00:00Z"
NOW = 1795258800.0 + 90  # 90 seconds after SINCE


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": SINCE,
            "observedGeneration": 1}  # fmt: skip


def live(api_version: str, kind: str, name: str, *, namespace: str = "apps", **content: Any) -> LiveObject:
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1,
                "creationTimestamp": SINCE, **content.pop("metadata", {})}  # fmt: skip
    body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}
    return decode_object(msgspec.json.encode(body))


def kustomization(
    name: str, ready: dict[str, Any] | None, *, spec: dict[str, Any] | None = None, **status: Any
) -> LiveObject:
    conditions = [ready] if ready else []
    base = {"sourceRef": {"kind": "GitRepository", "name": "repo"}, "interval": "1m", "prune": True}
    return live(f"{KUSTOMIZE_GROUP}/v1", "Kustomization", name, spec=base | (spec or {}),
                status={"conditions": conditions, **status})  # fmt: skip


def repository(ready: dict[str, Any]) -> LiveObject:
    return live(f"{SOURCE_GROUP}/v1", "GitRepository", "repo", spec={"url": "https://git.example/x"},
                status={"conditions": [ready]})  # fmt: skip


READY = condition("Ready", "True", "ReconciliationSucceeded", "Applied revision: main@sha1:" + "a" * 40)


class World:
    """Objects as given; nothing else exists."""

    def __init__(self, *objects: LiveObject, event: Event | None = None, forbidden: str = "") -> None:
        self._objects = {o.reference: o for o in objects}
        self._event = event
        self._forbidden = forbidden

    async def get(self, reference: Reference) -> LiveObject | None:
        if reference.kind == self._forbidden:
            raise Unreadable(f"{reference} is forbidden")
        return self._objects.get(reference)

    async def owned(self, owner: LiveObject, group: str, kind: str) -> Sequence[LiveObject]:
        return [
            o for o in self._objects.values()
            if o.reference.group_kind == (group, kind)
            and any(r.uid == owner.metadata.uid for r in o.metadata.owner_references or ())
        ]  # fmt: skip

    async def warning(self, live: LiveObject) -> Event | None:
        return self._event

    async def next_run(self, reference: Reference) -> NextRun | None:
        return NextRun("2026-11-21T11:02:00Z", ("Kustomization/apps/base",))


def owner(o: LiveObject) -> dict[str, Any]:
    return {"ownerReferences": [{"kind": o.reference.kind, "name": o.reference.name, "uid": o.metadata.uid}]}


async def explain(first: LiveObject, *others: LiveObject, **world: Any) -> Finding:
    return await Explainer(World(first, *others, **world)).explain(first.reference)


async def test_a_chain_of_dependencies_ends_at_the_pod_that_cannot_be_scheduled() -> None:
    labels = {"deployment.kubernetes.io/revision": "2"}
    deployment = live("apps/v1", "Deployment", "web", spec={"replicas": 1},
                      status={"observedGeneration": 1, "conditions": [condition("Available", "False", "M")]})
    old = live("apps/v1", "ReplicaSet", "old", spec={"replicas": 0}, metadata=owner(deployment) | {
        "annotations": {"deployment.kubernetes.io/revision": "1"}})  # fmt: skip
    new = live(
        "apps/v1", "ReplicaSet", "new", spec={"replicas": 1}, metadata=owner(deployment) | {"annotations": labels}
    )
    pod = live("v1", "Pod", "web-1", metadata=owner(new), spec={"nodeSelector": {"disk": "ssd"}}, status={
        "conditions": [condition("PodScheduled", "False", "Unschedulable",
                                 "0/2 nodes are available: 2 didn't match Pod's node affinity/selector.")]})
    base = kustomization(
        "base", condition("Ready", "Unknown", "Progressing", "Running health checks"),
        inventory={"entries": [{"id": "apps_web_apps_Deployment", "v": "v1"}]},
    )  # fmt: skip
    top = kustomization(
        "top", condition("Ready", "False", "DependencyNotReady", "dependency 'apps/base' is not ready"),
        spec={"dependsOn": [{"name": "base"}]},
    )  # fmt: skip

    finding = await explain(top, base, deployment, old, new, pod, repository(READY))
    out = text.lines(finding, NOW)

    assert finding.root.reference == pod.reference
    assert "Unschedulable" in out[-4]
    assert "to unblock: add a node with the label disk=ssd, or change the nodeSelector of the pod template" in out
    assert "blocked since: 2026-11-21T11:00:00Z (1m30s)" in out
    assert "next wake-up: on a change of Kustomization/apps/base, at the latest in 30s" in out
    assert [line.count("    ") for line in out[:5]] == [0, 0, 1, 2, 3]


async def test_a_broken_manifest_is_named_with_its_file_and_object() -> None:
    message = "Deployment/apps/web dry-run failed (Invalid): spec.replicas: Invalid value (app/deployment.yaml)"
    finding = await explain(kustomization("app", condition("Ready", "False", "ReconciliationFailed", message)))
    out = text.encode(finding)
    assert out["rootCause"]["file"] == "app/deployment.yaml"
    assert "Deployment/apps/web" in out["rootCause"]["message"]
    assert out["unblock"] == "correct app/deployment.yaml and push"


async def test_a_source_that_fails_is_the_cause_though_the_kustomization_is_ready() -> None:
    failing = repository(condition("Ready", "False", "AuthenticationFailed", "authentication required"))
    finding = await explain(kustomization("app", READY), failing)
    assert finding.sound
    assert finding.root.reference == failing.reference
    assert text.unblock(finding) == "correct the Secret named in spec.secretRef"


async def test_a_ready_object_is_just_said_to_be_ready() -> None:
    finding = await explain(kustomization("app", READY), repository(READY))
    out = text.lines(finding, NOW)
    assert out[0].startswith(
        "Kustomization/apps/app is Ready: ReconciliationSucceeded: Applied revision: main@sha1:aaaaaaaa"
    )
    assert not any(line.startswith("root cause") for line in out)


async def test_a_missing_dependency_is_the_cause() -> None:
    top = kustomization(
        "top", condition("Ready", "False", "DependencyNotReady"), spec={"dependsOn": [{"name": "gone"}]}
    )
    finding = await explain(top)
    assert text.unblock(finding) == "create Kustomization/apps/gone, or correct the reference"


async def test_a_cycle_of_dependencies_is_named() -> None:
    waiting = condition("Ready", "False", "DependencyNotReady")
    a = kustomization("a", waiting, spec={"dependsOn": [{"name": "b"}]})
    b = kustomization("b", waiting, spec={"dependsOn": [{"name": "a"}]})
    finding = await explain(a, b)
    assert finding.root.verdict.reason == "DependencyCycle"
    assert finding.root.verdict.message == "Kustomization/apps/a -> Kustomization/apps/b -> Kustomization/apps/a"


async def test_a_suspended_dependency_is_to_be_resumed() -> None:
    top = kustomization(
        "top", condition("Ready", "False", "DependencyNotReady"), spec={"dependsOn": [{"name": "base"}]}
    )
    finding = await explain(top, kustomization("base", READY, spec={"suspend": True}))
    assert text.unblock(finding) == "headrace resume kustomization base -n apps"


async def test_what_cannot_be_read_is_said_and_not_guessed() -> None:
    top = kustomization("top", condition("Ready", "False", "ArtifactFailed", "no artifact"))
    finding = await explain(top, forbidden="GitRepository")
    assert finding.root.verdict.state is State.UNREADABLE


async def test_the_newest_warning_explains_an_object_without_a_verdict() -> None:
    claim = live("v1", "PersistentVolumeClaim", "data", spec={}, status={"phase": "Pending"})
    top = kustomization("top", condition("Ready", "False", "HealthCheckFailed", "timeout waiting for: [...]"),
                        inventory={"entries": [{"id": "apps_data__PersistentVolumeClaim", "v": "v1"}]})  # fmt: skip
    finding = await explain(top, claim, event=Event("ProvisioningFailed", "storageclass 'fast' not found"))
    assert "ProvisioningFailed: storageclass 'fast' not found" in "\n".join(text.lines(finding, NOW))


@pytest.mark.parametrize(
    ("status", "state", "part"),
    [
        pytest.param({"phase": "Pending", "containerStatuses": [
            {"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]},
            State.FAILED, "container c: no such image", id="image"),
        pytest.param({"phase": "Running", "containerStatuses": [
            {"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}]},
            State.FAILED, "back-off", id="crash"),
        pytest.param({"phase": "Running", "conditions": [condition("Ready", "True", "x")]}, State.READY, "",
                     id="ready"),
        pytest.param({"phase": "Succeeded"}, State.READY, "", id="succeeded"),
        pytest.param({"phase": "Failed", "reason": "Evicted", "message": "disk"}, State.FAILED, "disk", id="evicted"),
        pytest.param({"phase": "Running", "conditions": [condition("Ready", "False", "ContainersNotReady", "probe")]},
                     State.PROGRESSING, "probe", id="probe"),
    ],
)  # fmt: skip
def test_a_pod_is_judged_by_its_containers(status: dict[str, Any], state: State, part: str) -> None:
    verdict = judge(live("v1", "Pod", "p", spec={}, status=status))
    assert verdict.state is state
    assert part in verdict.message


def test_a_replica_set_that_may_not_create_pods_says_why() -> None:
    failure = condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota: small")
    verdict = judge(live("apps/v1", "ReplicaSet", "r", spec={"replicas": 1}, status={"conditions": [failure]}))
    assert (verdict.state, verdict.reason) == (State.FAILED, "FailedCreate")
    assert "exceeded quota" in verdict.unblock


@pytest.mark.parametrize(
    ("message", "file"),
    [
        ("build failed: accumulating resources: 'app/deployment.yaml': yaml: line 3", "app/deployment.yaml"),
        ("cannot fetch https://host/path/x.yaml", ""),
        ("Deployment/apps/web dry-run failed", ""),
        ("wrong (./kustomization.yml)", "kustomization.yml"),
    ],
)
def test_the_file_is_found_in_messages(message: str, file: str) -> None:
    assert file_in(message).removeprefix("./") == file


def test_objects_are_found_in_messages() -> None:
    assert objects_in(
        "timeout waiting for: [Deployment/apps/web status: 'InProgress', Namespace/x status: 'Failed']"
    ) == (
        "Deployment/apps/web",
        "Namespace/x",
    )


def test_what_no_controller_writes_is_not_waited_for() -> None:
    registry = live(f"{SOURCE_GROUP}/v1", "HelmRepository", "charts", spec={"type": "oci", "url": "oci://r.example/c"})
    offered = {"artifact": {"url": "http://a.example/x.tar.gz", "path": "x.tar.gz", "revision": "v1"}}
    assert judge(registry).state is State.READY
    assert judge(live(f"{SOURCE_GROUP}/v1", "ExternalArtifact", "app", status=offered)).state is State.READY
    missing = judge(live(f"{SOURCE_GROUP}/v1", "ExternalArtifact", "app"))
    assert (missing.state, missing.unblock) == (State.WAITING, "its producer has to offer an artifact")
