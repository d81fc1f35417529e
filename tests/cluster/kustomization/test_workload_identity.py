"""Accounts whose tokens go elsewhere: clusters by ConfigMap, and logins at Vault."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.controllers.cluster_config import ClusterConfigPolicy
from headrace.controllers.kustomize.decryption import DecryptionPolicy
from headrace.controllers.kustomize.kustomization import KustomizationOptions
from headrace.controllers.kustomize.targets import TargetPolicy
from headrace.kube.client import MERGE_PATCH, Client
from headrace.kube.resource import Resource
from headrace.toolbox import KeyServices
from tests.cluster.kustomization.test_spec_fields import ROLE_BINDINGS, ROLES
from tests.cluster.kustomization.world import World, condition, config_map, running_engine
from tests.servers.control_plane import ControlPlane
from tests.servers.key_services import Refused, Vault, serving
from tests.sops_encryption import encrypted_secret, new_data_key

ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True)
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
SECRETS = Resource("", "v1", "Secret", "secrets", namespaced=True)
TRUSTED_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
"""The one whose tokens the control plane takes."""
SECRET = "correct-horse-battery"

FEDERATED = KustomizationOptions(targets=TargetPolicy(config_maps=ClusterConfigPolicy(workload_identity=True)))


async def create(world: World, resource: Resource, content: dict[str, Any], namespace: str = "") -> None:
    await world.client.create(resource, namespace or world.namespace, msgspec.json.encode(content))


async def account(world: World, name: str) -> None:
    await create(world, ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})


async def may_deliver(world: World, name: str) -> None:
    verbs = ["get", "list", "watch", "create", "patch", "delete"]
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]
    api = "rbac.authorization.k8s.io"
    await create(world, ROLES, {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules})
    await create(world, ROLE_BINDINGS, {
        "apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": world.namespace}],
        "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
    })


async def cluster_map(world: World, cluster: ControlPlane, **data: str) -> None:
    said = {"provider": "generic", "address": cluster.config.server, "ca.crt": cluster.config.ca.decode()} | data
    await create(world, CONFIG_MAPS, config_map("there", **said))


async def change_map(world: World, **data: str | None) -> None:
    patch = msgspec.json.encode({"data": data})
    await world.client.patch(CONFIG_MAPS, world.namespace, "there", patch, content_type=MERGE_PATCH)


async def deliver(world: World, **spec: Any) -> None:
    world.commit({"a.yaml": config_map("a", k="1")})
    await world.source()
    await world.kustomization(
        targetNamespace=world.namespace, kubeConfig={"configMapRef": {"name": "there"}}, **spec)


@pytest.mark.spec("KS-IMP-07")
async def test_the_account_delivers_to_the_cluster_of_the_config_map_and_nobody_else_does(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    await account(world, "deployer")
    await cluster_map(world, cluster, serviceAccountName="deployer", audiences=f"{TRUSTED_AUDIENCE}\n")
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, FEDERATED):
        await deliver(world, retryInterval="1s")
        ks = await world.failed(reason="ReconciliationFailed", text="dry-run failed (Forbidden)")
        told = condition(ks, "Ready")["message"]
        assert f'User "system:serviceaccount:{world.namespace}:deployer" cannot patch' in told
        await may_deliver(world, "deployer")
        await world.ready()
        found = await world.get("v1", "ConfigMap", "a")
        assert found is not None
        assert found["data"] == {"k": "1"}


@pytest.mark.spec("KS-IMP-07")
async def test_the_address_is_the_audience_where_none_is_named_and_a_changed_config_map_is_read(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    """The control plane takes no tokens for its address, so it says whom it does not know."""
    await account(world, "deployer")
    await may_deliver(world, "deployer")
    await cluster_map(world, cluster, serviceAccountName="deployer")
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, FEDERATED):
        await deliver(world)
        await world.failed(reason="ReconciliationFailed", text="Unauthorized")
        await change_map(world, audiences=TRUSTED_AUDIENCE)
        await world.ready()


@pytest.mark.spec("KS-IMP-07")
@pytest.mark.parametrize(("data", "reason", "text"), [
    ({"serviceAccountName": "nobody"}, "ReconciliationFailed", 'serviceaccounts "nobody" not found'),
    ({"serviceAccountName": ""}, "ReconciliationFailed", "has no serviceAccountName, and there is no default"),
    ({"address": ""}, "ReconciliationFailed", "has no address"),
    ({"address": "http://127.0.0.1:1"}, "ReconciliationFailed", "is no https URL"),
    ({"address": "https://user@host"}, "ReconciliationFailed", "is no https URL"),
    ({"provider": "other"}, "ReconciliationFailed", "provider 'other' is none of aws, azure, gcp, generic"),
    ({"provider": "azure"}, "ReconciliationFailed", "azure tenant ID and client ID must be set"),
    ({"provider": "aws"}, "ReconciliationFailed", "invalid EKS cluster ARN: ''"),
    ({"provider": "gcp", "audiences": "x"}, "ReconciliationFailed", "provider 'gcp' chooses itself"),
    ({"ca.crt": "nonsense"}, "ReconciliationFailed", "certificate authority"),
], ids=["no account", "no name", "no address", "http", "user", "unknown", "no identity", "no cluster", "audiences",
        "CA"])
async def test_a_config_map_that_cannot_be_used_says_why(
    world: World, cluster: ControlPlane, tmp_path: Path, data: dict[str, str], reason: str, text: str
) -> None:
    await account(world, "deployer")
    await cluster_map(world, cluster, **({"serviceAccountName": "deployer"} | data))
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, FEDERATED):
        await deliver(world)
        await world.failed(reason=reason, text=text)


async def test_without_the_gate_no_token_is_asked_for(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    await cluster_map(world, cluster, serviceAccountName="deployer")
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        await deliver(world)
        ks = await world.failed(reason="FeatureGateDisabled", text="ObjectLevelWorkloadIdentity")
        assert condition(ks, "Stalled")["reason"] == "FeatureGateDisabled"
        assert "create serviceaccounts/token" not in engine.writes()


# -- Vault -------------------------------------------------------------------------------------------------------------


async def vault_world(world: World, client: Client, vault: Vault, listed: str) -> None:
    """An encrypted Secret, a decrypting account, and the operator's list of servers."""

    async def review(jwt: str, audience: str) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "spec": {"token": jwt, "audiences": [audience]}}
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        status = msgspec.json.decode(await client.request("POST", path, body=msgspec.json.encode(body)))["status"]
        if not status.get("authenticated"):
            raise Refused("the API server does not know this token")
        name: str = status["user"]["username"]
        return name

    vault.reviewer = review
    vault.roles[f"{world.namespace}_decrypter"] = f"system:serviceaccount:{world.namespace}:decrypter"
    await account(world, "decrypter")
    servers = f"instances:\n- address: {listed}\n  loginPath: auth/kubernetes/login\n"
    await create(world, CONFIG_MAPS, config_map("vaults", **{"config.yaml": servers}))
    key = new_data_key()
    entry = {"vault_address": vault.url, "engine_path": "transit", "key_name": "sops",
             "enc": vault.encrypt("sops", key)}
    world.commit({"s.yaml": encrypted_secret(key, "s", {"password": SECRET}, hc_vault=[entry])})
    await world.source()


def decrypting(world: World, **changed: Any) -> KustomizationOptions:
    return KustomizationOptions(decryption=DecryptionPolicy(
        namespace=world.namespace, vault_configmap="vaults", workload_identity=True, **changed))


async def password(world: World) -> str:
    secret = await world.get("v1", "Secret", "s")
    assert secret is not None
    return base64.b64decode(secret["data"]["password"]).decode()


@pytest.mark.spec("KS-SOPS-14")
async def test_an_account_logs_in_at_the_vault_that_the_operator_lists_as_its_own_role(
    world: World, client: Client, cluster: ControlPlane, tmp_path: Path
) -> None:
    vault = Vault()
    async with serving(vault) as vault.port:
        await vault_world(world, client, vault, vault.url)
        services = KeyServices(allow_hosts=[f"127.0.0.1:{vault.port}"])
        state = tmp_path / "state"
        async with running_engine(cluster.config, state, world.namespace, decrypting(world), key_services=services):
            await world.kustomization(
                targetNamespace=world.namespace,
                decryption={"provider": "sops", "serviceAccountName": "decrypter"})
            await world.ready()
            assert await password(world) == SECRET
        assert vault.logins == [f"{world.namespace}_decrypter"]


@pytest.mark.spec("KS-SOPS-14")
async def test_a_vault_that_is_not_listed_gets_no_login_and_the_token_of_a_secret_needs_none(
    world: World, client: Client, cluster: ControlPlane, tmp_path: Path
) -> None:
    vault = Vault(tokens={"hvs.static"})
    async with serving(vault) as vault.port:
        await vault_world(world, client, vault, "https://vault.example.com:8200")
        services = KeyServices(allow_hosts=[f"127.0.0.1:{vault.port}"])
        options = decrypting(world, default_service_account="decrypter")
        async with running_engine(
            cluster.config, tmp_path / "state", world.namespace, options, key_services=services
        ):
            await world.kustomization(
                targetNamespace=world.namespace, decryption={"provider": "sops", "secretRef": {"name": "keys"}})
            await world.failed(reason="BuildFailed", text='secrets "keys" not found')
            await create(world, SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}})
            await world.failed(
                reason="BuildFailed", text=f"no Vault login path configured for address '{vault.url}'")
            patch = msgspec.json.encode({"stringData": {"sops.vault-token": "hvs.static"}})
            await world.client.patch(SECRETS, world.namespace, "keys", patch, content_type=MERGE_PATCH)
            await world.ready()
            assert await password(world) == SECRET
        assert vault.logins == []
