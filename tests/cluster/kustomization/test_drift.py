"""Delivered objects that somebody changes are put right by the event, not by the interval (an hour here)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import RunningEngine, World, config_map, deployment

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
OWNER_NAME = "kustomize.toolkit.fluxcd.io/name"


async def delivered(world: World, files: dict[str, Any]) -> None:
    world.commit(files)
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()


async def change(world: World, resource: Resource, name: str, patch: Any, manager: str = "somebody") -> None:
    await world.client.patch(
        resource, world.namespace, name, msgspec.json.encode(patch), content_type=MERGE_PATCH, field_manager=manager
    )


def causes(engine: RunningEngine, world: World) -> list[str]:
    return [str(cause) for trace in engine.traces(world.reference()) for cause in trace.causes]


async def test_a_deleted_deployment_is_made_again(world: World, engine: RunningEngine) -> None:
    await delivered(world, {"web.yaml": deployment("web", 0)})
    first = await world.get("apps/v1", "Deployment", "web")
    assert first is not None

    await world.client.delete(DEPLOYMENTS, world.namespace, "web")

    uid = first["metadata"]["uid"]
    await world.until(DEPLOYMENTS, "web", lambda o: o["metadata"]["uid"] != uid)
    await engine.until_caused(world.reference(), f"Deployment/{world.namespace}/web drifted")


@pytest.mark.spec("KS-APPLY-08")
async def test_a_changed_field_is_set_back(world: World, engine: RunningEngine) -> None:
    await delivered(world, {"a.yaml": config_map("a", k="1")})
    await change(world, CONFIG_MAPS, "a", {"data": {"k": "2"}})
    await world.until(CONFIG_MAPS, "a", lambda o: o["data"] == {"k": "1"})
    await engine.until_caused(world.reference(), f"ConfigMap/{world.namespace}/a drifted")


@pytest.mark.spec("KS-APPLY-08")
async def test_a_stripped_owner_label_is_set_again(world: World, engine: RunningEngine) -> None:
    await delivered(world, {"web.yaml": deployment("web", 0)})
    await change(world, DEPLOYMENTS, "web", {"metadata": {"labels": {OWNER_NAME: None}}})
    await world.until(DEPLOYMENTS, "web", lambda o: o["metadata"]["labels"].get(OWNER_NAME) == "app")
    await engine.until_caused(world.reference(), f"Deployment/{world.namespace}/web drifted")


@pytest.mark.spec("KS-APPLY-09")
async def test_fields_of_others_stay_and_those_set_with_kubectl_go(world: World, engine: RunningEngine) -> None:
    await delivered(world, {"a.yaml": config_map("a", k="1")})
    await change(world, CONFIG_MAPS, "a", {"data": {"theirs": "x"}}, "their-controller")
    await change(world, CONFIG_MAPS, "a", {"data": {"edited": "x"}}, "kubectl-edit")
    found = await world.until(CONFIG_MAPS, "a", lambda o: "edited" not in o["data"])
    assert found["data"] == {"k": "1", "theirs": "x"}


@pytest.mark.spec("KS-APPLY-10")
async def test_an_object_made_with_kubectl_apply_is_taken_over(world: World, engine: RunningEngine) -> None:
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    made = config_map("a", k="0", old="x")
    made["metadata"]["annotations"] = {annotation: "{}"}
    await world.client.create(
        CONFIG_MAPS, world.namespace, msgspec.json.encode(made), field_manager="kubectl-client-side-apply")
    await delivered(world, {"a.yaml": config_map("a", k="1")})
    found = await world.get("v1", "ConfigMap", "a")
    assert found is not None
    assert found["data"] == {"k": "1"}
    assert annotation not in found["metadata"].get("annotations", {})


@pytest.mark.spec("KS-ANN-01")
async def test_an_object_paused_on_the_cluster_is_left_until_it_is_resumed(world: World, engine: RunningEngine) -> None:
    await delivered(world, {"a.yaml": config_map("a", k="1")})
    paused = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
    await change(world, CONFIG_MAPS, "a", {"data": {"k": "2"}, "metadata": {"annotations": paused}})
    token = await world.request(KUSTOMIZATION, "app")
    await world.handled("app", token)
    found = await world.get("v1", "ConfigMap", "a")
    assert found is not None
    assert found["data"] == {"k": "2"}

    resumed = {"kustomize.toolkit.fluxcd.io/reconcile": None}
    await change(world, CONFIG_MAPS, "a", {"metadata": {"annotations": resumed}})
    await world.until(CONFIG_MAPS, "a", lambda o: o["data"] == {"k": "1"})


@pytest.mark.spec("KS-APPLY-07")
async def test_a_touch_that_changes_nothing_of_ours_wakes_nobody(world: World, engine: RunningEngine) -> None:
    await delivered(world, {"a.yaml": config_map("a", k="1"), "b.yaml": config_map("b", k="1")})
    await change(world, CONFIG_MAPS, "a", {"metadata": {"annotations": {"their/note": "x"}}})
    # An event of the same watch that does wake: when it has been acted on, the one before has been judged too.
    await change(world, CONFIG_MAPS, "b", {"data": {"k": "2"}})
    await world.until(CONFIG_MAPS, "b", lambda o: o["data"] == {"k": "1"})
    await engine.until_caused(world.reference(), f"ConfigMap/{world.namespace}/b drifted")
    assert f"ConfigMap/{world.namespace}/a drifted" not in causes(engine, world)


async def test_a_rival_that_never_gives_in_is_named_and_corrected_ever_more_slowly(
    world: World, engine: RunningEngine
) -> None:
    await delivered(world, {"a.yaml": config_map("a", k="1")})
    for round in range(4):
        await change(world, CONFIG_MAPS, "a", {"data": {"k": f"theirs-{round}"}}, "stubborn-operator")
        await world.until(CONFIG_MAPS, "a", lambda o: o["data"] == {"k": "1"})
    await world.until_event("changed again and again by 'stubborn-operator'")
