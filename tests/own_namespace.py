"""Namespaces for tests: each has one of its own.

The namespace itself stays until the control plane is gone with the run. To delete one, a controller lists and deletes
every kind that there is, and does so again and again while an object has the finalizer of an engine that has ended:
for a few hundred tests that is more work than the tests are. What engines of other tests could meet does go: the
objects of our kinds.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator

import msgspec

from headrace.api.kinds import KINDS
from headrace.kube.client import MERGE_PATCH, Client
from headrace.kube.errors import NotFound
from headrace.kube.resource import Resource

NAMESPACES = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
_WITHOUT_FINALIZERS = b'{"metadata":{"finalizers":null}}'


@contextlib.asynccontextmanager
async def own_namespace(client: Client, prefix: str = "test") -> AsyncIterator[str]:
    """The name of a fresh namespace; objects of our kinds are gone from it afterwards."""
    name = f"{prefix}-{secrets.token_hex(4)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await client.create(NAMESPACES, "", msgspec.json.encode(body))
    yield name
    for kind in KINDS.values():
        resource = Resource(kind.group, kind.storage_version, kind.kind, kind.plural, namespaced=True)
        with contextlib.suppress(NotFound):  # the definition of the kind was never applied
            await _clear(client, resource, name)


async def _clear(client: Client, resource: Resource, namespace: str) -> None:
    for live in (await client.list(resource, namespace)).items:
        with contextlib.suppress(NotFound):
            if live.metadata.finalizers:
                await client.patch(
                    resource, namespace, live.metadata.name, _WITHOUT_FINALIZERS, content_type=MERGE_PATCH
                )
            await client.delete(resource, namespace, live.metadata.name)
