"""What starts a run, and what a run says of itself in status and events."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH
from headrace.kube.resource import Resource
from tests.cluster.kustomization.test_spec_fields import ACCOUNTS, ROLE_BINDINGS, ROLES, create
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, deployment

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
SECRETS = Resource("", "v1", "Secret", "secrets", namespaced=True)
GROUP = "kustomize.toolkit.fluxcd.io"


def causes(engine: RunningEngine, world: World) -> list[str]:
    return [str(cause) for trace in engine.traces(world.reference()) for cause in trace.causes]


@pytest.mark.spec("KS-REC-04")
async def test_a_source_that_was_looked_at_without_news_starts_no_run(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
    source = f"GitRepository/{world.namespace}/app changed (artifact)"
    before = causes(engine, world).count(source)

    token = await world.request(GIT_REPOSITORY, "app")
    await world.until(GIT_REPOSITORY, "app", lambda o: o["status"].get("lastHandledReconcileAt") == token)
    # The next revision comes by the same watch: when it has been acted on, the event before has been judged too.
    revision = await world.push({"a.yaml": config_map("a", k="2")})
    await world.ready(revision=revision)
    await engine.until_trace(world.reference(), lambda trace: revision in trace.message)

    assert causes(engine, world).count(source) == before + 1


@pytest.mark.spec("KS-REC-05", "KS-SUB-06")
async def test_a_labelled_secret_starts_a_run_when_it_changes_and_when_it_goes(
    world: World, engine: RunningEngine
) -> None:
    encoded = [base64.b64encode(value).decode() for value in (b"one", b"two")]
    labelled = {"name": "vars", "labels": {"reconcile.fluxcd.io/watch": "Enabled"}}
    await create(world, SECRETS, "vars", metadata=labelled, data={"v": encoded[0]})
    world.commit({"a.yaml": config_map("a", k="${v}")})
    await world.source()
    await world.kustomization(
        targetNamespace=world.namespace, postBuild={"substituteFrom": [{"kind": "Secret", "name": "vars"}]})
    await world.ready()
    patch = msgspec.json.encode({"data": {"v": encoded[1]}})
    await world.client.patch(SECRETS, world.namespace, "vars", patch, content_type=MERGE_PATCH)
    await world.until(CONFIG_MAPS, "a", lambda o: o["data"] == {"k": "two"})
    await world.client.delete(SECRETS, world.namespace, "vars")
    await world.failed(reason="BuildFailed", text="""substitute from 'Secret/vars' error: secrets "vars" not found""")


@pytest.mark.spec("KS-REC-11", "KS-REC-13", "KS-REC-14")
async def test_the_origin_of_an_artifact_is_told_in_status_history_and_event(
    world: World, engine: RunningEngine
) -> None:
    revision, origin = world.commit({"a.yaml": config_map("a")}), "v1.2.3@sha1:0123456789abcdef"
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    # No source of ours states an origin, those of images do: a suspended one is left as somebody else wrote it.
    await world.patch(GIT_REPOSITORY, "app", {"spec": {"suspend": True}})
    sources = await world.resource(GIT_REPOSITORY.api_version, "GitRepository")
    stated = {"status": {"artifact": {"metadata": {"org.opencontainers.image.revision": origin}}}}
    await world.client.patch(sources, world.namespace, "app", msgspec.json.encode(stated),
                             content_type=MERGE_PATCH, subresource="status")
    await world.patch(KUSTOMIZATION, "app", {"metadata": {"annotations": {"event.toolkit.fluxcd.io/team": "a"}}})
    token = await world.request(KUSTOMIZATION, "app")

    ks = await world.until(KUSTOMIZATION, "app", lambda o: "lastAppliedOriginRevision" in o["status"])
    await world.handled("app", token)

    assert ks["status"]["lastAppliedOriginRevision"] == origin
    assert ks["status"]["history"][0]["metadata"] == {"revision": revision, "originRevision": origin}
    event = await world.until_event("Reconciliation finished in ")
    assert (event["type"], event["reason"]) == ("Normal", "ReconciliationSucceeded")
    assert event["metadata"]["annotations"] == {
        f"{GROUP}/revision": revision, f"{GROUP}/originRevision": origin, f"{GROUP}/commit_status": "update",
        "event.toolkit.fluxcd.io/team": "a"}
    await world.patch(KUSTOMIZATION, "app", {"spec": {"path": "none"}})
    event = await world.until_event("kustomization path not found")
    assert event["metadata"]["annotations"] == {
        f"{GROUP}/revision": revision, f"{GROUP}/originRevision": origin, "event.toolkit.fluxcd.io/team": "a"}
    await world.patch(KUSTOMIZATION, "app", {"spec": {"dependsOn": [{"name": "absent"}]}})
    event = await world.until_event("dependency ")
    assert event["metadata"]["annotations"][f"{GROUP}/originRevision"] == origin
    await world.delete(KUSTOMIZATION, "app")
    event = await world.until_event(f"ConfigMap/{world.namespace}/a deleted")
    assert event["metadata"]["annotations"][f"{GROUP}/originRevision"] == origin


async def test_objects_that_nobody_may_delete_any_more_are_named(world: World, engine: RunningEngine) -> None:
    await create(world, ACCOUNTS, "tenant")
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    await create(world, ROLES, "tenant", rules=[rule])
    await create(world, ROLE_BINDINGS, "tenant",
                 subjects=[{"kind": "ServiceAccount", "name": "tenant", "namespace": world.namespace}],
                 roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"})
    revision = world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="tenant")
    await world.ready()
    await world.client.delete(ACCOUNTS, world.namespace, "tenant")
    await world.delete(KUSTOMIZATION, "app")
    event = await world.until_event("unable to prune objects")
    assert event["message"].endswith(f"\nConfigMap/{world.namespace}/a")
    assert event["metadata"]["annotations"] == {f"{GROUP}/revision": revision}


@pytest.mark.spec("KS-REC-15")
async def test_health_is_said_only_while_something_is_checked(world: World, engine: RunningEngine) -> None:
    world.commit({"web.yaml": deployment("web", 0)})
    await world.source()
    check: dict[str, Any] = {"kind": "Deployment", "name": "web", "namespace": world.namespace}
    await world.kustomization(targetNamespace=world.namespace, healthChecks=[check])
    assert condition(await world.ready(), "Healthy")["status"] == "True"
    await world.patch(KUSTOMIZATION, "app", {"spec": {"healthChecks": []}})
    ks = await world.until(KUSTOMIZATION, "app", lambda o: o["status"].get("observedGeneration") == 2)
    assert [c["type"] for c in ks["status"]["conditions"]] == ["Ready"]
