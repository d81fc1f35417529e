"""Waiting for dependencies and for health, on events and without a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.engine.scope import RunScope
from headrace.kube.client import MERGE_PATCH, STRATEGIC_MERGE_PATCH
from headrace.model.outcome import Condition
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, deployment

NOWHERE = {"nodeSelector": {"kubernetes.io/hostname": "no-such-node"}}


@pytest.mark.spec("KS-HC-02")
async def test_a_deployment_is_waited_for_and_nothing_else(world: World, engine: RunningEngine) -> None:
    world.commit({"web.yaml": deployment("web", 2)})
    await world.source()
    absent = {"kind": "Deployment", "name": "absent", "namespace": world.namespace}
    await world.kustomization(targetNamespace=world.namespace, wait=True, healthChecks=[absent], timeout="1h")
    ks = await world.ready()
    assert condition(ks, "Healthy")["reason"] == "Succeeded"
    assert condition(ks, "Healthy")["message"].startswith("Health check passed in ")
    web = await world.get("apps/v1", "Deployment", "web")
    assert web is not None
    assert web["status"]["readyReplicas"] == 2
    event = await world.until_event("Health check passed in ")
    assert f"Deployment/{world.namespace}/web created\n" in event["message"]
    await world.push({"web.yaml": deployment("web", 3)})
    await world.until_event(f"Deployment/{world.namespace}/web configured\nHealth check passed in ")


@pytest.mark.spec("KS-REC-07")
async def test_a_run_says_what_it_does_one_step_after_the_other(
    world: World, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, str]] = []
    progress = RunScope.progress

    async def listen(scope: RunScope, reason: str, message: str, conditions: Sequence[Condition] = ()) -> None:
        if scope.reference == world.reference():
            said.append((reason, message))
        await progress(scope, reason, message, conditions)

    monkeypatch.setattr(RunScope, "progress", listen)
    revision = world.commit({"web.yaml": deployment("web", 1)})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, wait=True)
    await world.ready()
    steps = ("Fetching manifests", "Building manifests", "Detecting drift", "Running health checks")
    assert said[:4] == [
        ("Progressing", f"{step} for revision {revision} with a timeout of 59m30s") for step in steps]


@pytest.mark.spec("REL-23", "KS-HC-12")
async def test_a_commit_ends_the_wait_for_a_pod_that_can_never_be_scheduled(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"web.yaml": deployment("web", 1, **NOWHERE)})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, wait=True, timeout="1h")
    await world.until(KUSTOMIZATION, "app", lambda o: condition(o, "Healthy").get("status") == "Unknown")

    revision = await world.push({"web.yaml": deployment("web", 1)})

    await world.ready(revision=revision)


@pytest.mark.spec("KS-HC-04", "KS-SPEC-05")
async def test_what_does_not_come_is_named_when_time_is_up(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    check = {"kind": "Deployment", "name": "absent", "namespace": world.namespace}
    await world.kustomization(targetNamespace=world.namespace, healthChecks=[check], timeout="1s")
    ks = await world.failed(reason="HealthCheckFailed")
    message = condition(ks, "Ready")["message"]
    assert message.startswith("health check failed after 30")
    assert message.endswith(f"timeout waiting for: [Deployment/{world.namespace}/absent status: 'NotFound']")
    assert condition(ks, "Healthy")["status"] == "False"


@pytest.mark.spec("KS-HC-05", "KS-HC-10")
async def test_a_failed_job_ends_the_wait_for_all_at_once_and_its_repair_is_noticed(
    world: World, engine: RunningEngine
) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]} | NOWHERE
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
           "spec": {"activeDeadlineSeconds": 1, "template": {"spec": pod}}}
    world.commit({"j.yaml": job, "web.yaml": deployment("web", 1, **NOWHERE)})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, wait=True, timeout="1h", force=True)
    await world.failed(
        reason="HealthCheckFailed",
        text=f"failed early due to stalled resources: [Job/{world.namespace}/j status: 'Failed']",
    )
    done = await world.until_event(f"Job/{world.namespace}/j created")
    assert (done["type"], done["reason"]) == ("Normal", "Progressing"), "what a failed run has done is told too"
    job["spec"] = {"template": {"spec": {k: v for k, v in pod.items() if k != "nodeSelector"}}}
    revision = await world.push({"j.yaml": job, "web.yaml": deployment("web", 1)})
    await world.ready(revision=revision)
    await world.until_event("Health check passed in ")

    await world.request(KUSTOMIZATION, "app")
    again = await world.until_event("Reconciliation finished in ")
    assert "Health check passed" not in again["message"], "it was healthy before"


async def test_a_pod_that_crashes_ends_the_wait_for_its_stateful_set_at_once(
    world: World, engine: RunningEngine
) -> None:
    database = deployment("db", 1, nodeName="no-such-node") | {"kind": "StatefulSet"}
    database["spec"]["serviceName"] = "db"
    world.commit({"db.yaml": database})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, wait=True, timeout="1h")
    pods = await world.resource("v1", "Pod")
    await world.until(pods, "db-0", lambda o: True)
    await world.until(KUSTOMIZATION, "app", lambda o: condition(o, "Healthy").get("status") == "Unknown")

    crashed = {"name": "main", "image": "x", "imageID": "", "ready": False, "restartCount": 7,
               "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}
    body = msgspec.json.encode({"status": {"phase": "Running", "containerStatuses": [crashed]}})
    await world.client.patch(
        pods, world.namespace, "db-0", body, content_type=STRATEGIC_MERGE_PATCH, subresource="status")

    text = f"failed early due to stalled resources: [StatefulSet/{world.namespace}/db status: 'Failed']"
    await world.failed(reason="HealthCheckFailed", text=text)


@pytest.mark.spec("KS-HC-07")
async def test_a_job_that_goes_away_when_it_is_done_is_a_success_and_not_run_in_a_loop(
    world: World, engine: RunningEngine
) -> None:
    jobs = await world.resource("batch/v1", "Job")
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
           "spec": {"ttlSecondsAfterFinished": 0, "template": {"spec": pod}}}
    world.commit({"j.yaml": job, "a.yaml": config_map("a", k="1")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, wait=True, timeout="1h")
    await world.ready()
    await world.until_gone(jobs, "j")
    assert f"Job/{world.namespace}/j drifted" not in [
        str(cause) for trace in engine.traces(world.reference()) for cause in trace.causes]
    token = await world.request(KUSTOMIZATION, "app")
    await world.handled("app", token)
    await engine.until_trace(world.reference(), lambda t: f"Job/{world.namespace}/j created: does not exist" in t.notes)


async def test_health_that_returns_by_itself_wakes_the_kustomization(world: World, engine: RunningEngine) -> None:
    group = f"{world.namespace}.example.com"
    definition = definition_of(group)
    crds = await world.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    await world.client.create(crds, "", msgspec.json.encode(definition))
    widgets = await world.discovery.wait(group, "Widget")
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}}
    world.commit({"w.yaml": widget})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, wait=True, timeout="1h")
    try:
        await world.until(widgets, "w", lambda o: True)
        await world.ready()
        await set_status(world, widgets, [{"type": "Stalled", "status": "True"}])
        token = await world.request(KUSTOMIZATION, "app")
        await world.handled("app", token)
        await world.failed(reason="HealthCheckFailed")
        await set_status(world, widgets, [])
        await world.ready()
    finally:
        await world.delete(KUSTOMIZATION, "app")
        await world.until_gone(KUSTOMIZATION, "app")
        await world.client.delete(crds, "", definition["metadata"]["name"])


async def set_status(world: World, resource: Any, conditions: list[Any]) -> None:
    body = msgspec.json.encode({"status": {"conditions": conditions}})
    await world.client.patch(resource, world.namespace, "w", body, content_type=MERGE_PATCH)


def definition_of(group: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
                 "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}]},
    }


@pytest.mark.spec("KS-DEP-01", "KS-DEP-02")
async def test_a_dependency_that_becomes_ready_wakes_its_dependent(world: World, engine: RunningEngine) -> None:
    world.commit({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b")})
    await world.source()
    await world.kustomization("two", path="two", targetNamespace=world.namespace, dependsOn=[{"name": "one"}])
    missing = f"dependency '{world.namespace}/one' not found: "
    await world.failed("two", reason="DependencyNotReady", text=missing)
    assert await world.get("v1", "ConfigMap", "b") is None

    await world.kustomization("one", path="one", targetNamespace=world.namespace)
    await world.ready("two")
    woken_by = f"Kustomization/{world.namespace}/one changed (readiness)"
    await engine.until_caused(world.reference("two"), woken_by)


@pytest.mark.spec("KS-DEP-03")
async def test_with_one_source_the_dependency_must_have_the_revision(world: World, engine: RunningEngine) -> None:
    world.commit({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b")})
    await world.source()
    await world.kustomization("one", path="one", targetNamespace=world.namespace)
    await world.kustomization("two", path="two", targetNamespace=world.namespace, dependsOn=[{"name": "one"}])
    await world.ready("two")

    await world.patch(KUSTOMIZATION, "one", {"spec": {"suspend": True}})
    await world.until(KUSTOMIZATION, "one", lambda o: o["status"]["observedGeneration"] == o["metadata"]["generation"])
    revision = await world.push({"two/b.yaml": config_map("b", k="2")})
    text = f"dependency '{world.namespace}/one' revision is not up to date"
    await world.failed("two", reason="DependencyNotReady", text=text)

    await world.patch(KUSTOMIZATION, "one", {"spec": {"suspend": False}})
    await world.ready("two", revision=revision)


@pytest.mark.spec("KS-REC-02", "KS-FIN-02")
async def test_a_suspended_kustomization_does_nothing_and_its_deletion_keeps_all(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    await world.patch(KUSTOMIZATION, "app", {"spec": {"suspend": True}})
    await world.push({"b.yaml": config_map("b")})
    token = await world.request(KUSTOMIZATION, "app")
    await world.handled("app", token)
    assert await world.get("v1", "ConfigMap", "b") is None
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")
    assert await world.get("v1", "ConfigMap", "a") is not None


@pytest.mark.spec("KS-DEP-07")
async def test_an_object_that_waits_for_a_dependency_can_be_deleted(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    await world.patch(KUSTOMIZATION, "app", {"spec": {"dependsOn": [{"name": "absent"}]}})
    await world.failed(reason="DependencyNotReady")
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")
    assert await world.get("v1", "ConfigMap", "a") is None
