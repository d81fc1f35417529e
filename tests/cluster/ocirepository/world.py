"""One engine's worth of OCI sources without an engine, and what tests push to a registry."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import tarfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headrace.api.ocirepository import OCIRepository
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.oci.access import OciAccess
from headrace.controllers.oci.ocirepository import OCIRepositoryController
from headrace.controllers.oci.verification import OciVerification
from headrace.controllers.workload import WorkloadPolicy
from headrace.core.clock import Clock, SystemClock, rfc3339
from headrace.core.egress import Egress, EgressPolicy, RemoteUrl
from headrace.identity import IdentityError, ServiceAccount
from headrace.model.artifact import Artifact
from headrace.model.errors import StepError
from headrace.model.objects import LiveObject, Metadata
from headrace.model.outcome import Outcome
from headrace.model.reference import Reference
from headrace.model.trace import Cause
from headrace.source.oci.credentials import PLAIN, Access, Credential, Keychain
from headrace.source.oci.manifest import FLUX_CONFIG, FLUX_CONTENT, MANIFEST, Descriptor, Manifest, encoded
from headrace.source.oci.reference import Repository
from headrace.source.oci.registry import Registry
from headrace.source.oci.remotes import OciRemotes
from headrace.source.oci.versions import toolbox_tags
from headrace.toolbox import Toolbox
from tests.servers.registry import PASSWORD, USER, RegistryServer, registry_server
from tests.servers.sources import CREATED, RecordedScope, SlotScope

TIMEOUT = 20


def layer(files: Mapping[str, bytes | str], *, links: Mapping[str, str] | None = None) -> bytes:
    """A tar.gz of files; `links` are symbolic ones."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return gzip.compress(raw.getvalue(), mtime=0)


def docker_config(host: str, username: str = USER, password: str = PASSWORD) -> dict[str, bytes]:
    """The data of a pull secret."""
    auths = {host: {"username": username, "password": password}}
    return {".dockerconfigjson": msgspec.json.encode({"auths": auths})}


@dataclass
class Pusher:
    """Puts artifacts into one repository, as `flux push artifact` does."""

    registry: Registry
    repository: Repository
    access: Access = PLAIN

    async def push(
        self,
        tag: str,
        files: Mapping[str, bytes | str] | None = None,
        *,
        annotations: dict[str, str] | None = None,
        layers: tuple[tuple[str, bytes], ...] = (),
    ) -> Descriptor:
        """An artifact of one layer with `files`, or of `layers` as (media type, bytes)."""
        wanted = layers or ((FLUX_CONTENT, layer(files or {"app.yaml": f"tag: {tag}"})),)
        pushed = [await self.blob(media_type, data) for media_type, data in wanted]
        config = await self.blob(FLUX_CONFIG, b"{}")
        body = encoded(Manifest(config=config, layers=tuple(pushed), annotations=annotations))
        return await self.manifest(tag, body)

    async def blob(self, media_type: str, data: bytes) -> Descriptor:
        return await self.registry.push_blob(self.repository, data, media_type, self.access, timeout=TIMEOUT)

    async def manifest(self, tag: str, body: bytes, media_type: str = MANIFEST) -> Descriptor:
        return await self.registry.push_manifest(self.repository, tag, body, media_type, self.access, timeout=TIMEOUT)


@dataclass
class FakeCloud:
    """Stands for the identities of clouds, which have their own tests: gives one password, or says why not."""

    credentials: tuple[str, str] | None = None
    asked: list[tuple[str, str, ServiceAccount | None]] = field(default_factory=list)

    async def registry_credentials(
        self,
        provider: str,
        registry_host: str,
        *,
        service_account: ServiceAccount | None = None,
        proxy: RemoteUrl | None = None,
    ) -> tuple[str, str]:
        self.asked.append((provider, registry_host, service_account))
        if self.credentials is None:
            raise IdentityError("no identity here")
        return self.credentials


@dataclass
class OciWorld:
    """A registry `server`, the repository `org/app` in it, and a controller."""

    server: RegistryServer
    registry: Registry
    remotes: OciRemotes
    store: Store
    trees: Trees
    cloud: FakeCloud
    toolbox: Toolbox
    changed: list[tuple[Reference, str, str]]
    objects: dict[Reference, LiveObject] = field(default_factory=dict)
    scope: RecordedScope | None = None
    policy: WorkloadPolicy = field(default_factory=WorkloadPolicy)
    allow_insecure: bool = True

    @property
    def controller(self) -> OCIRepositoryController:
        access = OciAccess(self.remotes, self.cloud, self.policy, allow_insecure=self.allow_insecure)
        verification = OciVerification(self.registry, self.toolbox)
        return OCIRepositoryController(self.remotes, access, verification, self.store, self.trees, SystemClock())

    def pusher(self, path: str = "org/app", *, password: bool = False) -> Pusher:
        """Pushes to a repository; with `password` as the user who may."""
        keychain = Keychain(((self.server.address, Credential(USER, PASSWORD)),)) if password else Keychain()
        return Pusher(self.registry, Repository(self.server.address, path), Access(keychain=keychain, insecure=True))

    def secret(self, name: str, data: dict[str, bytes]) -> None:
        self._add("Secret", name, {"data": data})

    def service_account(self, name: str, *pull_secrets: str) -> None:
        self._add("ServiceAccount", name, {"imagePullSecrets": [{"name": secret} for secret in pull_secrets]})

    def _add(self, kind: str, name: str, content: dict[str, Any]) -> None:
        reference = Reference("", kind, "default", name)
        metadata = Metadata(name=name, namespace="default", uid="1")
        body = {"metadata": {"name": name, "namespace": "default", "uid": "1"}, **content}
        self.objects[reference] = LiveObject(reference, "v1", metadata, msgspec.json.encode(body))

    def object(self, name: str = "app", *, generation: int = 1, status: Any = None, **spec: Any) -> OCIRepository:
        """An OCIRepository as the API server would hold it; `spec` in the form of the API."""
        body: dict[str, Any] = {
            "metadata": {"name": name, "namespace": "default", "generation": generation,
                         "creationTimestamp": rfc3339(SystemClock().now())},
            "spec": {"url": self.server.url("org/app"), "interval": "1m"} | spec,
        }  # fmt: skip
        if status is not None:
            body["status"] = msgspec.to_builtins(status)
        return msgspec.json.decode(msgspec.json.encode(body), type=OCIRepository)

    def changed_spec(self, obj: OCIRepository, **spec: Any) -> OCIRepository:
        """The object after its user has edited it."""
        return self.object(
            obj.metadata.name, generation=obj.metadata.generation + 1, status=obj.status,
            **{**msgspec.to_builtins(obj.spec), **spec},
        )  # fmt: skip

    async def run(self, obj: OCIRepository, causes: tuple[Cause, ...] = CREATED) -> tuple[OCIRepository, Outcome]:
        """Reconcile; returns the object with its new status, and the outcome. Raises StepError."""
        reference = Reference("source.toolkit.fluxcd.io", "OCIRepository", "default", obj.metadata.name)
        live = LiveObject(reference, "source.toolkit.fluxcd.io/v1", obj.metadata, b"{}")
        self.scope = RecordedScope(live, causes, self.objects)
        outcome = await self.controller.reconcile(obj, self.scope)
        return self.with_status(obj, outcome), outcome

    async def run_with(self, slots: asyncio.Semaphore, obj: OCIRepository) -> Outcome:
        """Reconcile as one of many, as soon as one of the workers is free."""
        reference = Reference("source.toolkit.fluxcd.io", "OCIRepository", "default", obj.metadata.name)
        live = LiveObject(reference, "source.toolkit.fluxcd.io/v1", obj.metadata, b"{}")
        async with slots:
            return await self.controller.reconcile(obj, SlotScope(live, CREATED, self.objects, slots=slots))

    def with_status(self, obj: OCIRepository, outcome: Outcome) -> OCIRepository:
        content = msgspec.to_builtins(obj)
        status = {**content.get("status", {}), **outcome.status}
        kept = {one["type"]: one for one in status.get("conditions", ()) if one["type"] not in outcome.remove}
        for condition in outcome.conditions:
            kept[condition.type] = msgspec.to_builtins(condition) | {
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": obj.metadata.generation,
            }  # fmt: skip
        status["conditions"] = list(kept.values())
        content["status"] = {key: value for key, value in status.items() if value is not None}
        return msgspec.convert(content, OCIRepository)

    async def failure(self, obj: OCIRepository, causes: tuple[Cause, ...] = CREATED) -> StepError:
        """The StepError of a run that must fail."""
        try:
            _, outcome = await self.run(obj, causes)
        except StepError as error:
            return error
        raise AssertionError(f"the run succeeded: {outcome.message}")

    def files(self, artifact: Artifact | None) -> dict[str, bytes]:
        """What is in a stored artifact."""
        assert artifact is not None
        with tarfile.open(self.store.root / artifact.path) as tar:
            found = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            return {name: file.read() for name, file in found.items() if file is not None}


@contextlib.asynccontextmanager
async def oci_world(directory: Path, *, clock: Clock | None = None, **options: Any) -> AsyncIterator[OciWorld]:
    """Everything made below `directory`, closed at the end; `options` are those of the registry server."""
    egress = Egress(EgressPolicy(allow_loopback=True))
    clock = clock or SystemClock()
    changed: list[tuple[Reference, str, str]] = []
    async with registry_server(directory / "registry", **options) as server, Toolbox(size=1) as toolbox:
        registry = Registry(egress, clock)
        store = Store(directory / "data", "source.example:9090", clock)
        remotes = OciRemotes(
            registry, key=store.installation_key(), clock=clock, match_tags=toolbox_tags(toolbox),
            changed=lambda *moved: changed.append(moved),
        )  # fmt: skip
        try:
            yield OciWorld(server, registry, remotes, store, Trees(store, clock), FakeCloud(), toolbox, changed)
        finally:
            await egress.close()
