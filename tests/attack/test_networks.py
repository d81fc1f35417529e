"""Sources that name addresses of the cluster under `--tenancy=strict`."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from headrace.api.kinds import GIT_REPOSITORY
from headrace.engine.engine import Engine
from headrace.kube.client import Client
from headrace.kube.networks import NODES, SERVICES, cluster_networks
from tests.attack.strict import put, strict_engine
from tests.cluster.kustomization.world import World, condition
from tests.servers.control_plane import ControlPlane


async def said(world: World, url: str) -> str:
    await world.source("other", url=url, timeout="5s")
    repo = await world.until(GIT_REPOSITORY, "other", lambda o: condition(o, "Ready").get("status") == "False")
    message: str = condition(repo, "Ready")["message"]
    return message


@pytest.mark.spec("SEC-29")
async def test_the_networks_of_services_and_pods_are_known_from_the_api_server(client: Client) -> None:
    service = (await client.get(SERVICES, "default", "kubernetes")).content()
    nodes = [live.content() for live in (await client.list(NODES, "")).items]

    networks = await cluster_networks(client)

    for address in service["spec"]["clusterIPs"]:
        assert any(ipaddress.ip_address(address) in network for network in networks)
    for node in nodes:
        assert {ipaddress.ip_network(text) for text in node["spec"].get("podCIDRs", ())} <= set(networks)


@pytest.mark.spec("SEC-29")
async def test_the_api_servers_own_address_cannot_be_a_source(world: World, strict: Engine, client: Client) -> None:
    service = (await client.get(SERVICES, "default", "kubernetes")).content()

    message = await said(world, f"https://{service['spec']['clusterIP']}/x.git")

    assert "is in a network closed by the operator" in message


@pytest.mark.spec("SEC-29")
async def test_pods_and_named_networks_cannot_be_a_source(
    cluster: ControlPlane, world: World, tmp_path: Path
) -> None:
    name = f"node-{world.namespace}"
    await put(world, "v1", "Node", name, {"spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"]}})
    state = tmp_path / "state"
    try:
        async with strict_engine(cluster.config, state, world.namespace, cluster_networks=("192.0.2.0/24",)):
            assert "closed by the operator" in await said(world, "http://10.244.7.9/x.git")
            await world.delete(GIT_REPOSITORY, "other")
            await world.until_gone(GIT_REPOSITORY, "other")
            assert "closed by the operator" in await said(world, "http://[::ffff:192.0.2.9]/x.git")
    finally:
        await world.client.delete(NODES, "", name)
