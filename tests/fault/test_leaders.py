"""Two engines that both believe to lead: the one that does not any more writes nothing, and what both have written
ends as Git says. The times of the lease are a tenth of the usual ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from headrace.kube.client import Client
from headrace.kube.errors import Fenced
from headrace.kube.lease import LeaderElection, LeaseTimes
from tests.cluster.kustomization.world import World, config_map, inventory
from tests.fault.killable import CONFIG_MAPS, KillableEngines, assert_all_tracked, delivered
from tests.fault.leader_process import Made, holder, until_held
from tests.servers.control_plane import ControlPlane
from tests.servers.fault_proxy import FaultProxy
from tests.unit.engine.virtual_clock import VirtualClock


async def deliver(world: World, *names: str) -> None:
    world.commit({f"{name}.yaml": config_map(name, k="1") for name in names})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s")


def entries(world: World, *names: str) -> set[str]:
    return {f"{world.namespace}_{name}__ConfigMap" for name in names}


async def until_written_ahead(world: World, *names: str) -> None:
    await world.until(KUSTOMIZATION, "app", lambda o: "status" in o and entries(world, *names) <= inventory(o))


async def foreign_object(world: World) -> None:
    """Of a name that Git has had, and owned by another Kustomization."""
    body = config_map("foreign", k="theirs")
    body["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "other",
                                  "kustomize.toolkit.fluxcd.io/namespace": world.namespace}
    await world.client.create(CONFIG_MAPS, world.namespace, msgspec.json.encode(body))


@pytest.mark.spec("REL-09")
@pytest.mark.parametrize("point", ["apply-before-write", "prune-before-delete", "status-before-write"])
async def test_a_leader_that_was_frozen_in_the_middle_of_a_run_writes_nothing_when_it_wakes(
    world: World, cluster: ControlPlane, leader: Made, point: str
) -> None:
    await foreign_object(world)
    first, second = leader("first"), leader("second")
    await deliver(world, "a", "gone")
    await first.start(cluster.kubeconfig)
    await world.ready()
    frozen = await holder(world.client, world.namespace)
    first.signal(signal.SIGTERM)
    assert await first.ended() == 0

    # It stands still before each write of the second revision long enough to be frozen there.
    await first.start(cluster.kubeconfig, f"{point}:sleep=5")
    frozen = await until_held(world.client, world.namespace, by_other_than=frozen)
    await world.push({"gone.yaml": None, "x.yaml": config_map("x", k="2"), "a.yaml": config_map("a", k="2")})
    await until_written_ahead(world, "a", "x")
    if point == "apply-before-write":
        assert await world.get("v1", "ConfigMap", "x") is None
    else:
        await world.until(CONFIG_MAPS, "x", lambda o: o["data"] == {"k": "2"})
    first.signal(signal.SIGSTOP)

    third = world.commit({"x.yaml": None, "y.yaml": config_map("y", k="3"), "a.yaml": config_map("a", k="3")})
    await second.start(cluster.kubeconfig)
    await until_held(world.client, world.namespace, by_other_than=frozen)
    await world.announce(third)
    ready = await world.ready(revision=third)
    assert await delivered(world) == {"a": "3", "y": "3"}

    first.signal(signal.SIGCONT)
    assert await first.ended() == 1
    assert "the lease could not be renewed" in first.log
    assert "Traceback" not in first.log
    assert await delivered(world) == {"a": "3", "y": "3"}
    await assert_all_tracked(world)
    after = await world.ready(revision=third)
    assert inventory(after) == inventory(ready) == entries(world, "a", "y")
    assert (await world.get("v1", "ConfigMap", "foreign") or {})["data"] == {"k": "theirs"}
    revision = await world.push({"z.yaml": config_map("z", k="4")})
    await world.ready(revision=revision)
    assert await delivered(world) == {"a": "3", "y": "3", "z": "4"}


@pytest.mark.spec("REL-10")
async def test_a_leader_that_is_cut_off_gives_up_before_another_one_begins(
    world: World, cluster: ControlPlane, proxy: FaultProxy, leader: Made, tmp_path: Path
) -> None:
    first, second = leader("first"), leader("second")
    await deliver(world, "a", "x")
    await first.start(proxy.write_kubeconfig(tmp_path / "proxied"), "apply-before-write:sleep=3")
    await until_written_ahead(world, "a", "x")
    frozen = await holder(world.client, world.namespace)
    proxy.partition()
    await second.start(cluster.kubeconfig)
    revision = world.commit({"x.yaml": None, "y.yaml": config_map("y", k="1")})
    assert await first.ended() == 1
    assert "could not be renewed" in first.log
    assert await until_held(world.client, world.namespace, by_other_than=frozen)
    proxy.heal()
    await world.announce(revision)
    ks = await world.ready(revision=revision)
    assert await delivered(world) == {"a": "1", "y": "1"}
    assert inventory(ks) == entries(world, "a", "y")


@pytest.mark.spec("REL-09", "REL-10")
async def test_nothing_is_written_once_the_lease_may_be_anothers(client: Client, namespace: str) -> None:
    """By the clock of the holder alone: it was frozen, or its clock is too slow, and has not looked since."""
    clock = VirtualClock()
    times = LeaseTimes(duration=35.0, renew_deadline=30.0, retry_period=5.0)
    election = LeaderElection(client, namespace=namespace, name="election", identity="one", times=times, clock=clock)
    fenced = Client(client.config, fence=election.fence)
    body = msgspec.json.encode(config_map("a"))
    with pytest.raises(Fenced):
        await fenced.create(CONFIG_MAPS, namespace, body)
    await election.acquire()
    await fenced.create(CONFIG_MAPS, namespace, body)
    await clock.advance(31.0)
    for identity in (fenced, fenced.impersonate("system:admin")):
        with pytest.raises(Fenced):
            await identity.delete(CONFIG_MAPS, namespace, "a")
        with pytest.raises(Fenced):
            await identity.apply(CONFIG_MAPS, namespace, "a", body, field_manager="x")
    assert await fenced.get(CONFIG_MAPS, namespace, "a")
    await fenced.close()


@pytest.mark.spec("REL-10")
async def test_what_a_leader_of_old_applies_too_late_is_tracked_and_pruned(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    """Without a lease nothing stops it: its inventory is not written over the newer one, and what it applied joins
    that."""
    await deliver(world, "a", "x")
    slow, quick = (KillableEngines(cluster.kubeconfig, tmp_path / side, world.namespace) for side in ("slow", "quick"))
    try:
        await slow.start("apply-before-write:sleep=3")
        await until_written_ahead(world, "a", "x")
        slow.freeze()
        revision = world.commit({"x.yaml": None, "y.yaml": config_map("y", k="1")})
        await quick.start()
        await world.ready(revision=revision)
        assert await delivered(world) == {"a": "1", "y": "1"}
        async with every_inventory(world) as seen:
            slow.wake()
            await world.until(CONFIG_MAPS, "x", lambda o: o["data"] == {"k": "1"})
            await world.until(KUSTOMIZATION, "app", lambda o: entries(world, "x") <= inventory(o))
            await slow.kill()
            await world.request(KUSTOMIZATION, "app")
            await world.until_gone(CONFIG_MAPS, "x")
            await world.until(KUSTOMIZATION, "app", lambda o: inventory(o) == entries(world, "a", "y"))
            await world.ready(revision=revision)
        assert all(entries(world, "a", "y") <= each for each in seen), seen
        assert await delivered(world) == {"a": "1", "y": "1"}
    finally:
        await slow.kill()
        await quick.kill()


@contextlib.asynccontextmanager
async def every_inventory(world: World) -> AsyncIterator[list[set[str]]]:
    """Every inventory that the Kustomization has meanwhile."""
    seen: list[set[str]] = []
    following = asyncio.create_task(
        world.until(KUSTOMIZATION, "app", lambda o: seen.append(inventory(o))))
    try:
        yield seen
    finally:
        following.cancel()
        await asyncio.wait([following])


@pytest.mark.spec("REL-10")
@pytest.mark.timeout(400)
async def test_two_engines_without_a_lease_lose_and_delete_nothing(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    """The worst case: both lead all the time. The inventory is compared and swapped, and holds what either applied."""
    seed = int(os.environ.get("SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    names = [f"c{number}" for number in range(8)]
    await foreign_object(world)
    await deliver(world, *names[:4])
    wanted = dict.fromkeys(names[:4], "1")
    pair = [KillableEngines(cluster.kubeconfig, tmp_path / side, world.namespace) for side in ("left", "right")]
    try:
        for engines in pair:
            await engines.start("apply-before-write:sleep=0.05")
        await world.ready()
        for _ in range(8):
            revision = change(world, wanted, chance, names)
            await world.request(GIT_REPOSITORY, "app")
            await asyncio.sleep(chance.uniform(0.0, 0.5))  # the moment of the next commit is what is tested
        await world.announce(revision)
        await world.ready(revision=revision)
        await pair[0].kill()
        token = await world.request(KUSTOMIZATION, "app")
        await world.handled("app", token)
        await world.ready(revision=revision)
        assert await delivered(world) == wanted
        await assert_all_tracked(world)
        assert (await world.get("v1", "ConfigMap", "foreign") or {})["data"] == {"k": "theirs"}
    finally:
        for engines in pair:
            await engines.kill()


def change(world: World, wanted: dict[str, str], chance: random.Random, names: list[str]) -> str:
    """A commit that adds, changes and removes some."""
    files: dict[str, Any] = {}
    for name in chance.sample(names, 4):
        if name in wanted and chance.random() < 0.5:
            del wanted[name]
            files[f"{name}.yaml"] = None
        else:
            wanted[name] = str(chance.randrange(1000))
            files[f"{name}.yaml"] = config_map(name, k=wanted[name])
    return world.commit(files)
