"""A long row of dependencies goes at the speed of events, and a crowd that waits holds nobody up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.kustomization.world import RunningEngine, World, config_map, deployment

LENGTH = 21


@pytest.mark.spec("KS-DEP-01")
async def test_a_row_of_dependents_becomes_ready_one_by_one_without_a_timer(
    world: World, engine: RunningEngine
) -> None:
    world.commit({f"{n}/a.yaml": config_map(f"a{n}") for n in range(LENGTH)})
    await world.source()
    for number in reversed(range(LENGTH)):
        before: dict[str, Any] = {"dependsOn": [{"name": f"ks{number - 1}"}]} if number else {}
        await world.kustomization(f"ks{number}", path=str(number), targetNamespace=world.namespace, **before)
    await world.ready(f"ks{LENGTH - 1}")
    for number in range(1, LENGTH):
        for trace in engine.traces(world.reference(f"ks{number}")):
            assert "retry" not in [cause.what for cause in trace.causes]


async def test_a_crowd_that_waits_for_health_does_not_hold_up_the_next(world: World, engine: RunningEngine) -> None:
    nowhere = deployment("web", 1, nodeSelector={"kubernetes.io/hostname": "no-such-node"})
    world.commit({"never/web.yaml": nowhere, "quick/a.yaml": config_map("a")})
    await world.source()
    for number in range(60):
        await world.kustomization(
            f"waits{number}", path="never", targetNamespace=world.namespace, namePrefix=f"w{number}-", wait=True)
    await world.kustomization("quick", path="quick", targetNamespace=world.namespace)
    await world.ready("quick")
