"""An object that moves in a commit with a mistake in it, to the Kustomization with the mistake: it is not deleted."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.api.kinds import KUSTOMIZATION
from tests.cluster.kustomization.world import RunningEngine, World, config_map

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


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_an_object_that_moves_to_where_the_apply_fails_stays(
    world: World, engine: RunningEngine, mistake: str
) -> None:
    old, new, moving = (placed(world, name) for name in ("old", "new", "moving"))
    world.commit({"old/m.yaml": moving, "old/o.yaml": old, "new/n.yaml": new})
    await world.source()
    await world.kustomization("old", path="old")
    await world.kustomization("new", path="new", retryInterval="1s")
    await world.ready("old")
    await world.ready("new")
    before = await uid_and_owner(world)

    revision = await world.push({"old/m.yaml": None, "new/moved.yaml": moving, "new/x.yaml": MISTAKES[mistake]})
    await world.failed("new", reason="ReconciliationFailed")
    await world.ready("old", revision=revision)
    for _ in range(2):
        await world.handled("old", await world.request(KUSTOMIZATION, "old"))
        await world.handled("new", await world.request(KUSTOMIZATION, "new"))
    assert await uid_and_owner(world) == before

    revision = await world.push({"new/x.yaml": None})
    await world.ready("new", revision=revision)
    assert await uid_and_owner(world) == (before[0], "new")
