"""Without fail-fast (gate DisableFailFastBehavior) the wait goes on until every object has come to its end."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.controllers.kustomize.kustomization import KustomizationOptions
from headrace.kube.client import MERGE_PATCH
from tests.cluster.kustomization.test_waiting import definition_of
from tests.cluster.kustomization.world import World, condition, config_map, running_engine
from tests.servers.control_plane import ControlPlane


@pytest.mark.spec("KS-HC-05", "KS-HC-06")
async def test_a_failure_is_told_when_all_the_others_have_ended(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    group = f"{world.namespace}.example.com"
    definition = definition_of(group)
    crds = await world.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    await world.client.create(crds, "", msgspec.json.encode(definition))
    widgets = await world.discovery.wait(group, "Widget")

    async def say(name: str, **conditions: str) -> None:
        told = [{"type": type_, "status": status} for type_, status in conditions.items()]
        body = msgspec.json.encode({"status": {"conditions": told}})
        await world.client.patch(widgets, world.namespace, name, body, content_type=MERGE_PATCH)

    version = f"{group}/v1"
    for name in ("fails", "comes"):
        body = msgspec.json.encode({"apiVersion": version, "kind": "Widget", "metadata": {"name": name}})
        await world.client.create(widgets, world.namespace, body)
        await say(name, Ready="False")
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    checks = [{"apiVersion": version, "kind": "Widget", "name": name, "namespace": world.namespace}
              for name in ("fails", "comes")]
    await world.kustomization(targetNamespace=world.namespace, healthChecks=checks, timeout="1h")
    async with running_engine(
        cluster.config, tmp_path / "state", world.namespace, KustomizationOptions(fail_fast=False)
    ) as engine:
        waiting = await world.until(KUSTOMIZATION, "app", lambda o: condition(o, "Healthy").get("status") == "Unknown")
        await say("fails", Stalled="True")
        # An event of the same watch, after which the one before has been judged.
        await say("comes", Ready="Unknown")
        await world.until(widgets, "comes", lambda o: o["status"]["conditions"][0]["status"] == "Unknown")
        assert condition(waiting, "Healthy")["status"] == "Unknown"
        await say("comes", Ready="True")
        ks = await world.failed(reason="HealthCheckFailed")
        assert condition(ks, "Ready")["message"].endswith(f"[Widget/{world.namespace}/fails status: 'Failed']")
        await engine.until_trace(world.reference(), lambda trace: trace.reason == "HealthCheckFailed")
        ended = [t for t in engine.traces(world.reference()) if t.reason == "HealthCheckFailed"]
        assert not [note for trace in ended for note in trace.notes if "Widget/" in note and "/comes" in note]
    await world.client.delete(crds, "", definition["metadata"]["name"])
