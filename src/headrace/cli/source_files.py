"""The current artifact of a source, fetched to this machine, for commands that render without `--path`.

An address inside the cluster is reached through the API server's proxy, which every kubeconfig has a way to.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from headrace.artifact.fetch import Fetcher, failed
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.cli import sops_mask
from headrace.cli.local_tree import Files
from headrace.core.clock import Clock
from headrace.core.egress import Egress, EgressPolicy, RemoteUrl
from headrace.core.limits import UNPACK
from headrace.kube.client import Client
from headrace.kube.counter import WORK
from headrace.kube.errors import KubeError
from headrace.model.artifact import Artifact, Tree

_SILENCE = 60.0
"""Seconds without a byte after which a download has failed."""


class ClusterFetcher(Fetcher):
    """Fetches artifacts as somebody outside of the cluster can."""

    def __init__(self, client: Client, egress: Egress) -> None:
        super().__init__(egress)
        self._client = client

    async def _download(self, url: RemoteUrl, artifact: Artifact, target: BinaryIO) -> None:
        path = service_path(artifact.url)
        if not path:
            await super()._download(url, artifact, target)
            return
        limit = UNPACK.archive_bytes if artifact.size is None else min(artifact.size, UNPACK.archive_bytes)
        try:
            async with self._client.stream(path, query={}, accept="*/*", silence=_SILENCE, purpose=WORK) as chunks:
                async for chunk in chunks:
                    limit -= len(chunk)
                    if limit < 0:
                        raise failed("artifact is larger than it says")
                    target.write(chunk)
        except KubeError as error:
            raise failed(f"failed to download artifact through the API server: {error}") from error


def service_path(url: str) -> str:
    """The path of the API server's proxy to a Service that an address names; empty when it names none."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").split(".")
    if len(host) < 3 or host[2] != "svc":
        return ""
    service = f"{parts.scheme}:{host[0]}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    return f"/api/v1/namespaces/{host[1]}/services/{service}/proxy{parts.path}"


class SourceFiles:
    """Opens artifacts; what is fetched is kept in `folder`, each artifact once."""

    def __init__(self, client: Client, folder: Path, clock: Clock) -> None:
        self._egress = Egress(EgressPolicy(allow_loopback=True))
        store = Store(folder, "headrace.invalid", clock)
        self._trees = Trees(store, clock, fetcher=ClusterFetcher(client, self._egress))

    async def close(self) -> None:
        """Close connections."""
        await self._egress.close()

    @contextlib.asynccontextmanager
    async def open(self, artifact: Artifact, path: str, *, encrypted: bool = False) -> AsyncIterator[Files]:
        """The files of an artifact while the context is open, what is encrypted masked, unless it is wanted as it is.
        Raises Retry(ArtifactFailed)."""
        async with self._trees.open(artifact) as tree:
            whole = contextlib.nullcontext(tree.directory)
            with whole if encrypted else sops_mask.readable(tree.directory) as directory:
                yield Files(Tree(directory, tree.digest), path, artifact.revision)
