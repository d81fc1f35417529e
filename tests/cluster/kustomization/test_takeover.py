"""A cluster where Flux's kustomize-controller delivered is taken over without a command and without an apply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.cli.connect import resource_of
from headrace.kube.client import MERGE_PATCH
from headrace.kube.resource import Resource
from headrace.toolbox import BuildRequest, BuildSpec, Toolbox
from tests.cluster.kustomization.world import World, condition, config_map, deployment, running_engine
from tests.servers.control_plane import ControlPlane

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
OBJECTS = (("v1", "ConfigMap", "a"), ("v1", "Secret", "s"), ("v1", "Service", "web"), ("apps/v1", "Deployment", "web"))

Json = dict[str, Any]


def objects() -> dict[str, Json]:
    secret = config_map("s", k="dg==") | {"kind": "Secret", "type": "Opaque"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
               "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}  # fmt: skip
    return {"a.yaml": config_map("a", k="1"), "s.yaml": secret, "service.yaml": service,
            "web.yaml": deployment("web", replicas=0)}  # fmt: skip


async def deliver_as_flux(world: World) -> None:
    """Server-side apply with upstream's field manager and owner labels, of objects that went through upstream's
    normalisation, which is the toolbox's; finalizer, and inventory in the status, in upstream's format."""
    labels = {"kustomize.toolkit.fluxcd.io/name": "app", "kustomize.toolkit.fluxcd.io/namespace": world.namespace}
    spec = BuildSpec(target_namespace=world.namespace)
    async with Toolbox(size=1) as toolbox:
        built = await toolbox.build(BuildRequest(root=str(world.repository.work), spec=spec, labels=labels))
    entries = []
    for manifest in built.manifests().items:
        name, resource = manifest.reference.name, await world.resource(manifest.api_version, manifest.reference.kind)
        await world.client.apply(resource, world.namespace, name, manifest.body, field_manager="kustomize-controller")
        entry = f"{world.namespace}_{name}_{resource.group}_{resource.kind}"
        entries.append({"id": entry, "v": resource.version})
    await world.kustomization(targetNamespace=world.namespace)
    await world.patch(KUSTOMIZATION, "app", {"metadata": {"finalizers": ["finalizers.fluxcd.io"]}})
    status = msgspec.json.encode({"status": {"inventory": {"entries": entries}}})
    await world.client.patch(resource_of(KUSTOMIZATION), world.namespace, "app", status,
                             content_type=MERGE_PATCH, subresource="status")  # fmt: skip


async def state(world: World) -> dict[str, Json]:
    """All that a take-over must leave alone."""
    found = {}
    for api_version, kind, name in OBJECTS:
        content = await world.get(api_version, kind, name)
        assert content is not None
        metadata = content["metadata"]
        ours = [field for field in metadata["managedFields"] if field["manager"] == "kustomize-controller"]
        found[f"{kind}/{name}"] = {"labels": metadata["labels"], "managedFields": ours, "uid": metadata["uid"]}
    return found


@pytest.mark.spec("KS-APPLY-07")
async def test_what_flux_has_delivered_is_taken_over_without_one_apply(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    world.commit(objects())
    await deliver_as_flux(world)
    before = await state(world)
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        await world.source()
        ready = await world.ready()
        await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
        writes = engine.writes()
    assert {name for name in writes if not name.startswith(("get ", "create events"))} == {
        *(f"patch {plural} (dry-run)" for plural in ("configmaps", "secrets", "services", "deployments")),
        "patch kustomizations/status", "patch gitrepositories", "patch gitrepositories/status",
    }  # fmt: skip
    assert sum(number for name, number in writes.items() if name.endswith("(dry-run)")) == len(OBJECTS)
    assert await state(world) == before
    assert sorted(entry["id"] for entry in ready["status"]["inventory"]["entries"]) == sorted(
        f"{world.namespace}_{name}" for name in ("a__ConfigMap", "s__Secret", "web__Service", "web_apps_Deployment"))
    assert condition(ready, "Ready")["reason"] == "ReconciliationSucceeded"
    told = [event["message"] for event in await world.events()]
    assert not any("configured" in message or "created" in message for message in told), told


async def test_a_field_that_flux_does_not_own_any_more_is_made_ours_again(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    """Its value is right, so that nothing seems to differ; but once it leaves the source, it would stay."""
    world.commit(objects())
    await deliver_as_flux(world)
    both = config_map("a", k="1") | {"metadata": {"name": "a"}}
    await world.client.apply(CONFIG_MAPS, world.namespace, "a", msgspec.json.encode(both), field_manager="other")
    without = config_map("a") | {"metadata": {"name": "a", "labels": (await state(world))["ConfigMap/a"]["labels"]}}
    await world.client.apply(CONFIG_MAPS, world.namespace, "a", msgspec.json.encode(without),
                             field_manager="kustomize-controller")  # fmt: skip
    content = await world.get("v1", "ConfigMap", "a")
    assert content is not None
    assert content["data"] == {"k": "1"}
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        await world.source()
        await world.ready()
        await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
        assert engine.writes()["patch configmaps"] == 1
    fields = (await state(world))["ConfigMap/a"]["managedFields"]
    assert [field["fieldsV1"]["f:data"] for field in fields] == [{"f:k": {}}]
