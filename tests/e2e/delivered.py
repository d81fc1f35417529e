"""A namespace to which Flux's kustomize-controller has delivered: objects applied under its field manager, with owner
labels and an inventory in upstream's format; and a way to the API server that remembers every request."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import http.server
import io
import json
import secrets
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import headrace.api
from tests.e2e.command_line import CommandLine
from tests.servers.control_plane import ControlPlane
from tests.servers.fault_proxy import FaultProxy, Seen, fault_proxy

CRDS = Path(headrace.api.__file__).parent / "crds"
OWNER = "kustomize.toolkit.fluxcd.io"

Json = dict[str, Any]


@dataclass
class Delivered:
    """See the module. `headrace` talks to the API server through the recording proxy, `kubectl` does not."""

    namespace: str
    directory: Path
    headrace: CommandLine
    administrator: CommandLine
    proxy: FaultProxy

    def kubectl(self, *argv: str, stdin: str = "") -> str:
        return self.administrator.kubectl(*argv, "-n", self.namespace, stdin=stdin)

    def write(self, name: str, *objects: Json) -> None:
        """A file in the local directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n---\n".join(map(json.dumps, objects)))

    def apply(self, *objects: Json, owner: str = "app") -> None:
        """As kustomize-controller applies for the Kustomization `owner`."""
        labels = {f"{OWNER}/name": owner, f"{OWNER}/namespace": self.namespace}
        for obj in objects:
            metadata = obj["metadata"] | {"labels": obj["metadata"].get("labels", {}) | labels}
            self.kubectl("apply", "--server-side", "--field-manager=kustomize-controller", "-f", "-",
                         stdin=json.dumps(obj | {"metadata": metadata}))  # fmt: skip

    def kustomization(self, *inventory: str, name: str = "app", **spec: Any) -> None:
        """A Kustomization whose inventory holds these `name__Kind`, as they are in this namespace."""
        source = {"kind": "GitRepository", "name": "app"}
        body = {
            "apiVersion": f"{OWNER}/v1", "kind": "Kustomization", "metadata": {"name": name},
            "spec": {"interval": "1h", "prune": True, "path": "./apps", "sourceRef": source,
                     "targetNamespace": self.namespace} | spec,
        }  # fmt: skip
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        entries = [{"id": f"{self.namespace}_{entry}", "v": "v1"} for entry in inventory]
        self._patch_status("kustomization", name, {"inventory": {"entries": entries}})

    def artifact(self, address: str, folder: Path) -> None:
        """What holds the local directory, as the current artifact of a source that another controller serves."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            tar.add(self.directory.parent, arcname=".")
        (folder / "app.tar.gz").write_bytes(packed.getvalue())
        body = {
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "app"},
            "spec": {"interval": "1h", "url": "https://git.invalid/app"},
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        self._patch_status("gitrepository", "app", {"artifact": {
            "path": "gitrepository/a/app/app.tar.gz", "url": f"{address}/app.tar.gz", "revision": "main@sha1:abc",
            "digest": f"sha256:{hashlib.sha256(packed.getvalue()).hexdigest()}", "size": len(packed.getvalue()),
            "lastUpdateTime": "2026-01-01T00:00:00Z",
        }})  # fmt: skip

    def _patch_status(self, kind: str, name: str, status: Json) -> None:
        self.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

    def get(self, kind: str, name: str) -> Json:
        """An object with its managedFields."""
        found: Json = json.loads(self.kubectl("get", kind, name, "-o", "json", "--show-managed-fields"))
        return found

    def writes(self) -> list[Seen]:
        """Requests through the proxy that were neither reads nor dry-runs."""
        return [seen for seen in self.proxy.requests if seen.method != "GET" and "dryRun=All" not in seen.query]

    def dry_runs(self) -> list[Seen]:
        return [seen for seen in self.proxy.requests if "dryRun=All" in seen.query]


@contextlib.contextmanager
def delivered(cluster: ControlPlane, home: Path) -> Iterator[Delivered]:
    """A fresh namespace, which stays: see `tests.own_namespace`."""
    administrator = CommandLine(home / "administrator", cluster.kubeconfig)
    administrator.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    for crd in ("kustomizations.kustomize.toolkit.fluxcd.io", "gitrepositories.source.toolkit.fluxcd.io"):
        administrator.kubectl("wait", "--for=condition=Established", "crd", crd)
    namespace = f"test-{secrets.token_hex(4)}"
    administrator.kubectl("create", "namespace", namespace)
    directory = home / "repository" / "apps"
    directory.mkdir(parents=True)
    with recording(cluster) as proxy:
        command = CommandLine(home / "user", proxy.write_kubeconfig(home / "proxy.kubeconfig"))
        yield Delivered(namespace, directory, command, administrator, proxy)


@contextlib.contextmanager
def recording(cluster: ControlPlane) -> Iterator[FaultProxy]:
    """The proxy in a thread of its own, since commands are waited for in this one."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        ready: concurrent.futures.Future[tuple[FaultProxy, Callable[[], object]]] = concurrent.futures.Future()
        running = thread.submit(asyncio.run, _record(cluster, ready))
        proxy, stop = ready.result(30)
        try:
            yield proxy
        finally:
            stop()
            running.result(30)


async def _record(
    cluster: ControlPlane, ready: concurrent.futures.Future[tuple[FaultProxy, Callable[[], object]]]
) -> None:
    stop = asyncio.Event()
    async with fault_proxy(cluster.config) as proxy:
        ready.set_result((proxy, partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)))
        await stop.wait()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A web server for the files of a folder; gives its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def config_map(name: str, data: Mapping[str, str], **metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name} | metadata, "data": dict(data)}


def secret(name: str, data: Mapping[str, str], **metadata: Any) -> Json:
    return config_map(name, data, **metadata) | {"kind": "Secret"}
