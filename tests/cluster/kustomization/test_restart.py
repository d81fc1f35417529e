"""What an engine knows survives it; what it does not know any more costs one look at each object."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.kube.client import MERGE_PATCH
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import World, config_map, running_engine
from tests.servers.control_plane import ControlPlane

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)


async def deliver_and_stop(world: World, cluster: ControlPlane, state: Path) -> None:
    async with running_engine(cluster.config, state, world.namespace) as engine:
        world.commit({"a.yaml": config_map("a", k="1"), "b.yaml": config_map("b", k="1")})
        await world.source()
        await world.kustomization(targetNamespace=world.namespace, wait=True)
        await world.ready()
        await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
        await engine.stop()


async def test_a_restart_writes_nothing(world: World, cluster: ControlPlane, tmp_path: Path) -> None:
    await deliver_and_stop(world, cluster, tmp_path / "state")
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        await engine.until_caused(world.reference(), "started")
        assert engine.writes() == {}


async def test_what_drifted_while_no_engine_ran_is_put_right(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    await deliver_and_stop(world, cluster, tmp_path / "state")
    patch = msgspec.json.encode({"data": {"k": "2"}})
    await world.client.patch(CONFIG_MAPS, world.namespace, "a", patch, content_type=MERGE_PATCH)
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        await world.until(CONFIG_MAPS, "a", lambda o: o["data"] == {"k": "1"})
        await engine.until_caused(world.reference(), "started")
        assert engine.writes()["patch configmaps"] == 1


async def test_without_the_store_each_object_is_looked_at_and_none_is_written(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    await deliver_and_stop(world, cluster, tmp_path / "state")
    for path in (tmp_path / "state").glob("applied.db*"):
        path.unlink()
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        await engine.until_caused(world.reference(), "started")
        writes = engine.writes()
        assert (writes["get configmaps"], writes["patch configmaps (dry-run)"]) == (2, 2)
        assert set(writes) == {"get configmaps", "patch configmaps (dry-run)"}


async def test_who_waits_for_a_lost_file_is_woken_when_it_is_made_anew(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    """It is the same artifact, so no event of an object tells, and the timer would take half a minute."""
    await deliver_and_stop(world, cluster, tmp_path / "state")
    async with running_engine(cluster.config, tmp_path / "other", world.namespace) as engine:
        trace = await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
        assert {cause.what for cause in trace.causes} <= {"started", "changed"}
        assert "patch configmaps" not in engine.writes()
