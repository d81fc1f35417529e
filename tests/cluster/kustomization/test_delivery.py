"""A user's day with a Kustomization, seen through the API server only."""

from __future__ import annotations

import pytest

from headrace.api.kinds import KUSTOMIZATION
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, inventory

OWNER_NAME = "kustomize.toolkit.fluxcd.io/name"
OWNER_NAMESPACE = "kustomize.toolkit.fluxcd.io/namespace"


@pytest.mark.spec("KS-GEN-01", "KS-REC-09", "KS-APPLY-15", "KS-REC-01", "KS-INV-01")
async def test_a_repository_is_delivered(world: World, engine: RunningEngine) -> None:
    revision = world.commit({"a.yaml": config_map("a", k="1"), "sub/b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)

    ks = await world.ready()

    assert condition(ks, "Ready")["message"] == f"Applied revision: {revision}"
    assert condition(ks, "Ready")["reason"] == "ReconciliationSucceeded"
    assert ks["metadata"]["finalizers"] == ["finalizers.fluxcd.io"]
    assert ks["status"]["lastAttemptedRevision"] == revision
    assert inventory(ks) == {f"{world.namespace}_a__ConfigMap", f"{world.namespace}_b__ConfigMap"}
    delivered = await world.get("v1", "ConfigMap", "a")
    assert delivered is not None
    assert delivered["data"] == {"k": "1"}
    assert delivered["metadata"]["labels"] == {OWNER_NAME: "app", OWNER_NAMESPACE: world.namespace}
    assert {f["manager"] for f in delivered["metadata"]["managedFields"]} == {"kustomize-controller"}


@pytest.mark.spec("KS-GC-01", "KS-FIN-01")
async def test_what_leaves_the_repository_is_pruned_and_the_rest_goes_with_the_kustomization(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()

    revision = await world.push({"b.yaml": None})
    ks = await world.ready(revision=revision)
    assert inventory(ks) == {f"{world.namespace}_a__ConfigMap"}
    assert await world.get("v1", "ConfigMap", "b") is None

    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")
    assert await world.get("v1", "ConfigMap", "a") is None
