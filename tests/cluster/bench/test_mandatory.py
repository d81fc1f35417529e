"""The floor that installs are measured against, on a real control plane."""

from __future__ import annotations

import asyncio
from collections import Counter

from bench import mandatory
from bench.api import GROUPS
from bench.cluster import Cluster
from bench.mandatory import Floor
from bench.watch import Watch
from headrace.kube.client import Client
from tests.servers.control_plane import ControlPlane

N = 3


async def test_the_floor_makes_seventeen_requests_an_app_and_no_other(
    cluster: ControlPlane, client: Client, namespace: str
) -> None:
    floor_cluster = Cluster(client, cluster.kubeconfig, 0)
    await floor_cluster.install_definitions()
    deployments = Watch()
    async with floor_cluster.followed(deployments, GROUPS["deployments"], "deployments", namespace):
        before = counted(client)
        seconds = await asyncio.wait_for(Floor(floor_cluster.api, deployments, namespace).measure(N), 120)
    spent = counted(client) - before
    await floor_cluster.release(namespace)
    apps = N + mandatory.WARM_UP
    assert seconds > 0
    assert spent.total() == 17 * apps
    assert {what: count / apps for what, count in spent.items()} == {
        "create gitrepositories": 1, "create kustomizations": 1, "create events": 2,
        "patch gitrepositories": 1, "patch kustomizations": 1,
        "patch gitrepositories/status": 1, "patch kustomizations/status": 2,
        **{f"patch {kind}": 1 for kind in ("serviceaccounts", "services", "deployments", "ingresses")},
        **{f"patch {kind} dry": 1 for kind in ("serviceaccounts", "services", "deployments", "ingresses")},
    }


def counted(client: Client) -> Counter[str]:
    """Requests of the client, but for its watches."""
    found: Counter[str] = Counter()
    for key, count in client.counter.snapshot().items():
        if key.verb not in ("list", "watch", "get"):
            target = f"{key.resource}/{key.subresource}" if key.subresource else key.resource
            found[f"{key.verb} {target}" + (" dry" if key.dry_run else "")] += count
    return found
