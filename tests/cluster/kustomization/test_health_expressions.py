"""spec.healthCheckExprs: the health of custom resources judged by CEL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH
from headrace.kube.resource import Resource
from tests.cluster.kustomization.test_waiting import definition_of
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map


@pytest.fixture
async def widgets(world: World) -> AsyncIterator[Resource]:
    """A kind of its own, without conditions: what the built-in rules call Current at once."""
    definition = definition_of(f"{world.namespace}.example.com")
    crds = await world.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    await world.client.create(crds, "", msgspec.json.encode(definition))
    yield await world.discovery.wait(f"{world.namespace}.example.com", "Widget")
    if await world.get(KUSTOMIZATION.api_version, "Kustomization", "app") is not None:
        await world.delete(KUSTOMIZATION, "app")
        await world.until_gone(KUSTOMIZATION, "app")
    await world.client.delete(crds, "", definition["metadata"]["name"])


def rule(world: World, **more: str) -> dict[str, str]:
    return {"apiVersion": f"{world.namespace}.example.com/v1", "current": "status.phase == 'Done'",
            "failed": "has(status.phase) && status.phase == 'Broken'"} | more


async def deliver(world: World, *rules: dict[str, str], **spec: Any) -> None:
    widget = {"apiVersion": f"{world.namespace}.example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    world.commit({"w.yaml": widget, "a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(
        targetNamespace=world.namespace, wait=True, timeout="1h", healthCheckExprs=list(rules), **spec
    )


async def set_phase(world: World, widgets: Resource, phase: str, **status: Any) -> None:
    body = msgspec.json.encode({"status": {"phase": phase} | status})
    await world.client.patch(widgets, world.namespace, "w", body, content_type=MERGE_PATCH)


@pytest.mark.spec("KS-HC-08")
async def test_an_object_is_waited_for_until_its_expression_says_current(
    world: World, engine: RunningEngine, widgets: Resource
) -> None:
    await deliver(world, rule(world, kind="Widget"))
    await world.until(KUSTOMIZATION, "app", lambda o: condition(o, "Healthy").get("status") == "Unknown")
    await world.until(widgets, "w", lambda o: True)
    await set_phase(world, widgets, "Broken", observedGeneration=0)  # not the generation that it has: says nothing
    await set_phase(world, widgets, "Done", observedGeneration=None)
    ks = await world.ready()
    assert condition(ks, "Healthy")["reason"] == "Succeeded"


@pytest.mark.spec("KS-HC-08")
async def test_a_failed_expression_ends_the_wait_and_a_better_state_wakes_the_object(
    world: World, engine: RunningEngine, widgets: Resource
) -> None:
    group, other = rule(world), rule(world, kind="Other", current="true")
    await deliver(world, group, other)
    await world.until(widgets, "w", lambda o: True)
    await set_phase(world, widgets, "Broken")
    stalled = f"failed early due to stalled resources: [Widget/{world.namespace}/w status: 'Failed']"
    await world.failed(reason="HealthCheckFailed", text=stalled)
    await set_phase(world, widgets, "Done")
    await world.ready()
    woken_by = f"Widget/{world.namespace}/w changed (content)"
    await engine.until_caused(world.reference(), woken_by)


@pytest.mark.spec("KS-HC-08")
async def test_an_expression_overrides_a_built_in_rule(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": config_map("a", phase="no")})
    await world.source()
    stated = {"apiVersion": "v1", "kind": "ConfigMap", "current": "data.phase == 'done'",
              "failed": "data.phase == 'no'"}
    await world.kustomization(targetNamespace=world.namespace, wait=True, healthCheckExprs=[stated])
    await world.failed(reason="HealthCheckFailed", text=f"ConfigMap/{world.namespace}/a status: 'Failed'")
    revision = await world.push({"a.yaml": config_map("a", phase="done")})
    await world.ready(revision=revision)
    token = await world.request(KUSTOMIZATION, "app")
    ks = await world.handled("app", token)
    assert condition(ks, "Ready")["status"] == "True"


@pytest.mark.spec("KS-HC-08")
async def test_what_cannot_be_evaluated_is_unknown_when_time_is_up(
    world: World, engine: RunningEngine, widgets: Resource
) -> None:
    await deliver(world, rule(world, kind="Widget", failed="status.absent == 'x'"))
    await world.until(widgets, "w", lambda o: True)
    await world.patch(KUSTOMIZATION, "app", {"spec": {"timeout": "1s"}})
    why = "no such attribute(s): status.absent"
    unknown = f"timeout waiting for: [Widget/{world.namespace}/w status: 'Unknown': {why}]"
    await world.failed(reason="HealthCheckFailed", text=unknown)


@pytest.mark.spec("KS-HC-09")
@pytest.mark.parametrize(("rules", "text"), [
    pytest.param([{"kind": "Widget", "current": "status.phase =="}], "Syntax error", id="syntax"),
    pytest.param([{"kind": "Widget"}, {"kind": "Widget"}], "duplicate", id="twice"),
])
async def test_a_bad_expression_stalls_until_it_is_mended(
    world: World, engine: RunningEngine, rules: list[dict[str, str]], text: str
) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    stated = [rule(world, **one) for one in rules]
    await world.kustomization(targetNamespace=world.namespace, healthCheckExprs=stated)
    ks = await world.failed(reason="InvalidCELExpression", text=text)
    assert condition(ks, "Stalled")["reason"] == "InvalidCELExpression"
    assert ks["status"]["observedGeneration"] == ks["metadata"]["generation"]
    assert await world.get("v1", "ConfigMap", "a") is None
    await world.patch(KUSTOMIZATION, "app", {"spec": {"healthCheckExprs": None}})
    await world.ready()
