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
from headrace.kube.errors import NotFound, Unreachable
from headrace.kube.lines import LineSplitter

ENGINE_NAMESPACE = "headrace-system"
ENGINE_USER = f"system:serviceaccount:{ENGINE_NAMESPACE}:engine"
CUSTOM = ("gitrepositories", "kustomizations")
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
        await self.install_definitions()
        for name in namespaces:
            await self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    async def install_definitions(self) -> None:
        """Install the CRDs as they are shipped; ends when they are served."""
        for document in _definitions():
            await self.api.apply(document, manager="headrace")
        for resource in CUSTOM:
            await self._served(collection(GROUPS[resource], resource))

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
        """Feed `watch` while the context is open; an error, after which waiting would never end, is told."""
        listed = asyncio.Event()
        path = collection(api_version, plural, namespace)
        following = asyncio.ensure_future(self._follow(watch, path, listed))
        following.add_done_callback(lambda task: _report(task, plural))
        await listed.wait()
        try:
            yield
        finally:
            following.cancel()

    async def _follow(self, watch: Watch, path: str, listed: asyncio.Event) -> None:
        """Feed `watch` until cancelled. The API server ends the watch of a client that is slow, as the bench is on a
        busy machine; then everything is listed again."""
        while True:
            content = json.loads(await self._client.request("GET", path))
            watch.replaced([json.dumps(item).encode() for item in content["items"]])
            listed.set()
            query = {"watch": "1", "resourceVersion": content["metadata"]["resourceVersion"],
                     "timeoutSeconds": str(_WATCH_SECONDS)}
            with contextlib.suppress(Unreachable):
                await self._read_watch(watch, path, query)

    async def _read_watch(self, watch: Watch, path: str, query: dict[str, str]) -> None:
        lines = LineSplitter(_EVENT_LIMIT)
        async with self._client.stream(path, query=query, accept=JSON, silence=_WATCH_SECONDS) as chunks:
            async for chunk in chunks:
                for line in lines.feed(chunk):
                    if not _take(watch, line):
                        return

    async def empty(self, namespace: str) -> None:
        """Delete a namespace with custom resources that have finalizers and no engine; ends when it is gone."""
        await self.release(namespace)
        await self.api.delete(f"/api/v1/namespaces/{namespace}")
        await self._gone(f"/api/v1/namespaces/{namespace}")

    async def release(self, namespace: str) -> None:
        """Remove the finalizers that an engine would remove."""
        for resource in CUSTOM:
            items = (await self.api.get(collection(GROUPS[resource], resource, namespace)))["items"]
            await asyncio.gather(*(
                self.api.merge(resource, namespace, item["metadata"]["name"], {"metadata": {"finalizers": None}})
                for item in items))

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


def _take(watch: Watch, line: bytes) -> bool:
    """Whether the watch goes on: an ERROR event says that it is too old."""
    event = msgspec.json.decode(line, type=_Event)
    if event.type == "DELETED":
        watch.deleted(msgspec.json.decode(event.object, type=_Named).metadata.name)
    elif event.type in ("ADDED", "MODIFIED"):
        watch.changed(bytes(event.object))
    return event.type != "ERROR"


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
