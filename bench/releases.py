"""What the apps come from: git repositories, or artifacts in a registry; both are released the same way."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Protocol

from bench import workload
from bench.repository import Repository, write_objects
from bench.server import serve_public
from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.source.oci.credentials import PLAIN
from headrace.source.oci.manifest import FLUX_CONFIG, FLUX_CONTENT, MANIFEST, Descriptor, Manifest, encoded
from headrace.source.oci.reference import Repository as OciRepository
from headrace.source.oci.reference import digest_of
from headrace.source.oci.registry import Registry

_TIMEOUT = 60.0


class Release(Protocol):
    """Something that is written, then made a revision, then made visible to everybody."""

    name: str

    def write(self, path: str, objects: Iterable[workload.Object]) -> None: ...

    async def commit(self, message: str) -> str: ...

    async def push(self) -> None: ...

    @property
    def work(self) -> Path: ...


class Sources(Protocol):
    """One kind of source. `host` is the loopback host that its objects name."""

    kind: str
    plural: str
    host: str

    async def release(self, name: str) -> Release: ...

    def manifest(self, name: str, namespace: str, release: Release) -> workload.Object: ...


class GitSources:
    """Repositories served over HTTP."""

    kind, plural = "GitRepository", "gitrepositories"

    def __init__(self, folder: Path, host: str) -> None:
        self._folder = folder
        self.host = host

    async def release(self, name: str) -> Release:
        made = Repository(self._folder / "served", name, self._folder / "work")
        await made.create()
        return made

    def manifest(self, name: str, namespace: str, release: Release) -> workload.Object:
        return workload.git_repository(name, namespace, f"http://{self.host}/{release.name}.git")


class Artifact:
    """The tag `latest` of a repository in a registry, and the folder that it is packed from."""

    def __init__(self, name: str, work: Path, registry: Registry, host: str) -> None:
        self.name = name
        self.work = work / name
        self._registry = registry
        self._repository = OciRepository(host, name)
        self._layer = b""
        self._body = b""

    def write(self, path: str, objects: Iterable[workload.Object]) -> None:
        write_objects(self.work / path, objects)

    async def commit(self, message: str) -> str:
        """Pack the folder; returns the revision as `status.artifact.revision` shows it. Not pushed yet."""
        self._layer = packed(self.work)
        config = Descriptor(FLUX_CONFIG, digest_of(b"{}"), 2)
        layer = Descriptor(FLUX_CONTENT, digest_of(self._layer), len(self._layer))
        self._body = encoded(Manifest(config=config, layers=(layer,), annotations={"message": message}))
        return f"latest@{digest_of(self._body)}"

    async def push(self) -> None:
        """Make the artifact visible to everybody."""
        for media_type, data in ((FLUX_CONFIG, b"{}"), (FLUX_CONTENT, self._layer)):
            await self._registry.push_blob(self._repository, data, media_type, PLAIN, timeout=_TIMEOUT)
        await self._registry.push_manifest(
            self._repository, "latest", self._body, MANIFEST, PLAIN, timeout=_TIMEOUT
        )


class OciSources:
    """Artifacts in one registry."""

    kind, plural = "OCIRepository", "ocirepositories"

    def __init__(self, folder: Path, host: str, registry: Registry) -> None:
        self._folder = folder
        self._registry = registry
        self.host = host

    async def release(self, name: str) -> Release:
        (self._folder / "work" / name).mkdir(parents=True)
        return Artifact(name, self._folder / "work", self._registry, self.host)

    def manifest(self, name: str, namespace: str, release: Release) -> workload.Object:
        return workload.oci_repository(name, namespace, f"oci://{self.host}/{release.name}")


def packed(folder: Path) -> bytes:
    """A folder as a tar.gz, the same for the same files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = tarfile.TarInfo(str(path.relative_to(folder)))
                entry.size = path.stat().st_size
                with path.open("rb") as file:
                    tar.addfile(entry, file)
    return gzip.compress(raw.getvalue(), compresslevel=1, mtime=0)


@contextlib.asynccontextmanager
async def served(source: str, folder: Path) -> AsyncIterator[Sources]:
    """The server of a kind of source, `git` or `oci`, for as long as the bench runs."""
    if source == "git":
        (folder / "served").mkdir()
        async with serve_public(folder / "served") as host:
            yield GitSources(folder, host)
        return
    from tests.servers.registry import registry_server

    egress = Egress(EgressPolicy(allow_loopback=True))
    async with registry_server(folder / "registry") as server:
        try:
            yield OciSources(folder, server.address, Registry(egress, SystemClock()))
        finally:
            await egress.close()
