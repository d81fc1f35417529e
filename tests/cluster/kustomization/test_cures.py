"""Errors that heal: what was refused is tried again when its cure appears. Each test names the event that woke the run;
the retry interval is an hour."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.resource import Resource
from tests.cluster.kustomization.test_failures import crd
from tests.cluster.kustomization.world import RunningEngine, World, config_map
from tests.servers.control_plane import ControlPlane
from tests.servers.fault_proxy import fault_proxy

RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(RBAC, "v1", "Role", "roles", namespaced=True)
BINDINGS = Resource(RBAC, "v1", "RoleBinding", "rolebindings", namespaced=True)
WEBHOOKS = Resource("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration",
                    "validatingwebhookconfigurations", namespaced=False)


async def create(world: World, resource: Resource, name: str, **content: Any) -> None:
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}} | content
    await world.client.create(resource, world.namespace if resource.namespaced else "", msgspec.json.encode(body))


async def settled(world: World, engine: RunningEngine, runs: int = 3) -> None:
    """Wait until a blocked object has been tried again as often as it is without any event: from here on only an event
    can wake it."""
    await engine.until_trace(
        world.reference(), lambda trace: trace.result == "retry" and len(engine.traces(world.reference())) >= runs)


async def test_rights_that_are_granted_later_wake_the_kustomization(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="deployer")
    await world.failed(reason="ReconciliationFailed", text="(Forbidden)")
    await settled(world, engine)

    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    await create(world, ROLES, "deployer", rules=[rule])
    subject = {"kind": "ServiceAccount", "name": "deployer", "namespace": world.namespace}
    await create(world, BINDINGS, "deployer", subjects=[subject],
                 roleRef={"apiGroup": RBAC, "kind": "Role", "name": "deployer"})

    await world.ready()
    healed = await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
    assert [str(cause) for cause in healed.causes] == [f"Access/{world.namespace}/rbac changed"]


async def test_a_webhook_that_does_not_answer_is_waited_for(world: World, engine: RunningEngine) -> None:
    service = {"name": "hook", "namespace": world.namespace, "path": "/", "port": 443}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}
    hook = {
        "name": "hook.example.com", "clientConfig": {"service": service}, "rules": [rule], "failurePolicy": "Fail",
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "objectSelector": {"matchLabels": {"kustomize.toolkit.fluxcd.io/name": "app"}},
    }
    await create(world, WEBHOOKS, world.namespace, webhooks=[hook])
    try:
        world.commit({"a.yaml": config_map("a")})
        await world.source()
        await world.kustomization(targetNamespace=world.namespace)
        await world.failed(reason="ReconciliationFailed", text="failed calling webhook")
        cause = f"Admission/{world.namespace}/hook changed"
        await settled(world, engine)

        services = await world.resource("v1", "Service")
        await create(world, services, "hook", spec={"ports": [{"port": 443}]})
        await settled(world, engine, runs=5)
        assert [str(each) for each in engine.traces(world.reference())[0].causes] == [cause]
    finally:
        await world.client.delete(WEBHOOKS, "", world.namespace)
    await world.ready()
    healed = await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
    assert [str(each) for each in healed.causes] == [cause]


@pytest.mark.spec("REL-33")
async def test_a_definition_that_somebody_else_installs_wakes_the_kustomization(
    world: World, engine: RunningEngine
) -> None:
    group = f"{world.namespace}.example.com"
    world.commit({"w.yaml": {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}}})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.failed(reason="ReconciliationFailed", text="no matches for kind")
    crds = await world.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    definition = crd(group, "Widget", "widgets")
    await world.client.create(crds, "", msgspec.json.encode(definition))
    try:
        await world.ready()
        healed = await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
        assert {str(cause) for cause in healed.causes} == {"Widget changed"}
        await world.delete(KUSTOMIZATION, "app")
        await world.until_gone(KUSTOMIZATION, "app")
    finally:
        await world.client.delete(crds, "", definition["metadata"]["name"])


async def remote(world: World, kubeconfig: bytes) -> None:
    data = {"value": base64.b64encode(kubeconfig).decode()}
    await create(world, Resource("", "v1", "Secret", "secrets", namespaced=True), "kubeconfig", data=data)
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, kubeConfig={"secretRef": {"name": "kubeconfig"}})


async def test_a_kind_that_discovery_names_and_requests_do_not_find_is_tried_again(
    world: World, engine: RunningEngine, cluster: ControlPlane, tmp_path: Any
) -> None:
    """As behind a load balancer, where one API server knows a new definition before the other."""
    async with fault_proxy(cluster.config) as proxy:
        fault = proxy.fail(404, method="PATCH", path=f"/namespaces/{world.namespace}/configmaps/", times=1)
        await remote(world, proxy.write_kubeconfig(tmp_path / "proxied").read_bytes())
        await world.ready()
        assert fault.hits == 1
        healed = await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
        assert [str(cause) for cause in healed.causes] == ["ServedKind/ConfigMap. changed"]
        await world.delete(KUSTOMIZATION, "app")
        await world.until_gone(KUSTOMIZATION, "app")


async def test_a_cluster_that_answers_again_wakes_the_kustomization(
    world: World, engine: RunningEngine, cluster: ControlPlane, tmp_path: Any
) -> None:
    async with fault_proxy(cluster.config) as proxy:
        fault = proxy.reset(method="PATCH", path=f"/namespaces/{world.namespace}/configmaps/")
        await remote(world, proxy.write_kubeconfig(tmp_path / "proxied").read_bytes())
        await world.failed(reason="ReconciliationFailed")
        proxy.remove(fault)
        await world.ready()
        healed = await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
        assert all(str(cause).startswith("Cluster/") for cause in healed.causes)
        await world.delete(KUSTOMIZATION, "app")
        await world.until_gone(KUSTOMIZATION, "app")
