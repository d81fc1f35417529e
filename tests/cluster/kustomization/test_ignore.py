"""spec.ignore: fields that others may change."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import RunningEngine, World, config_map, deployment

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)


async def change(world: World, resource: Resource, name: str, patch: Any) -> None:
    await world.client.patch(resource, world.namespace, name, msgspec.json.encode(patch),
                             content_type=MERGE_PATCH, field_manager="autoscaler")


async def settled(world: World) -> None:
    await world.handled("app", await world.request(KUSTOMIZATION, "app"))


async def data(world: World, name: str) -> Any:
    found = await world.get("v1", "ConfigMap", name)
    assert found is not None
    return found["data"]


@pytest.mark.spec("KS-IGN-01", "KS-IGN-02", "KS-IGN-03", "KS-IGN-04", "KS-IGN-05")
async def test_ignored_fields_are_left_to_others_while_all_else_is_kept_right(
    world: World, engine: RunningEngine
) -> None:
    files = {"web.yaml": deployment("web", 0), "shared.yaml": config_map("shared", k="1", theirs="first"),
             "other.yaml": config_map("other", k="1", theirs="first")}
    world.commit(files)
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, ignore=[
        {"paths": ["/spec/replicas"], "target": {"kind": "Deploy.*"}},
        {"paths": ["/data/theirs"], "target": {"kind": "ConfigMap", "name": "share."}},
    ])
    await world.ready()
    assert await data(world, "shared") == {"k": "1", "theirs": "first"}, "created whole"

    await change(world, DEPLOYMENTS, "web", {"spec": {"replicas": 2}})
    await change(world, CONFIG_MAPS, "shared", {"data": {"theirs": "second"}})
    await change(world, CONFIG_MAPS, "other", {"data": {"theirs": "second"}})
    await world.until(CONFIG_MAPS, "other", lambda o: o["data"]["theirs"] == "first")
    await settled(world)
    web = await world.get("apps/v1", "Deployment", "web")
    assert web is not None
    assert web["spec"]["replicas"] == 2
    assert await data(world, "shared") == {"k": "1", "theirs": "second"}

    await change(world, CONFIG_MAPS, "shared", {"data": {"k": "changed"}})
    found = await world.until(CONFIG_MAPS, "shared", lambda o: o["data"]["k"] == "1")
    assert found["data"]["theirs"] == "second"

    body = msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"},
                                "data": {"theirs": "applied"}})
    await world.client.apply(CONFIG_MAPS, world.namespace, "shared", body, field_manager="their-controller", force=True)
    files["shared.yaml"] = config_map("shared", k="2", theirs="first")
    await world.ready(revision=await world.push(files))
    found = await world.until(CONFIG_MAPS, "shared", lambda o: o["data"]["k"] == "2")
    assert found["data"]["theirs"] == "applied"
    owners = {f["manager"] for f in found["metadata"]["managedFields"]
              if "f:theirs" in f["fieldsV1"].get("f:data", {})}
    assert owners == {"their-controller"}

    await world.patch(KUSTOMIZATION, "app", {"spec": {"ignore": None}})
    await world.until(CONFIG_MAPS, "shared", lambda o: o["data"]["theirs"] == "first")
    await world.until(DEPLOYMENTS, "web", lambda o: o["spec"]["replicas"] == 0)
