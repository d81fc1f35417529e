"""dependsOn[].readyExpr: when a dependency is ready, in CEL."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.controllers.kustomize.kustomization import KustomizationOptions
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, running_engine
from tests.servers.control_plane import ControlPlane

LABELLED = "has(dep.metadata.labels) && dep.metadata.labels.?stage.orValue('') == self.metadata.name"


async def two(world: World, expression: str) -> None:
    world.commit({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b")})
    await world.source()
    await world.kustomization("one", path="one", targetNamespace=world.namespace)
    dependency = {"name": "one", "readyExpr": expression}
    await world.kustomization("two", path="two", targetNamespace=world.namespace, dependsOn=[dependency])


@pytest.mark.spec("KS-DEP-05", "KS-DEP-06")
async def test_an_expression_decides_and_whatever_it_may_see_wakes_the_dependent(
    world: World, engine: RunningEngine
) -> None:
    await two(world, LABELLED)
    not_ready = f"dependency '{world.namespace}/one' is not ready according to readyExpr eval"
    await world.failed("two", reason="DependencyNotReady", text=not_ready)
    await world.ready("one")
    assert await world.get("v1", "ConfigMap", "b") is None

    await world.patch(KUSTOMIZATION, "one", {"metadata": {"labels": {"stage": "two"}}})
    await world.ready("two")
    await engine.until_caused(world.reference("two"), f"Kustomization/{world.namespace}/one changed (content)")


@pytest.mark.spec("KS-DEP-05")
async def test_an_expression_replaces_the_built_in_test(world: World, engine: RunningEngine) -> None:
    await two(world, "dep.spec.prune == true")
    await world.patch(KUSTOMIZATION, "one", {"spec": {"path": "absent"}})
    await world.failed("one")
    await world.ready("two")


@pytest.mark.spec("KS-DEP-05")
async def test_with_the_gate_an_expression_adds_to_the_built_in_test(
    cluster: ControlPlane, world: World, tmp_path: Path
) -> None:
    options = KustomizationOptions(additive_ready_expressions=True)
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, options):
        await two(world, "dep.spec.prune == true")
        await world.ready("two")
        await world.patch(KUSTOMIZATION, "one", {"spec": {"path": "absent"}})
        await world.failed("one")
        await world.request(KUSTOMIZATION, "two")
        await world.failed("two", reason="DependencyNotReady", text=f"'{world.namespace}/one' is not ready")


@pytest.mark.spec("KS-DEP-06")
async def test_what_cannot_be_evaluated_waits(world: World, engine: RunningEngine) -> None:
    await two(world, "dep.metadata.labels.stage == 'done'")
    text = f"failed to evaluate dependency '{world.namespace}/one'"
    await world.failed("two", reason="DependencyNotReady", text=text)
    await world.patch(KUSTOMIZATION, "one", {"metadata": {"labels": {"stage": "done"}}})
    await world.ready("two")


@pytest.mark.spec("KS-DEP-06")
@pytest.mark.parametrize(("expression", "text"), [
    pytest.param("dep.metadata.", "Syntax error", id="syntax"),
    pytest.param("dep.metadata", "expected bool", id="no boolean"),
    pytest.param("other.metadata.name == 'x'", "undeclared reference", id="unknown variable"),
])
async def test_a_bad_expression_stalls_until_it_is_mended(
    world: World, engine: RunningEngine, expression: str, text: str
) -> None:
    await two(world, expression)
    ks = await world.failed("two", reason="InvalidCELExpression", text=text)
    assert condition(ks, "Stalled")["status"] == "True"
    assert ks["status"]["observedGeneration"] == ks["metadata"]["generation"]
    await world.patch(KUSTOMIZATION, "two", {"spec": {"dependsOn": [{"name": "one", "readyExpr": "true"}]}})
    await world.ready("two")
