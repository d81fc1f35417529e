"""kill -9 at any moment: nothing owned is untracked, nothing foreign is deleted, and in the end all is right."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from tests.cluster.kustomization.world import World, config_map
from tests.fault.killable import CONFIG_MAPS, KillableEngines, assert_all_tracked, delivered

NAMES = [f"c{number:02}" for number in range(12)]


async def foreign_objects(world: World) -> None:
    """One that nobody owns, and one that another Kustomization owns, both with names that Git has had."""
    other = {"kustomize.toolkit.fluxcd.io/name": "other", "kustomize.toolkit.fluxcd.io/namespace": world.namespace}
    for name, labels in (("foreign-plain", {}), ("foreign-owned", other)):
        body = config_map(name)
        body["metadata"]["labels"] = labels
        await world.client.create(CONFIG_MAPS, world.namespace, msgspec.json.encode(body))


async def assert_foreign_untouched(world: World) -> None:
    for name in ("foreign-plain", "foreign-owned"):
        assert await world.get("v1", "ConfigMap", name) is not None


async def assert_converges(world: World, wanted: dict[str, str], revision: str) -> None:
    await world.ready(revision=revision)
    assert await delivered(world) == wanted
    await assert_all_tracked(world)
    await assert_foreign_untouched(world)


@pytest.mark.spec("REL-01", "REL-02")
@pytest.mark.timeout(400)
async def test_twenty_kills_at_random_moments_lose_and_delete_nothing(world: World, engines: KillableEngines) -> None:
    seed = int(os.environ.get("SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    wanted: dict[str, str] = {}
    revision = await start(world, engines, wanted, chance)
    await foreign_objects(world)
    for _ in range(20):
        revision = change(world, wanted, chance)
        await world.request(GIT_REPOSITORY, "app")
        await engines.start()
        await asyncio.sleep(chance.uniform(0.0, 1.2))  # the moment is what is tested
        await engines.kill()
        await assert_all_tracked(world)
        await assert_foreign_untouched(world)
    await engines.start()
    await world.announce(revision)
    await assert_converges(world, wanted, revision)


async def start(world: World, engines: KillableEngines, wanted: dict[str, str], chance: random.Random) -> str:
    revision = change(world, wanted, chance)
    await world.source(interval="10m")
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s")
    return revision


def change(world: World, wanted: dict[str, str], chance: random.Random) -> str:
    """A commit that adds, changes and removes some."""
    files: dict[str, Any] = {}
    for name in chance.sample(NAMES, 6):
        if name in wanted and chance.random() < 0.5:
            del wanted[name]
            files[f"{name}.yaml"] = None
        else:
            wanted[name] = str(chance.randrange(1000))
            files[f"{name}.yaml"] = config_map(name, k=wanted[name])
    return world.commit(files)


POINTS = [
    "inventory-before-write:kill",
    "inventory-written-ahead:kill",
    "apply-before-write:kill@2",
    "apply-after-write:kill",
    "apply-after-write:kill@3",
    "stages-applied:kill",
    "prune-before-delete:kill",
    "prune-after-delete:kill",
    "prune-after-delete:kill@2",
    "status-before-write:kill@3",
]


@pytest.mark.spec("REL-01", "REL-02")
@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_between_two_writes_loses_and_deletes_nothing(
    world: World, engines: KillableEngines, point: str
) -> None:
    world.commit({f"{name}.yaml": config_map(name, k="1") for name in NAMES[:6]})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s")
    await foreign_objects(world)
    await engines.start()
    await world.ready()
    await engines.kill()

    wanted = dict.fromkeys(NAMES[3:9], "2")
    files: dict[str, Any] = {f"{name}.yaml": config_map(name, k="2") for name in wanted}
    revision = world.commit(files | {f"{name}.yaml": None for name in NAMES[:3]})
    await world.request(GIT_REPOSITORY, "app")
    await engines.start(fail=point)
    await engines.until_killed()
    await assert_all_tracked(world)
    await assert_foreign_untouched(world)

    await engines.start()
    await assert_converges(world, wanted, revision)


@pytest.mark.spec("REL-02")
async def test_a_kill_during_the_deletion_of_the_kustomization_leaves_nothing_behind(
    world: World, engines: KillableEngines
) -> None:
    world.commit({f"{name}.yaml": config_map(name, k="1") for name in NAMES[:6]})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await engines.start(fail="prune-after-delete:kill@3")
    await world.ready()
    await world.delete(KUSTOMIZATION, "app")
    await engines.until_killed()
    await engines.start()
    await world.until_gone(KUSTOMIZATION, "app")
    assert await delivered(world) == {}


@pytest.mark.spec("REL-03")
async def test_objects_of_a_partial_apply_are_pruned_when_the_next_commit_drops_them(
    world: World, engines: KillableEngines
) -> None:
    await foreign_objects(world)
    world.commit({"a.yaml": config_map("a", k="1"), "b.yaml": config_map("b", k="1")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s")
    await engines.start(fail="apply-after-write:kill")
    await engines.until_killed()
    assert len(await delivered(world)) >= 1
    revision = world.commit({"a.yaml": None, "b.yaml": None, "c.yaml": config_map("c", k="1")})
    await world.request(GIT_REPOSITORY, "app")
    await engines.start()
    await assert_converges(world, {"c": "1"}, revision)


@pytest.mark.spec("REL-08")
async def test_an_object_replaced_between_look_and_deletion_is_not_deleted(
    world: World, engines: KillableEngines
) -> None:
    world.commit({"a.yaml": config_map("a", k="1"), "b.yaml": config_map("b", k="1")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1h")
    await engines.start(fail="prune-before-delete:sleep=3")
    await world.ready()
    revision = world.commit({"b.yaml": None})
    await world.request(GIT_REPOSITORY, "app")
    # The deletion sleeps after its look: somebody else makes an object of the same name meanwhile.
    await world.until(KUSTOMIZATION, "app", lambda o: revision in str(o["status"]["conditions"]))
    await world.client.delete(CONFIG_MAPS, world.namespace, "b")
    await world.client.create(CONFIG_MAPS, world.namespace, msgspec.json.encode(config_map("b", k="foreign")))
    await world.ready(revision=revision)
    found = await world.get("v1", "ConfigMap", "b")
    assert found is not None
    assert found["data"] == {"k": "foreign"}
