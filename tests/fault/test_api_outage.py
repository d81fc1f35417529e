"""An API server that goes away, breaks connections and loses answers: what was under way ends as Git says, once."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from headrace.cluster import EmbeddedCluster
from headrace.kube.client import Client
from headrace.kube.config import load_kubeconfig
from headrace.kube.discovery import Discovery
from tests.cluster.kustomization.conftest import install_crds
from tests.cluster.kustomization.world import RunningEngine, World, config_map, inventory, running_engine
from tests.fault.killable import CONFIG_MAPS, assert_all_tracked, delivered
from tests.own_namespace import NAMESPACES
from tests.servers.fault_proxy import FaultProxy
from tests.servers.git_http import GitServer, Repository

NAMES = [f"c{number:02}" for number in range(8)]


async def deliver(world: World, *names: str) -> str:
    revision = world.commit({f"{name}.yaml": config_map(name, k="1") for name in names})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s")
    return revision


# -- restart ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def restartable(tmp_path: Path) -> AsyncIterator[EmbeddedCluster]:
    """A control plane of its own that keeps its data and its port."""
    cluster = EmbeddedCluster(tmp_path / "cluster", nodes=0, wait="api")
    async with cluster:
        yield cluster


@pytest.fixture
async def restarted(restartable: EmbeddedCluster, tmp_path: Path) -> AsyncIterator[World]:
    """A world on that control plane."""
    async with Client(load_kubeconfig(restartable.kubeconfig, trusted=True)) as client:
        await install_crds(client)
        await client.create(NAMESPACES, "", b'{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"restarted"}}')
        git = GitServer(tmp_path)
        await git.start()
        yield World(client, Discovery(client), "restarted", git, Repository(tmp_path, "app.git"))
        await git.stop()


@pytest.mark.spec("REL-11")
@pytest.mark.timeout(400)
async def test_an_api_server_that_restarts_in_the_middle_of_a_delivery_costs_nothing(
    restartable: EmbeddedCluster, restarted: World, tmp_path: Path
) -> None:
    world = restarted
    await deliver(world, *NAMES)
    config = load_kubeconfig(restartable.kubeconfig, trusted=True)
    async with running_engine(config, tmp_path / "state", world.namespace) as engine:
        await world.ready()
        uids = {live.metadata.name: live.metadata.uid
                for live in (await world.client.list(CONFIG_MAPS, world.namespace)).items}
        revision = world.commit({f"{name}.yaml": None for name in NAMES[:2]}
                                | {f"{name}.yaml": config_map(name, k="2") for name in NAMES[2:]})
        await world.request(GIT_REPOSITORY, "app")
        await restartable.stop()
        await restartable.start()
        await world.ready(revision=revision)
        wanted = dict.fromkeys(NAMES[2:], "2")
        assert await delivered(world) == wanted
        await assert_all_tracked(world)
        after = {live.metadata.name: live.metadata.uid
                 for live in (await world.client.list(CONFIG_MAPS, world.namespace)).items}
        assert {name: after[name] for name in wanted} == {name: uids[name] for name in wanted}
        # Its watches work again: drift shows by itself, with an hour to the next run.
        await world.client.delete(CONFIG_MAPS, world.namespace, NAMES[3])
        await world.until(CONFIG_MAPS, NAMES[3], lambda o: o["data"] == {"k": "2"})
        assert engine.engine.known()


# -- resets ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("REL-11")
async def test_connections_that_break_at_random_cost_nothing(
    world: World, engine: RunningEngine, proxy: FaultProxy
) -> None:
    seed = int(os.environ.get("SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    await deliver(world, *NAMES)
    wanted = dict.fromkeys(NAMES, "1")
    await world.ready()
    for _ in range(6):
        revision = change(world, wanted, chance)
        for method in ("GET", "PATCH", "DELETE", "POST"):
            for answered in (False, True):
                proxy.reset(answered=answered, method=method, watch=False, times=chance.randrange(3))
        await world.request(GIT_REPOSITORY, "app")
        await asyncio.sleep(chance.uniform(0.0, 0.3))  # the moment is what is tested
        proxy.end_watches(reset=True)
        await assert_all_tracked(world)
    proxy.clear()
    await world.announce(revision)
    await world.ready(revision=revision)
    assert await delivered(world) == wanted
    await assert_all_tracked(world)


def change(world: World, wanted: dict[str, str], chance: random.Random) -> str:
    files: dict[str, Any] = {}
    for name in chance.sample(NAMES, 4):
        if name in wanted and chance.random() < 0.5:
            del wanted[name]
            files[f"{name}.yaml"] = None
        else:
            wanted[name] = str(chance.randrange(1000))
            files[f"{name}.yaml"] = config_map(name, k=wanted[name])
    return world.commit(files)


# -- answers that are lost -------------------------------------------------------------------------------------------

WRITES = {
    "finalizer": {"method": "PATCH", "path": r"/kustomizations/app$"},
    "inventory and status": {"method": "PATCH", "path": r"/kustomizations/app/status$"},
    "apply": {"method": "PATCH", "path": r"/configmaps/", "dry_run": False},
}


@pytest.mark.spec("REL-15")
@pytest.mark.parametrize("times", [1, 6], ids=["once", "often"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_a_write_whose_answer_is_lost_is_looked_at_and_not_taken_for_a_failure(
    world: World, engine: RunningEngine, proxy: FaultProxy, write: dict[str, Any], times: int
) -> None:
    lost = proxy.reset(answered=True, times=times, **write)
    revision = await deliver(world, "a", "b")
    await lost.happened()
    ks = await world.ready(revision=revision)
    assert inventory(ks) == {f"{world.namespace}_{name}__ConfigMap" for name in "ab"}
    assert await delivered(world) == {"a": "1", "b": "1"}
    assert ks["metadata"]["finalizers"] == ["finalizers.fluxcd.io"]


@pytest.mark.spec("REL-15")
async def test_a_deletion_whose_answer_is_lost_deletes_nothing_that_came_after(
    world: World, engine: RunningEngine, proxy: FaultProxy
) -> None:
    await deliver(world, "a", "b")
    await world.ready()
    lost = proxy.reset(answered=True, times=1, method="DELETE", path=r"/configmaps/b$")
    slow = proxy.delay(2.0, method="DELETE", path=r"/configmaps/b$")
    revision = world.commit({"b.yaml": None})
    await world.request(GIT_REPOSITORY, "app")
    await lost.happened()
    await world.until_gone(CONFIG_MAPS, "b")
    # The second DELETE is on its way: it names the object that is gone, not the one that has its name now.
    await world.client.create(CONFIG_MAPS, world.namespace,
                              b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"data":{"k":"theirs"}}')
    ks = await world.ready(revision=revision)
    proxy.remove(slow)
    assert inventory(ks) == {f"{world.namespace}_a__ConfigMap"}
    assert (await world.get("v1", "ConfigMap", "b") or {})["data"] == {"k": "theirs"}


@pytest.mark.spec("REL-11")
@pytest.mark.parametrize("path", [r"/kustomizations/app/status$", r"/gitrepositories/app/status$"])
async def test_a_status_path_that_is_not_served_for_a_moment_does_not_end_the_object(
    world: World, engine: RunningEngine, proxy: FaultProxy, path: str
) -> None:
    """A bare 404 is what an API server says that is about to serve the definition, not that the object is gone."""
    missing = proxy.fail(404, body=b"404 page not found\n", method="PATCH", path=path, times=3)
    revision = await deliver(world, "a")
    await missing.happened()
    await world.ready(revision=revision)
    token = await world.request(KUSTOMIZATION, "app")
    await world.handled("app", token)
