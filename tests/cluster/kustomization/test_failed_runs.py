"""Runs that fail in the middle: what is remembered of them, what stays on the cluster, and what ends them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH
from headrace.kube.resource import Resource
from tests.cluster.kustomization.test_failures import crd
from tests.cluster.kustomization.test_spec_fields import ACCOUNTS, ROLE_BINDINGS, ROLES, create
from tests.cluster.kustomization.world import (
    DEADLINE,
    RunningEngine,
    World,
    condition,
    config_map,
    deployment,
    inventory,
)

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
HOLD = "example.com/hold"


def ids(world: World, *names: str, kind: str = "_ConfigMap") -> set[str]:
    return {f"{world.namespace}_{name}_{kind}" for name in names}


@pytest.mark.spec("KS-INV-03", "KS-REC-10")
async def test_a_failed_apply_loses_track_of_nothing_and_prunes_nothing(world: World, engine: RunningEngine) -> None:
    first = world.commit({"app/a.yaml": config_map("a"), "app/z.yaml": config_map("z")})
    await world.source()
    await world.kustomization(path="app", targetNamespace=world.namespace)
    await world.ready()

    second = await world.push(
        {"app/a.yaml": None, "app/b.yaml": config_map("b"), "app/web.yaml": deployment("web", -1)})
    ks = await world.failed(reason="ReconciliationFailed", text="dry-run failed (Invalid)")
    assert inventory(ks) == ids(world, "a", "z"), "what was not reached is not there"
    assert (ks["status"]["lastAttemptedRevision"], ks["status"]["lastAppliedRevision"]) == (second, first)
    assert await world.get("v1", "ConfigMap", "a") is not None

    third = await world.push({"app/web.yaml": None})
    ks = await world.ready(revision=third)
    assert inventory(ks) == ids(world, "b", "z")
    assert ks["status"]["lastAttemptedRevision"] == third
    assert await world.get("v1", "ConfigMap", "a") is None

    await world.push({"app/b.yaml": None, "app/z.yaml": None, "other.yaml": config_map("o")})
    ks = await world.failed(reason="ArtifactFailed", text="kustomization path not found: app")
    assert ks["status"]["lastAttemptedRevision"] == third
    assert inventory(ks) == ids(world, "b", "z")


MISTAKES: list[Any] = [
    pytest.param({"apiVersion": "apps/v1", "kind": "Deploymnt", "metadata": {"name": "x"}}, id="no such kind"),
    pytest.param(config_map("x/y"), id="no such name"),
]


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_that_is_corrected_leaves_nothing_to_prune(
    world: World, engine: RunningEngine, mistake: dict[str, Any]
) -> None:
    world.commit({"app/a.yaml": config_map("a"), "app/x.yaml": mistake})
    await world.source()
    await world.kustomization(path="app", targetNamespace=world.namespace)
    ks = await world.failed(reason="ReconciliationFailed")
    assert inventory(ks) == set()
    revision = await world.push({"app/x.yaml": None})
    ks = await world.ready(revision=revision)
    assert inventory(ks) == ids(world, "a")


async def test_a_kustomization_that_names_no_kind_can_be_deleted(world: World, engine: RunningEngine) -> None:
    world.commit({"x.yaml": {"apiVersion": "apps/v1", "kind": "Deploymnt", "metadata": {"name": "x"}}})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.failed(reason="ReconciliationFailed")
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")


async def test_a_namespace_that_is_added_leaves_nothing_to_prune(world: World, engine: RunningEngine) -> None:
    world.commit({"app/a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(path="app")
    await world.failed(reason="ReconciliationFailed", text="namespace not specified")
    await world.patch(KUSTOMIZATION, "app", {"spec": {"targetNamespace": world.namespace}})
    ks = await world.ready()
    assert inventory(ks) == ids(world, "a")


def held(content: dict[str, Any]) -> dict[str, Any]:
    content["metadata"]["finalizers"] = [HOLD]
    return content


@pytest.mark.spec("KS-GC-07", "KS-GC-08")
async def test_stale_objects_go_in_reverse_order_and_an_accepted_deletion_is_tracked_no_more(
    world: World, engine: RunningEngine
) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "x"}, "rules": []}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x"}}
    stale = {"service.yaml": held(service), "map.yaml": held(config_map("x")), "role.yaml": held(role),
             "account.yaml": held(account)}
    world.commit({"kept.yaml": config_map("kept"), **stale})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()

    ks = await world.ready(revision=await world.push(dict.fromkeys(stale)))

    assert inventory(ks) == ids(world, "kept")
    # Nothing but the deletion has touched the objects, which their finalizer keeps: so their versions tell the order.
    deleted: list[tuple[int, str]] = []
    for content in stale.values():
        found = await world.get(content["apiVersion"], content["kind"], "x")
        assert found is not None
        assert "deletionTimestamp" in found["metadata"]
        deleted.append((int(found["metadata"]["resourceVersion"]), content["kind"]))
        resource = await world.resource(content["apiVersion"], content["kind"])
        patch = msgspec.json.encode({"metadata": {"finalizers": None}})
        await world.client.patch(resource, world.namespace, "x", patch, content_type=MERGE_PATCH)
    assert [kind for _, kind in sorted(deleted)] == ["Service", "ConfigMap", "Role", "ServiceAccount"]


@pytest.mark.spec("KS-GC-08", "KS-GC-06", "KS-FIN-05", "KS-IMP-01")
async def test_refused_deletions_are_all_named_and_hold_the_kustomization_until_they_are_allowed(
    world: World, engine: RunningEngine
) -> None:
    await create(world, ACCOUNTS, "tenant")
    rules = [{"apiGroups": [""], "resources": ["configmaps", "services"], "verbs": ["get", "create", "patch"]},
             {"apiGroups": [""], "resources": ["services"], "verbs": ["delete"]}]
    await create(world, ROLES, "tenant", rules=rules)
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": world.namespace}
    await create(world, ROLE_BINDINGS, "tenant", subjects=[subject],
                 roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"})
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}}
    world.commit({"a.yaml": config_map("a"), "b.yaml": config_map("b"), "c.yaml": config_map("c"), "x.yaml": service})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="tenant", retryInterval="1s")
    await world.ready()

    await world.push({"a.yaml": None, "b.yaml": None, "x.yaml": None})
    ks = await world.failed(reason="PruneFailed", text="delete failed, errors: ")
    message = condition(ks, "Ready")["message"]
    assert f"ConfigMap/{world.namespace}/a delete failed" in message
    assert f"ConfigMap/{world.namespace}/b delete failed" in message
    assert inventory(ks) == ids(world, "a", "b", "c")
    assert await world.get("v1", "Service", "x") is None

    await world.delete(KUSTOMIZATION, "app")
    await world.failed(reason="PruneFailed", text=f"ConfigMap/{world.namespace}/c delete failed")
    patch = msgspec.json.encode({"rules": [*rules, rules[0] | {"verbs": ["delete"]}]})
    await world.client.patch(ROLES, world.namespace, "tenant", patch, content_type=MERGE_PATCH)
    await world.until_gone(KUSTOMIZATION, "app")
    assert [await world.get("v1", "ConfigMap", name) for name in "abc"] == [None, None, None]


async def test_a_deletion_that_was_refused_goes_on_though_a_kind_is_gone(world: World, engine: RunningEngine) -> None:
    group = f"{world.namespace}.example.com"
    await create(world, ACCOUNTS, "tenant")
    maps = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]}
    await create(world, ROLES, "tenant", rules=[maps])
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": world.namespace}
    await create(world, ROLE_BINDINGS, "tenant", subjects=[subject],
                 roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"})
    kinds = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
    bindings = Resource(kinds.group, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
    rules = [{"apiGroups": ["apiextensions.k8s.io", group], "resources": ["*"], "verbs": ["*"]}]
    await create(world, kinds, world.namespace, rules=rules)
    await create(world, bindings, world.namespace, subjects=[subject],
                 roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": world.namespace})
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}
    definition = crd(group, "Widget", "widgets")
    world.commit({"a.yaml": config_map("a"), "crd.yaml": definition, "w.yaml": widget})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="tenant", retryInterval="1s")
    await world.ready()

    await world.delete(KUSTOMIZATION, "app")
    await world.failed(reason="PruneFailed", text=f"ConfigMap/{world.namespace}/a delete failed")
    crds = await world.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    await world.until_gone(crds, definition["metadata"]["name"], "")
    discovery = engine.clusters.management.discovery
    async with asyncio.timeout(DEADLINE):
        while discovery.cached(group, "Widget") is not None:
            await asyncio.sleep(0.1)  # the server's own discovery lags behind, and tells nobody
            await discovery.refresh()
    patch = msgspec.json.encode({"rules": [maps | {"verbs": ["*"]}]})
    await world.client.patch(ROLES, world.namespace, "tenant", patch, content_type=MERGE_PATCH)
    await world.until_gone(KUSTOMIZATION, "app")
    for resource in (bindings, kinds):
        await world.client.delete(resource, "", world.namespace)
