"""Bad input and bad luck: what the user reads, and that nothing is pruned because of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, deployment, inventory


@pytest.mark.spec("KS-GEN-03", "REL-05")
async def test_a_broken_manifest_is_named_and_nothing_is_pruned_until_it_is_mended(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()

    await world.push({"a.yaml": "kind: ConfigMap\n  apiVersion: [", "b.yaml": None})
    ks = await world.failed(reason="BuildFailed", text="a.yaml")
    assert inventory(ks) == {f"{world.namespace}_a__ConfigMap", f"{world.namespace}_b__ConfigMap"}
    assert await world.get("v1", "ConfigMap", "b") is not None

    revision = await world.push({"a.yaml": config_map("a", k="mended")})
    await world.ready(revision=revision)
    assert await world.get("v1", "ConfigMap", "b") is None


@pytest.mark.spec("KS-APPLY-06", "KS-REC-08", "KS-REC-12")
async def test_an_object_that_the_cluster_refuses_stops_its_stage_and_is_named_with_its_file(
    world: World, engine: RunningEngine
) -> None:
    broken = deployment("web")
    broken["spec"]["replicas"] = -1
    revision = world.commit({"web.yaml": broken, "a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)

    ks = await world.failed(reason="ReconciliationFailed")

    message = condition(ks, "Ready")["message"]
    assert f"Deployment/{world.namespace}/web dry-run failed (Invalid): " in message
    assert "web.yaml" in message
    assert await world.get("v1", "ConfigMap", "a") is None
    assert condition(ks, "Reconciling")["reason"] == "ProgressingWithRetry"
    assert ks["status"]["observedGeneration"] == -1
    assert ks["status"]["lastAttemptedRevision"] == revision
    assert "lastAppliedRevision" not in ks["status"]
    assert ks["status"]["history"][0]["lastReconciledStatus"] == "ReconciliationFailed"


@pytest.mark.spec("KS-SRC-08", "REL-05")
async def test_a_path_that_vanishes_prunes_nothing(world: World, engine: RunningEngine) -> None:
    world.commit({"app/a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(path="app", targetNamespace=world.namespace)
    ready = await world.ready()
    await world.push({"app/a.yaml": None})
    ks = await world.failed(reason="ArtifactFailed", text="kustomization path not found")
    assert ks["status"]["lastAttemptedRevision"] == ready["status"]["lastAttemptedRevision"]
    assert await world.get("v1", "ConfigMap", "a") is not None


@pytest.mark.spec("KS-GEN-04")
async def test_an_empty_kustomization_prunes_all(world: World, engine: RunningEngine) -> None:
    world.commit({"app/a.yaml": config_map("a"), "app/kustomization.yaml": {"resources": ["a.yaml"]}})
    await world.source()
    await world.kustomization(path="app", targetNamespace=world.namespace)
    await world.ready()
    revision = await world.push({"app/kustomization.yaml": {"resources": []}})
    ks = await world.ready(revision=revision)
    assert inventory(ks) == set()
    assert await world.get("v1", "ConfigMap", "a") is None


async def test_an_unknown_kind_is_delivered_as_soon_as_it_is_served(world: World, engine: RunningEngine) -> None:
    group = f"{world.namespace}.example.com"
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}
    world.commit({"w.yaml": widget})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.failed(reason="ReconciliationFailed", text=f'no matches for kind "Widget" in version "{group}/v1"')

    definition = crd(group, "Widget", "widgets")
    crds = await world.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    await world.client.create(crds, "", msgspec.json.encode(definition))
    try:
        await world.ready()
        await world.delete(KUSTOMIZATION, "app")
        await world.until_gone(KUSTOMIZATION, "app")
    finally:
        await world.client.delete(crds, "", definition["metadata"]["name"])


@pytest.mark.spec("KS-APPLY-01", "REL-33", "KS-HC-11")
async def test_a_definition_and_its_objects_come_in_one_delivery(world: World, engine: RunningEngine) -> None:
    group = f"{world.namespace}.example.com"
    gadget = {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": "g", "namespace": world.namespace}}
    world.commit({"crd.yaml": crd(group, "Gadget", "gadgets"), "g.yaml": gadget})
    await world.source()
    await world.kustomization(wait=True)
    ks = await world.ready()
    assert f"{world.namespace}_g_{group}_Gadget" in inventory(ks)
    await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
    failed = [trace.message for trace in engine.traces(world.reference()) if trace.result == "retry"]
    assert not failed, "one run delivers both"
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")


@pytest.mark.spec("KS-APPLY-21")
async def test_an_object_without_a_namespace_is_a_clear_error(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization()
    await world.failed(reason="ReconciliationFailed", text="ConfigMap/a namespace not specified: ")


@pytest.mark.spec("SEC-06")
async def test_an_alias_bomb_is_refused(world: World, engine: RunningEngine) -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    names = zip("abcdefghi", "bcdefghij", strict=True)
    lines += [f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]" for old, new in names]
    world.commit({"bomb.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\n" + "\n".join(lines) + "\n"})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.failed(reason="BuildFailed", text="bomb.yaml")


@pytest.mark.spec("KS-SOPS-10")
async def test_an_encrypted_secret_is_refused(world: World, engine: RunningEngine) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
              "stringData": {"k": "ENC[AES256_GCM,data:x]"}, "sops": {"version": "3.9.0"}}
    world.commit({"s.yaml": secret})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.failed(text="is SOPS encrypted, configuring decryption is required")
    assert await world.get("v1", "Secret", "s") is None


async def test_an_ignore_rule_that_cannot_be_read_stalls_and_nothing_is_done(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    rule = {"paths": ["/spec"], "target": {"name": "("}}
    await world.kustomization(targetNamespace=world.namespace, ignore=[rule])
    ks = await world.failed(text="spec.ignore: target.name: invalid pattern")
    assert condition(ks, "Stalled")["status"] == "True"
    assert await world.get("v1", "ConfigMap", "a") is None


@pytest.mark.spec("KS-SRC-04")
async def test_a_missing_source_is_said_and_its_creation_is_the_cure(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.kustomization(targetNamespace=world.namespace)
    await world.failed(reason="ArtifactFailed", text='gitrepositories.source.toolkit.fluxcd.io "app" not found')
    await world.source()
    await world.ready()
    assert not [event for event in await world.events() if event["type"] == "Warning"]


async def test_a_missing_source_is_named_by_its_kind(world: World, engine: RunningEngine) -> None:
    await world.kustomization(sourceRef={"kind": "Bucket", "name": "b"})
    await world.failed(reason="ArtifactFailed", text='buckets.source.toolkit.fluxcd.io "b" not found')


def crd(group: str, kind: str, plural: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                 "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}]},
    }
