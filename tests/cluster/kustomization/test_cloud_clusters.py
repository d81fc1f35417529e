"""Clusters of a cloud by ConfigMap: Google's issuer stands on the loopback, everything else is real."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.kube.client import MERGE_PATCH, Client
from tests.cluster.kustomization.test_workload_identity import (
    ACCOUNTS,
    CONFIG_MAPS,
    FEDERATED,
    TRUSTED_AUDIENCE,
    account,
    change_map,
    create,
    deliver,
    may_deliver,
)
from tests.cluster.kustomization.world import World, condition, config_map, running_engine
from tests.servers.clouds import Clouds, clouds
from tests.servers.control_plane import ControlPlane

PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/prov"
CLUSTER = "projects/proj/locations/europe-west1/clusters/prod"


@pytest.fixture
async def google(
    world: World, client: Client, cluster: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Clouds]:
    """Exchanges the account's token, if the API server knows it, for one that the API server takes."""

    async def exchange(token: str, audience: str) -> str:
        spec = {"token": token, "audiences": [audience]}
        body = msgspec.json.encode({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec})
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        status = msgspec.json.decode(await client.request("POST", path, body=body))["status"]
        assert status["user"]["username"] == f"system:serviceaccount:{world.namespace}:deployer"
        assert audience == f"//iam.googleapis.com/{PROVIDER}"
        return await token_of(world, "remote")

    async with clouds() as running:
        running.exchange = exchange
        ca = base64.b64encode(cluster.config.ca).decode()
        endpoint = cluster.config.server.removeprefix("https://")
        running.clusters[f"/v1/{CLUSTER}"] = {"endpoint": endpoint, "masterAuth": {"clusterCaCertificate": ca}}
        for service in ("STS", "CONTAINER"):
            monkeypatch.setenv(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}", running.url)
        yield running


async def token_of(world: World, name: str) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [TRUSTED_AUDIENCE]}}
    path = ACCOUNTS.object(world.namespace, name, "token")
    answer = msgspec.json.decode(await world.client.request("POST", path, body=msgspec.json.encode(body)))
    token: str = answer["status"]["token"]
    return token


async def federated_accounts(world: World) -> None:
    """`deployer` is what the object names, `remote` is who that is on the cluster."""
    for name in ("deployer", "remote"):
        await account(world, name)
    annotations = {"gcp.auth.fluxcd.io/workload-identity-provider": PROVIDER}
    patch = msgspec.json.encode({"metadata": {"annotations": annotations}})
    await world.client.patch(ACCOUNTS, world.namespace, "deployer", patch, content_type=MERGE_PATCH)


@pytest.mark.parametrize("given", [True, False], ids=["given", "looked up"])
async def test_the_account_delivers_to_a_cluster_of_google_as_who_it_is_there(
    world: World, cluster: ControlPlane, google: Clouds, tmp_path: Path, given: bool
) -> None:
    await federated_accounts(world)
    place = {"address": cluster.config.server, "ca.crt": cluster.config.ca.decode()} if given else {"cluster": CLUSTER}
    await create(world, CONFIG_MAPS, config_map("there", provider="gcp", serviceAccountName="deployer", **place))
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, FEDERATED):
        await deliver(world, retryInterval="1s")
        ks = await world.failed(reason="ReconciliationFailed", text="dry-run failed (Forbidden)")
        told = condition(ks, "Ready")["message"]
        assert f'User "system:serviceaccount:{world.namespace}:remote" cannot patch' in told
        await may_deliver(world, "remote")
        await world.ready()
        found = await world.get("v1", "ConfigMap", "a")
        assert found is not None
        assert found["data"] == {"k": "1"}
    assert (f"/v1/{CLUSTER}" in google.paths()) is not given


async def test_audiences_stall_the_object_until_the_config_map_has_none(
    world: World, cluster: ControlPlane, google: Clouds, tmp_path: Path
) -> None:
    await federated_accounts(world)
    await may_deliver(world, "remote")
    data = {"provider": "gcp", "serviceAccountName": "deployer", "cluster": CLUSTER, "audiences": "x"}
    await create(world, CONFIG_MAPS, config_map("there", **data))
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, FEDERATED):
        await deliver(world)
        ks = await world.failed(reason="ReconciliationFailed", text="chooses itself")
        assert condition(ks, "Stalled")["status"] == "True"
        assert google.asked == []
        await change_map(world, audiences=None)
        await world.ready()


async def test_without_the_gate_no_cloud_is_asked(
    world: World, cluster: ControlPlane, google: Clouds, tmp_path: Path
) -> None:
    await federated_accounts(world)
    data = {"provider": "gcp", "serviceAccountName": "deployer", "cluster": CLUSTER}
    await create(world, CONFIG_MAPS, config_map("there", **data))
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        await deliver(world)
        await world.failed(reason="FeatureGateDisabled", text="ObjectLevelWorkloadIdentity")
        assert "create serviceaccounts/token" not in engine.writes()
    assert google.asked == []


async def test_the_engines_own_identity_opens_no_cluster(
    world: World, cluster: ControlPlane, google: Clouds, tmp_path: Path
) -> None:
    await create(world, CONFIG_MAPS, config_map("there", provider="gcp", cluster=CLUSTER))
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, FEDERATED):
        await deliver(world)
        await world.failed(reason="ReconciliationFailed", text="has no serviceAccountName, and there is no default")
    assert google.asked == []
