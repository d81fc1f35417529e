"""The ephemeral control plane that the bench runs on, its custom resource definitions and the engine's identity."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterable
from importlib import resources
from pathlib import Path

import msgspec
import yaml

from bench.api import GROUPS, Api, collection
from bench.watch import Watch
from bench.workload import Object
from headrace.kube.client import JSON, Client
from headrace.kube.config import load_kubeconfig
from headrace.kube.errors import NotFound
from headrace.kube.lines import LineSplitter

ENGINE_NAMESPACE = "headrace-system"
ENGINE_USER = f"system:serviceaccount:{ENGINE_NAMESPACE}:engine"
_EVENT_LIMIT = 16 << 20
_WATCH_SECONDS = 4 * 3600


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Named(msgspec.Struct):
    class Metadata(msgspec.Struct):
        name: str = ""

    metadata: Metadata


class Cluster:
    """A running control plane, as the bench's own client sees it."""

    def __init__(self, client: Client, kubeconfig: Path, pid: int) -> None:
        self.api = Api(client)
        self.pid = pid
        self._client = client
        self._kubeconfig = kubeconfig

    async def prepare(self, namespaces: Iterable[str]) -> None:
        """Install the CRDs and create the namespaces; ends when both can be used."""
        for document in _definitions():
            await self.api.create(document)
        for name in namespaces:
            await self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for resource, group in GROUPS.items():
            await self._served(collection(group, resource))

    async def engine_kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig for a service account of the engine's own, so that its requests can be told from others."""
        metadata = {"name": "engine", "namespace": ENGINE_NAMESPACE}
        await self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ENGINE_NAMESPACE}})
        await self.api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        await self.api.create({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "bench-engine"}, "subjects": [{"kind": "ServiceAccount", **metadata}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}})
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                   "spec": {"expirationSeconds": 4 * 3600}}
        path = f"{collection('v1', 'serviceaccounts', ENGINE_NAMESPACE)}/engine/token"
        token = (await self.api.post(path, request))["status"]["token"]
        config = yaml.safe_load(self._kubeconfig.read_text())
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        written = folder / "engine.kubeconfig"
        written.touch(mode=0o600)
        written.write_text(yaml.safe_dump(config))
        return written

    @contextlib.asynccontextmanager
    async def followed(self, watch: Watch, api_version: str, plural: str, namespace: str) -> AsyncIterator[None]:
        """Feed `watch` while the context is open; when the watch breaks off, waiting on it would never end, so the
        process is told."""
        listed = asyncio.Event()
        following = asyncio.ensure_future(self.follow(watch, api_version, plural, namespace, listed))
        following.add_done_callback(lambda task: _report(task, plural))
        await listed.wait()
        try:
            yield
        finally:
            following.cancel()

    async def follow(self, watch: Watch, api_version: str, plural: str, namespace: str,
                     started: asyncio.Event) -> None:
        """Feed `watch` until cancelled. Raises what the client raises, or RuntimeError when the server ends it."""
        path = collection(api_version, plural, namespace)
        listed = json.loads(await self._client.request("GET", path))
        for item in listed["items"]:
            watch.changed(json.dumps(item).encode())
        started.set()
        query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"],
                 "timeoutSeconds": str(_WATCH_SECONDS)}
        lines = LineSplitter(_EVENT_LIMIT)
        async with self._client.stream(path, query=query, accept=JSON, silence=_WATCH_SECONDS) as chunks:
            async for chunk in chunks:
                for line in lines.feed(chunk):
                    _take(watch, line)
        raise RuntimeError(f"the watch of {plural} in {namespace} ended")

    async def empty(self, namespace: str, resources: Iterable[str]) -> None:
        """Delete a namespace with objects whose finalizers nobody else would remove; ends when it is gone."""
        for resource in resources:
            items = (await self.api.get(collection(GROUPS[resource], resource, namespace)))["items"]
            await asyncio.gather(*(
                self.api.merge(resource, namespace, item["metadata"]["name"], {"metadata": {"finalizers": None}})
                for item in items))
        await self.api.delete(f"/api/v1/namespaces/{namespace}")
        await self._gone(f"/api/v1/namespaces/{namespace}")

    async def _served(self, path: str) -> None:
        """A new CRD is served a moment later."""
        while True:
            try:
                await self.api.get(path)
            except NotFound:
                await asyncio.sleep(0.1)
            else:
                return

    async def _gone(self, path: str) -> None:
        with contextlib.suppress(NotFound):
            while True:
                await self.api.get(path)
                await asyncio.sleep(0.5)


def _definitions() -> list[Object]:
    """The CRDs as they are shipped."""
    folder = resources.files("headrace.api") / "crds"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]


def _take(watch: Watch, line: bytes) -> None:
    event = msgspec.json.decode(line, type=_Event)
    if event.type == "DELETED":
        watch.deleted(msgspec.json.decode(event.object, type=_Named).metadata.name)
    elif event.type in ("ADDED", "MODIFIED"):
        watch.changed(bytes(event.object))
    else:
        raise RuntimeError(f"watch: {bytes(event.object).decode(errors='replace')}")


def _report(task: asyncio.Future[None], plural: str) -> None:
    if not task.cancelled() and task.exception() is not None:
        print(f"the bench lost its watch of {plural}: {task.exception()}", file=sys.stderr)


@contextlib.asynccontextmanager
async def started(folder: Path, *, audit: Path | None = None) -> AsyncIterator[Cluster]:
    """A control plane without fsync that is gone at the end."""
    from headrace.cluster import EmbeddedCluster

    async with contextlib.AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(
            EmbeddedCluster(data_dir=folder, ephemeral=True, audit_log=audit))
        config = load_kubeconfig(embedded.kubeconfig, trusted=True)
        client = await stack.enter_async_context(Client(config, user_agent="headrace-bench"))
        yield Cluster(client, embedded.kubeconfig, embedded.pid)
