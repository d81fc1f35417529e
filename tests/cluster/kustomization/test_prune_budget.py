"""A run that would delete too much, or something precious, deletes nothing until a person has approved it."""

from __future__ import annotations

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.meta import APPROVE, PRUNE_BUDGET
from headrace.kube.client import MERGE_PATCH
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, inventory


async def annotate(world: World, key: str, value: str) -> None:
    await world.patch(KUSTOMIZATION, "app", {"metadata": {"annotations": {key: value}}})


async def deliver(world: World, **files: object) -> None:
    world.commit(files)
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()


async def test_more_deletions_than_the_budget_allows_wait_for_an_approval(world: World, engine: RunningEngine) -> None:
    await deliver(world, **{f"{name}.yaml": config_map(name) for name in "abc"})
    await annotate(world, PRUNE_BUDGET, "1")

    await world.push({"a.yaml": None, "b.yaml": None, "c.yaml": config_map("c", k="2"), "d.yaml": config_map("d")})

    held = await world.failed(reason="PruneHeld", text="2 objects are to be deleted, the budget is 1")
    assert {f"{world.namespace}_{name}__ConfigMap" for name in "abcd"} == inventory(held)
    for name in "abcd":
        assert await world.get("v1", "ConfigMap", name) is not None
    message = condition(held, "Ready")["message"]
    assert f"ConfigMap/{world.namespace}/a would be deleted" in message
    await world.until_event("deletion is held")

    command = message.splitlines()[0].rpartition(f"{APPROVE}=")
    await annotate(world, APPROVE, "something else")
    await engine.until_trace(world.reference(), lambda t: t.reason == "PruneHeld" and "approval" in str(t.causes))
    assert await world.get("v1", "ConfigMap", "a") is not None
    await annotate(world, APPROVE, command[2])
    await world.ready()
    assert await world.get("v1", "ConfigMap", "a") is None
    assert await world.get("v1", "ConfigMap", "b") is None


async def test_a_protected_kind_is_held_whatever_the_number_and_the_revision_approves(
    world: World, engine: RunningEngine
) -> None:
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}
    await deliver(world, **{"a.yaml": config_map("a"), "data.yaml": claim})
    await annotate(world, PRUNE_BUDGET, "10")
    revision = await world.push({"data.yaml": None})
    await world.failed(reason="PruneHeld", text=f"protected kinds are to be deleted: PersistentVolumeClaim/"
                                                f"{world.namespace}/data")
    await annotate(world, APPROVE, revision)
    await world.ready(revision=revision)


async def test_what_would_stay_anyway_does_not_count(world: World, engine: RunningEngine) -> None:
    await deliver(world, **{f"{name}.yaml": config_map(name) for name in "abc"})
    await annotate(world, PRUNE_BUDGET, "1")
    config_maps = await world.resource("v1", "ConfigMap")
    body = msgspec.json.encode({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/prune": "disabled"}}})
    await world.client.patch(
        config_maps, world.namespace, "b", body, content_type=MERGE_PATCH, field_manager="x")
    await engine.until_caused(world.reference(), f"ConfigMap/{world.namespace}/b drifted")
    await world.ready(revision=await world.push({"a.yaml": None, "b.yaml": None}))
    assert await world.get("v1", "ConfigMap", "a") is None
    assert await world.get("v1", "ConfigMap", "b") is not None


@pytest.mark.spec("KS-GC-01")
async def test_without_a_budget_everything_stale_is_deleted(world: World, engine: RunningEngine) -> None:
    await deliver(world, **{f"{name}.yaml": config_map(name) for name in "abc"})
    await world.ready(revision=await world.push({"a.yaml": None, "b.yaml": None}))
    assert await world.get("v1", "ConfigMap", "a") is None
