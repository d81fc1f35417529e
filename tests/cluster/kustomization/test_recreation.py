"""spec.force: an object that cannot be changed is deleted and made anew."""

from __future__ import annotations

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, deployment

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)


@pytest.mark.spec("KS-FORCE-02", "KS-FORCE-03")
async def test_the_old_object_must_be_gone_before_the_new_one_is_made(world: World, engine: RunningEngine) -> None:
    held = config_map("a", k="1") | {"immutable": True}
    held["metadata"]["finalizers"] = ["example.com/hold"]
    held["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/force": "Enabled"}
    world.commit({"a.yaml": held})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    first = await world.get("v1", "ConfigMap", "a")
    assert first is not None

    revision = await world.push({"a.yaml": held | {"data": {"k": "2"}}})
    deleting = await world.until(CONFIG_MAPS, "a", lambda o: "deletionTimestamp" in o["metadata"])
    assert deleting["data"] == {"k": "1"}
    told = await world.until(KUSTOMIZATION, "app", lambda o: condition(o, "Ready")["status"] != "True")
    assert condition(told, "Ready")["reason"] == "Progressing"
    await release(world, "a")

    await world.ready(revision=revision)
    second = await world.get("v1", "ConfigMap", "a")
    assert second is not None
    assert second["data"] == {"k": "2"}
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    await release(world, "a")


@pytest.mark.spec("KS-FORCE-02")
@pytest.mark.parametrize("where", ["source", "cluster"])
async def test_force_may_be_asked_for_in_the_source_or_on_the_cluster_alone(
    world: World, engine: RunningEngine, where: str
) -> None:
    fixed = config_map("a", k="1") | {"immutable": True}
    world.commit({"a.yaml": fixed})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    first = await world.get("v1", "ConfigMap", "a")
    assert first is not None

    asking = {"metadata": {"name": "a", "annotations": {"kustomize.toolkit.fluxcd.io/force": "Enabled"}}}
    if where == "cluster":
        await world.client.patch(CONFIG_MAPS, world.namespace, "a", msgspec.json.encode(asking),
                                 content_type=MERGE_PATCH, field_manager="x")
    wanted = fixed | {"data": {"k": "2"}} | (asking if where == "source" else {})
    await world.ready(revision=await world.push({"a.yaml": wanted}))

    second = await world.get("v1", "ConfigMap", "a")
    assert second is not None
    assert second["data"] == {"k": "2"}
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


async def release(world: World, name: str) -> None:
    patch = msgspec.json.encode({"metadata": {"finalizers": None}})
    await world.client.patch(CONFIG_MAPS, world.namespace, name, patch, content_type=MERGE_PATCH, field_manager="x")


@pytest.mark.spec("KS-FORCE-04")
async def test_with_force_an_object_that_the_cluster_refuses_is_deleted_first(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"web.yaml": deployment("web", 0)})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, force=True)
    await world.ready()
    broken = deployment("web", -1)
    await world.push({"web.yaml": broken})
    await world.failed(reason="ReconciliationFailed", text=f"Deployment/{world.namespace}/web dry-run failed (Invalid)")
    await world.until_gone(DEPLOYMENTS, "web")

    await world.ready(revision=await world.push({"web.yaml": deployment("web", 0)}))
