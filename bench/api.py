"""The requests of the bench's own client: what a script with kubectl would do, and the unavoidable requests."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from bench.workload import Object
from headrace.kube.client import Client

_PLURALS = {
    "ConfigMap": "configmaps", "Deployment": "deployments", "Event": "events", "GitRepository": "gitrepositories",
    "OCIRepository": "ocirepositories",
    "Ingress": "ingresses", "Kustomization": "kustomizations", "Namespace": "namespaces", "Service": "services",
    "ServiceAccount": "serviceaccounts", "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
}
GROUPS = {
    "gitrepositories": "source.toolkit.fluxcd.io/v1", "ocirepositories": "source.toolkit.fluxcd.io/v1",
    "kustomizations": "kustomize.toolkit.fluxcd.io/v1",
    "deployments": "apps/v1",
}


class Api:
    """Plain requests, JSON in and out. Raises what the client raises."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(self, item: Object) -> Object:
        """POST; returns the object as created."""
        path = collection(item["apiVersion"], _PLURALS[item["kind"]], item["metadata"].get("namespace", ""))
        return await self._send("POST", path, item, "application/json")

    async def apply(self, item: Object, *, manager: str, dry_run: bool = False) -> Object:
        """Server-side apply with force."""
        metadata = item["metadata"]
        path = collection(item["apiVersion"], _PLURALS[item["kind"]], metadata.get("namespace", ""))
        query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        return await self._send("PATCH", f"{path}/{metadata['name']}?{urlencode(query)}", item,
                                "application/apply-patch+yaml")

    async def merge(self, resource: str, namespace: str, name: str, patch: Object, *, subresource: str = "") -> Object:
        """JSON merge patch of one of the two custom kinds."""
        path = f"{collection(GROUPS[resource], resource, namespace)}/{name}"
        return await self._send("PATCH", f"{path}/{subresource}".rstrip("/"), patch, "application/merge-patch+json")

    async def get(self, path: str) -> Object:
        """GET of any path."""
        content: Object = json.loads(await self._client.request("GET", path))
        return content

    async def post(self, path: str, body: Object) -> Object:
        """POST to any path."""
        return await self._send("POST", path, body, "application/json")

    async def delete(self, path: str) -> None:
        """DELETE of any path, one object or a collection."""
        await self._client.request("DELETE", path)

    async def _send(self, method: str, path: str, body: Object, content_type: str) -> Object:
        path, _, query = path.partition("?")
        pairs: Any = dict(pair.split("=", 1) for pair in query.split("&")) if query else None
        answer = await self._client.request(
            method, path, query=pairs, body=json.dumps(body).encode(), content_type=content_type)
        content: Object = json.loads(answer)
        return content


def collection(api_version: str, plural: str, namespace: str = "") -> str:
    """The path of a collection."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"
