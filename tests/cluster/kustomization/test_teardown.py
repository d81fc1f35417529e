"""What is deleted together is torn down in reverse order of dependencies."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH
from tests.cluster.kustomization.world import RunningEngine, World, config_map
from tests.own_namespace import NAMESPACES


async def finalizers(world: World, name: str, *names: str) -> None:
    """Keep an object, or let it go: with a finalizer its deletion is seen by when it was asked for."""
    resource = await world.resource("v1", "ConfigMap")
    body = msgspec.json.encode({"metadata": {"finalizers": list(names) or None}})
    await world.client.patch(resource, world.namespace, name, body, content_type=MERGE_PATCH)


async def chain(world: World, **spec: Any) -> None:
    world.commit({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b")})
    await world.source()
    await world.kustomization("one", path="one", targetNamespace=world.namespace, **spec)
    await world.kustomization(
        "two", path="two", targetNamespace=world.namespace, dependsOn=[{"name": "one"}], **spec)
    await world.ready("two")


async def test_a_dependency_outlives_its_dependents_when_both_are_deleted(world: World, engine: RunningEngine) -> None:
    await chain(world, deletionPolicy="WaitForTermination")
    await finalizers(world, "b", "example.com/kept")
    await world.delete(KUSTOMIZATION, "one")
    await world.delete(KUSTOMIZATION, "two")
    config_maps = await world.resource("v1", "ConfigMap")
    await world.until(config_maps, "b", lambda o: "deletionTimestamp" in o["metadata"])
    await engine.until_trace(world.reference("one"), lambda trace: trace.reason == "DependentsTerminating")
    a = await world.get("v1", "ConfigMap", "a")
    assert a is not None
    assert "deletionTimestamp" not in a["metadata"]

    await finalizers(world, "b")

    await world.until_gone(KUSTOMIZATION, "two")
    await world.until_gone(KUSTOMIZATION, "one")
    assert await world.get("v1", "ConfigMap", "a") is None


async def test_a_dependent_that_stays_holds_nothing(world: World, engine: RunningEngine) -> None:
    await chain(world)
    await world.delete(KUSTOMIZATION, "one")
    await world.until_gone(KUSTOMIZATION, "one")
    assert await world.get("v1", "ConfigMap", "b") is not None


async def test_a_namespace_goes_with_the_kustomizations_in_it(world: World, engine: RunningEngine) -> None:
    await chain(world)
    namespace = await world.get("v1", "Namespace", world.namespace, namespace="")
    assert namespace is not None
    await world.client.delete(NAMESPACES, "", world.namespace)
    await world.until_gone(NAMESPACES, world.namespace, namespace="")
    again = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}}
    await world.client.create(NAMESPACES, "", msgspec.json.encode(again))  # it is the fixture's to delete


@pytest.mark.spec("KS-DEP-07")
async def test_a_circle_that_is_deleted_goes(world: World, engine: RunningEngine) -> None:
    await chain(world)
    await world.patch(KUSTOMIZATION, "one", {"spec": {"dependsOn": [{"name": "two"}]}})
    await asyncio.gather(world.delete(KUSTOMIZATION, "one"), world.delete(KUSTOMIZATION, "two"))
    await world.until_gone(KUSTOMIZATION, "one")
    await world.until_gone(KUSTOMIZATION, "two")
    assert await world.get("v1", "ConfigMap", "a") is None
    assert await world.get("v1", "ConfigMap", "b") is None
