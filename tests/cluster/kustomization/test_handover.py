"""An object that moves from one Kustomization to another is neither deleted nor created anew."""

from __future__ import annotations

import pytest

from headrace.api.kinds import KUSTOMIZATION
from tests.cluster.kustomization.world import RunningEngine, World, config_map, inventory

OWNER = "kustomize.toolkit.fluxcd.io/name"


async def uid_and_owner(world: World, name: str) -> tuple[str, str]:
    found = await world.get("v1", "ConfigMap", name)
    assert found is not None
    return found["metadata"]["uid"], found["metadata"]["labels"][OWNER]


async def two_owners(world: World) -> str:
    """`old` delivers `moving`, `new` depends on `old`, so that `old` always goes first; returns the object's uid."""
    world.commit({"old/m.yaml": config_map("moving"), "old/o.yaml": config_map("o"), "new/n.yaml": config_map("n")})
    await world.source()
    await world.kustomization("old", path="old", targetNamespace=world.namespace)
    await world.kustomization("new", path="new", targetNamespace=world.namespace, dependsOn=[{"name": "old"}])
    await world.ready("new")
    return (await uid_and_owner(world, "moving"))[0]


@pytest.mark.spec("KS-GC-04")
async def test_an_object_that_moves_is_handed_over_though_its_old_owner_goes_first(
    world: World, engine: RunningEngine
) -> None:
    uid = await two_owners(world)

    revision = await world.push({"old/m.yaml": None, "new/m.yaml": config_map("moving")})

    await world.ready("new", revision=revision)
    moved = f"{world.namespace}_moving__ConfigMap"
    await world.until(KUSTOMIZATION, "old", lambda o: moved not in inventory(o))
    assert await uid_and_owner(world, "moving") == (uid, "new")
    woken_by = f"Kustomization/{world.namespace}/new changed (handled revision)"
    await engine.until_caused(world.reference("old"), woken_by)


async def test_a_deletion_waits_for_no_neighbour_whose_files_are_the_same(world: World, engine: RunningEngine) -> None:
    await two_owners(world)
    await world.patch(KUSTOMIZATION, "new", {"spec": {"dependsOn": [{"name": "absent"}]}})
    await world.failed("new", reason="DependencyNotReady")
    await world.patch(KUSTOMIZATION, "new", {"spec": {"dependsOn": [{"name": "old"}]}})
    await world.ready("new")

    revision = await world.push({"old/m.yaml": None})

    old = await world.ready("old", revision=revision)
    assert inventory(old) == {f"{world.namespace}_o__ConfigMap"}
    assert await world.get("v1", "ConfigMap", "moving") is None


async def test_what_nobody_took_is_deleted_when_all_have_spoken(world: World, engine: RunningEngine) -> None:
    await two_owners(world)
    revision = await world.push({"old/m.yaml": None, "new/n.yaml": config_map("n", k="2")})
    await world.ready("new", revision=revision)
    await world.until(KUSTOMIZATION, "old", lambda o: inventory(o) == {f"{world.namespace}_o__ConfigMap"})
    assert await world.get("v1", "ConfigMap", "moving") is None


async def test_a_renamed_kustomization_takes_its_objects_along(world: World, engine: RunningEngine) -> None:
    uid = await two_owners(world)
    await world.kustomization("renamed", path="old", targetNamespace=world.namespace)
    await world.delete(KUSTOMIZATION, "old")
    await world.until_gone(KUSTOMIZATION, "old")
    await world.ready("renamed")
    assert await uid_and_owner(world, "moving") == (uid, "renamed")
