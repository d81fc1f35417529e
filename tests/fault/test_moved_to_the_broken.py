"""An object that moves in a commit with a mistake in it, to the Kustomization with the mistake: it is not deleted."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.api.kinds import KUSTOMIZATION
from tests.cluster.kustomization.world import RunningEngine, World, config_map, inventory
from tests.servers.fault_proxy import FaultProxy

OWNER = "kustomize.toolkit.fluxcd.io/name"
MISTAKES: dict[str, Any] = {
    "invalid object": config_map("x") | {"data": {"k": {"of": "no such type"}}},
    "missing namespace": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "nowhere"}},
    "unknown kind": {"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}},
}


async def uid_and_owner(world: World) -> tuple[str, str]:
    found = await world.get("v1", "ConfigMap", "moving")
    assert found is not None
    return found["metadata"]["uid"], found["metadata"]["labels"][OWNER]


def placed(world: World, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": world.namespace}}


async def two_owners(world: World) -> tuple[str, str]:
    """`old` has delivered `moving`; returns its uid and owner. `new` tries again only when it is asked to."""
    old, new, moving = (placed(world, name) for name in ("old", "new", "moving"))
    world.commit({"old/m.yaml": moving, "old/o.yaml": old, "new/n.yaml": new})
    await world.source()
    for name in ("old", "new"):
        await world.kustomization(name, path=name)
        await world.ready(name)
    return await uid_and_owner(world)


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_an_object_that_moves_to_where_the_apply_fails_stays(
    world: World, engine: RunningEngine, mistake: str
) -> None:
    before = await two_owners(world)

    moved = {"old/m.yaml": None, "new/moved.yaml": placed(world, "moving")}
    revision = await world.push(moved | {"new/x.yaml": MISTAKES[mistake]})
    await world.failed("new", reason="ReconciliationFailed")
    await world.ready("old", revision=revision)
    for _ in range(2):
        await world.handled("old", await world.request(KUSTOMIZATION, "old"))
        await world.handled("new", await world.request(KUSTOMIZATION, "new"))
    assert await uid_and_owner(world) == before

    revision = await world.push({"new/x.yaml": None})
    await world.ready("new", revision=revision)
    assert await uid_and_owner(world) == (before[0], "new")


async def test_an_object_that_moves_to_where_the_inventory_could_not_be_written_stays(
    world: World, engine: RunningEngine, proxy: FaultProxy
) -> None:
    """The new owner has failed at this revision and lists nothing of it: that is no word that it wants nothing."""
    before = await two_owners(world)

    fault = proxy.fail(500, method="PATCH", path="/kustomizations/new/status", times=1)
    revision = await world.push({"old/m.yaml": None, "new/moved.yaml": placed(world, "moving")})
    await fault.happened()
    new = await world.failed("new", reason="ReconciliationFailed")
    assert new["status"]["lastAttemptedRevision"] == revision
    assert inventory(new) == {f"{world.namespace}_new__ConfigMap"}
    await world.ready("old", revision=revision)
    await world.handled("old", await world.request(KUSTOMIZATION, "old"))
    assert await uid_and_owner(world) == before

    await world.request(KUSTOMIZATION, "new")
    await world.ready("new", revision=revision)
    assert await uid_and_owner(world) == (before[0], "new")
    await world.until(KUSTOMIZATION, "old", lambda o: inventory(o) == {f"{world.namespace}_old__ConfigMap"})
