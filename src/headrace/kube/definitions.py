"""Whether a kind that discovery does not tell of may have objects all the same (REL-06).

Discovery leaves out what is not served at the moment: a version that was turned off, an aggregated API whose server is
down, definitions of which an API server that has just started has not heard yet. Only what the cluster has stored
tells that a kind is gone: no definition of it, and no aggregated API that may have it.
"""

from __future__ import annotations

import msgspec

from headrace.kube.client import Client
from headrace.kube.counter import DISCOVERY
from headrace.kube.discovery import Discovery
from headrace.kube.errors import NoMatch, NotFound
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject

DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
API_SERVICES = Resource("apiregistration.k8s.io", "v1", "APIService", "apiservices", namespaced=False)

AUTOMATIC = "kube-aggregator.kubernetes.io/automanaged"
"""Label of the APIServices that the API server makes for what it serves itself."""


class _Names(msgspec.Struct, frozen=True):
    kind: str = ""


class _Spec(msgspec.Struct, frozen=True):
    names: _Names = _Names()


class _Definition(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


async def is_defined(client: Client, discovery: Discovery, group: str, kind: str) -> bool:
    """Whether there may be objects of a kind: it is served after all, defined, or of an aggregated API.

    An API server deletes all objects of a definition before the definition. Raises KubeError where it cannot be told.
    """
    await discovery.refresh()
    try:
        await discovery.resource(group, kind)
    except NoMatch:
        return await _aggregated(client, group) or await _custom(client, group, kind)
    return True


async def _aggregated(client: Client, group: str) -> bool:
    """Whether another server than the cluster's own has, or had a moment ago, this group."""
    listing = await client.list(API_SERVICES, metadata_only=True, purpose=DISCOVERY)
    return any(_group(live) == group and AUTOMATIC not in (live.metadata.labels or {}) for live in listing.items)


async def _custom(client: Client, group: str, kind: str) -> bool:
    listing = await client.list(DEFINITIONS, metadata_only=True, purpose=DISCOVERY)
    for live in listing.items:
        if _group(live) == group and await _defines(client, live.metadata.name, kind):
            return True
    return False


async def _defines(client: Client, name: str, kind: str) -> bool:
    try:
        live = await client.get(DEFINITIONS, "", name, purpose=DISCOVERY)
    except NotFound:
        return False
    return live.decode(_Definition).spec.names.kind == kind


def _group(live: LiveObject) -> str:
    """Both are named `<version or plural>.<group>`."""
    return live.metadata.name.partition(".")[2]
