"""Whose fields are taken over, and that a conflict is never the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.controllers.kustomize.kustomization import KustomizationOptions
from headrace.controllers.kustomize.targets import TargetPolicy
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import World, config_map, running_engine
from tests.servers.control_plane import ControlPlane

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)


async def applied_by(world: World, manager: str, content: dict[str, Any]) -> None:
    name = content["metadata"]["name"]
    await world.client.apply(
        CONFIG_MAPS, world.namespace, name, msgspec.json.encode(content), field_manager=manager)


@pytest.mark.spec("KS-APPLY-11", "KS-APPLY-13", "KS-APPLY-14")
async def test_fields_of_kubectl_and_of_named_managers_go_and_those_of_others_stay(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    await applied_by(world, "kubectl", config_map("by-kubectl", k="0", old="x"))
    legacy = msgspec.json.encode(config_map("by-legacy", k="0", old="x"))
    await world.client.create(CONFIG_MAPS, world.namespace, legacy, field_manager="legacy-tool")
    await applied_by(world, "their-controller", config_map("by-other", k="0", own="y"))
    names = ("by-kubectl", "by-legacy", "by-other")
    world.commit({f"{name}.yaml": config_map(name, k="1") for name in names})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)

    options = KustomizationOptions(targets=TargetPolicy(override_managers=("legacy-tool",)))
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, options):
        await world.ready()

    found = {name: await world.get("v1", "ConfigMap", name) for name in names}
    told = {name: (content["data"], sorted({f["manager"] for f in content["metadata"]["managedFields"]}))
            for name, content in found.items() if content is not None}
    ours = ["kustomize-controller"]
    assert told == {
        "by-kubectl": ({"k": "1"}, ours),
        "by-legacy": ({"k": "1"}, ours),
        "by-other": ({"k": "1", "own": "y"}, [*ours, "their-controller"]),
    }
