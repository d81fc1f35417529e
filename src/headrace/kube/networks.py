"""The networks of a cluster, as far as its API server tells: those of Services and of Pods."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from headrace.kube.client import Client
from headrace.kube.errors import KubeError
from headrace.kube.resource import Resource

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SERVICE_CIDRS = Resource("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", namespaced=False)
NODES = Resource("", "v1", "Node", "nodes", namespaced=False)
SERVICES = Resource("", "v1", "Service", "services", namespaced=True)


async def cluster_networks(client: Client) -> tuple[Network, ...]:
    """ServiceCIDRs (Kubernetes 1.33), the Pod networks of nodes, and in any case the address of the API server's own
    Service. What must not be read, or is not served, is left out: an operator's setting has to say it then."""
    found: set[Network] = set()
    for content in await _listed(client, SERVICE_CIDRS):
        found |= set(_networks(content.get("spec", {}).get("cidrs")))
    for content in await _listed(client, NODES):
        found |= set(_networks(content.get("spec", {}).get("podCIDRs")))
    try:
        service = (await client.get(SERVICES, "default", "kubernetes")).content()
        found |= set(_networks(service.get("spec", {}).get("clusterIPs")))
    except KubeError as error:
        log.warning("the networks of the cluster are not known", extra={"error": str(error)})
    return tuple(sorted(found, key=str))


async def _listed(client: Client, resource: Resource) -> list[dict[str, Any]]:
    try:
        return [live.content() for live in (await client.list(resource, "")).items]
    except KubeError:
        return []


def _networks(texts: Iterable[str] | None) -> Iterator[Network]:
    """Those that are networks or addresses; a headless Service has `None` as its address."""
    for text in texts or ():
        try:
            yield ipaddress.ip_network(text)
        except ValueError:
            continue
