"""spec.kubeConfig: delivery to a second real control plane."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.client import MERGE_PATCH, Client
from headrace.kube.errors import NotFound
from headrace.kube.resource import Resource
from tests.cluster.kustomization.test_spec_fields import ROLE_BINDINGS, ROLES
from tests.cluster.kustomization.world import DEADLINE, RunningEngine, World, condition, config_map, deployment
from tests.own_namespace import NAMESPACES
from tests.servers.control_plane import ControlPlane, shared_control_plane

SECRETS = Resource("", "v1", "Secret", "secrets", namespaced=True)
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with shared_control_plane(tmp_path_factory.mktemp("second-control-plane")) as running:
        yield running


async def kubeconfig_secret(world: World, content: bytes, key: str = "value") -> None:
    data = {key: base64.b64encode(content).decode()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kubeconfig"}, "data": data}
    await world.client.create(SECRETS, world.namespace, msgspec.json.encode(body))


def inline(kubeconfig: Path) -> bytes:
    """The kubeconfig with its files taken in, as users put it into Secrets."""
    return kubeconfig.read_bytes()


async def remote_data(remote: Client, namespace: str) -> Any:
    try:
        return (await remote.get(CONFIG_MAPS, namespace, "a")).content()["data"]
    except NotFound:
        return None


async def until(remote: Client, namespace: str, data: Any) -> None:
    async with asyncio.timeout(DEADLINE):
        while await remote_data(remote, namespace) != data:
            await asyncio.sleep(0.05)


@pytest.mark.spec("KS-IMP-03")
async def test_a_second_cluster_is_delivered_to_kept_right_and_cleaned_up(
    world: World, engine: RunningEngine, second: ControlPlane
) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}}
    world.commit({"ns.yaml": namespace, "a.yaml": config_map("a", k="1"), "web.yaml": deployment("web", 1)})
    await kubeconfig_secret(world, inline(second.kubeconfig))
    await world.source()
    await world.kustomization(
        targetNamespace=world.namespace, wait=True, kubeConfig={"secretRef": {"name": "kubeconfig"}})
    await world.ready()
    async with Client(second.config) as remote:
        assert await remote_data(remote, world.namespace) == {"k": "1"}
        assert await world.get("v1", "ConfigMap", "a") is None
        await remote.patch(
            CONFIG_MAPS, world.namespace, "a", b'{"data": {"k": "2"}}', content_type=MERGE_PATCH, field_manager="x")
        await until(remote, world.namespace, {"k": "1"})
        await world.delete(KUSTOMIZATION, "app")
        await world.until_gone(KUSTOMIZATION, "app")
        assert await remote_data(remote, world.namespace) is None


@pytest.mark.spec("KS-IMP-04")
async def test_a_missing_kubeconfig_is_said_and_its_creation_is_the_cure(
    world: World, engine: RunningEngine, second: ControlPlane
) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}}
    world.commit({"ns.yaml": namespace, "a.yaml": config_map("a", k="1")})
    await world.source()
    await world.kustomization(
        targetNamespace=world.namespace, kubeConfig={"secretRef": {"name": "kubeconfig"}})
    text = f"""unable to read KubeConfig secret '{world.namespace}/kubeconfig' error: secrets "kubeconfig" not found"""
    await world.failed(reason="ReconciliationFailed", text=text)
    await kubeconfig_secret(world, inline(second.kubeconfig), "value.yaml")
    await world.ready()
    await world.delete(KUSTOMIZATION, "app")
    await world.until_gone(KUSTOMIZATION, "app")


@pytest.mark.spec("KS-IMP-06")
async def test_on_the_second_cluster_too_everything_is_done_as_the_service_account(
    world: World, engine: RunningEngine, second: ControlPlane
) -> None:
    account = f"system:serviceaccount:{world.namespace}:tenant"
    world.commit({"a.yaml": config_map("a", k="1")})
    await kubeconfig_secret(world, inline(second.kubeconfig))
    await world.source()
    async with Client(second.config) as remote:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}}
        await remote.create(NAMESPACES, "", msgspec.json.encode(namespace))
        await world.kustomization(
            targetNamespace=world.namespace, serviceAccountName="tenant", prune=False, retryInterval="1s",
            kubeConfig={"secretRef": {"name": "kubeconfig"}})
        ks = await world.failed(reason="ReconciliationFailed", text=f'User "{account}" cannot patch')
        assert f"ConfigMap/{world.namespace}/a dry-run failed (Forbidden)" in condition(ks, "Ready")["message"]
        assert await remote_data(remote, world.namespace) is None
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]}]
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "tenant"},
                "rules": rules}
        await remote.create(ROLES, world.namespace, msgspec.json.encode(role))
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "tenant"},
                   "subjects": [{"kind": "ServiceAccount", "name": "tenant", "namespace": world.namespace}],
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"}}
        await remote.create(ROLE_BINDINGS, world.namespace, msgspec.json.encode(binding))
        await world.ready()
        assert await remote_data(remote, world.namespace) == {"k": "1"}
