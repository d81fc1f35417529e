"""Labels and annotations with which an object steers its own delivery."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import RunningEngine, World, config_map, deployment, inventory

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
SSA, RECONCILE = "kustomize.toolkit.fluxcd.io/ssa", "kustomize.toolkit.fluxcd.io/reconcile"


def steered(content: dict[str, Any], where: str = "annotations", **values: str) -> dict[str, Any]:
    content["metadata"][where] = {f"kustomize.toolkit.fluxcd.io/{key}": value for key, value in values.items()}
    return content


async def data(world: World, name: str) -> Any:
    found = await world.get("v1", "ConfigMap", name)
    return None if found is None else found.get("data", {})


async def annotate(world: World, name: str, **values: str) -> None:
    patch = msgspec.json.encode({"metadata": {"annotations": values}})
    await world.client.patch(CONFIG_MAPS, world.namespace, name, patch, content_type=MERGE_PATCH, field_manager="x")


@pytest.mark.spec("KS-ANN-02", "KS-ANN-03", "KS-ANN-04", "KS-ANN-05", "KS-INV-02", "KS-HC-03")
async def test_an_object_says_itself_whether_and_how_it_is_applied(world: World, engine: RunningEngine) -> None:
    made = config_map("merged", k="0", theirs="x")
    made["metadata"]["annotations"] = {LAST_APPLIED: "{}"}
    await world.client.create(
        CONFIG_MAPS, world.namespace, msgspec.json.encode(made), field_manager="kubectl-client-side-apply")
    files = {
        "merged.yaml": steered(config_map("merged", k="1"), ssa="Merge"),
        "once.yaml": steered(config_map("once", k="1"), ssa="ifnotpresent"),
        "ignored.yaml": steered(deployment("ignored"), "labels", ssa="Ignore"),
        "paused.yaml": steered(config_map("paused", k="1"), reconcile="DISABLED"),
        "plain.yaml": config_map("plain", k="1"),
    }
    world.commit(files)
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, wait=True, timeout="1h")

    ks = await world.ready()

    assert await data(world, "merged") == {"k": "1", "theirs": "x"}
    assert await data(world, "once") == {"k": "1"}
    assert await world.get("apps/v1", "Deployment", "ignored") is None
    assert await data(world, "paused") is None
    assert f"{world.namespace}_ignored_apps_Deployment" in inventory(ks)
    assert f"{world.namespace}_paused__ConfigMap" in inventory(ks)

    files["once.yaml"]["data"] = files["plain.yaml"]["data"] = {"k": "2"}
    await world.ready(revision=await world.push(files))
    assert await data(world, "once") == {"k": "1"}
    assert await data(world, "plain") == {"k": "2"}


@pytest.mark.spec("KS-GC-05", "KS-GC-03")
async def test_what_is_paused_or_ignored_on_the_cluster_is_not_pruned(world: World, engine: RunningEngine) -> None:
    names = ("paused", "ignored", "kept", "once")
    once = steered(config_map("once"), ssa="IfNotPresent")
    world.commit({f"{name}.yaml": config_map(name) for name in names} | {"once.yaml": once, "a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()

    await annotate(world, "paused", **{RECONCILE: "disabled"})
    await annotate(world, "ignored", **{SSA: "Ignore"})
    await annotate(world, "kept", **{"kustomize.toolkit.fluxcd.io/prune": "disabled"})
    ks = await world.ready(revision=await world.push({f"{name}.yaml": None for name in names}))

    assert inventory(ks) == {f"{world.namespace}_a__ConfigMap"}
    assert [name for name in names if await data(world, name) is not None] == ["paused", "ignored", "kept"]


@pytest.mark.spec("KS-HC-03")
async def test_a_kustomization_that_delivers_itself_does_not_wait_for_itself(
    world: World, engine: RunningEngine
) -> None:
    spec = {"interval": "1h", "retryInterval": "1h", "prune": True, "wait": True, "timeout": "1h",
            "sourceRef": {"kind": "GitRepository", "name": "app"}, "targetNamespace": world.namespace,
            "deletionPolicy": "Orphan"}
    itself = {"apiVersion": KUSTOMIZATION.api_version, "kind": "Kustomization", "metadata": {"name": "app"},
              "spec": spec}
    world.commit({"itself.yaml": itself, "a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(**spec)
    ks = await world.ready()
    assert f"{world.namespace}_app_kustomize.toolkit.fluxcd.io_Kustomization" in inventory(ks)
