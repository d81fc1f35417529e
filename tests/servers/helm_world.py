"""Helm kinds as the engine has them, without an engine: a repository, a store, the toolbox and the controllers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headrace.api.helmchart import HelmChart
from headrace.api.helmrepository import HelmRepository
from headrace.api.kinds import HELM_CHART, HELM_REPOSITORY, KindInfo
from headrace.api.meta import SOURCE_GROUP
from headrace.artifact.store import Place, Store
from headrace.artifact.trees import Trees
from headrace.controllers.helm.access import HelmAccess
from headrace.controllers.helm.candidates import HttpCandidates
from headrace.controllers.helm.dependencies import ChartDependencies
from headrace.controllers.helm.helmchart import HelmChartController
from headrace.controllers.helm.helmrepository import HelmRepositoryController
from headrace.controllers.helm.local import LocalCharts
from headrace.controllers.helm.oci import RegistryCharts
from headrace.controllers.helm.remote import RemoteCharts
from headrace.controllers.helm.sources import ChartSources
from headrace.controllers.oci.verification import OciVerification
from headrace.controllers.sources.registries import RegistryIdentities
from headrace.controllers.workload import WorkloadPolicy
from headrace.core.clock import Clock, SystemClock, rfc3339
from headrace.core.egress import Egress, EgressPolicy
from headrace.core.limits import HELM, HelmLimits
from headrace.model.artifact import Artifact
from headrace.model.errors import StepError
from headrace.model.objects import LiveObject, Metadata
from headrace.model.outcome import Outcome
from headrace.model.reference import Reference
from headrace.model.trace import Cause
from headrace.source.helm.build import ChartBuilder
from headrace.source.helm.calls import version_matcher, yaml_reader
from headrace.source.helm.indexes import Indexes
from headrace.source.oci.registry import Registry
from headrace.source.oci.remotes import OciRemotes
from headrace.source.oci.versions import toolbox_tags
from headrace.toolbox import Toolbox
from tests.servers.helm_http import HelmServer, files_of, helm_server
from tests.servers.sources import CREATED, RecordedScope

T = TypeVar("T", HelmChart, HelmRepository)


class _Impatient:
    """The clock, without the moment that objects are given to appear."""

    def now(self) -> float:
        return SystemClock().now()

    def monotonic(self) -> float:
        return SystemClock().monotonic()

    async def sleep(self, seconds: float) -> None:
        return None


class NoIdentities:
    async def registry_credentials(self, provider: str, registry_host: str, **_: Any) -> tuple[str, str]:
        raise AssertionError("nobody asks")


@dataclass
class HelmWorld:
    """One engine's worth of Helm sources, and a repository on `server`."""

    server: HelmServer
    egress: Egress
    store: Store
    trees: Trees
    indexes: Indexes
    repositories: HelmRepositoryController
    charts: HelmChartController
    changed: list[tuple[Reference, str, str]]
    objects: dict[Reference, LiveObject] = field(default_factory=dict)
    scope: RecordedScope | None = None

    def secret(self, name: str, **data: bytes) -> None:
        body = {"data": {key.replace("__", "."): value for key, value in data.items()}}
        self.put(Reference("", "Secret", "default", name), body)

    def put(self, reference: Reference, body: dict[str, Any]) -> None:
        metadata = Metadata(name=reference.name, namespace=reference.namespace, uid=reference.name)
        content = {"metadata": {"name": reference.name, "namespace": reference.namespace}} | body
        self.objects[reference] = LiveObject(reference, "v1", metadata, msgspec.json.encode(content))

    def repository(self, name: str = "charts", **spec: Any) -> HelmRepository:
        return _object(HELM_REPOSITORY, name, {"url": self.server.url, "interval": "10m"} | spec)

    def chart(self, name: str = "app", *, generation: int = 1, **spec: Any) -> HelmChart:
        source = {"kind": "HelmRepository", "name": "charts"}
        made = {"chart": "app", "interval": "10m", "sourceRef": source} | spec
        return _object(HELM_CHART, name, made, generation)

    async def run(self, obj: T, causes: tuple[Cause, ...] = CREATED) -> tuple[T, Outcome]:
        """Reconcile; returns the object with its new status, and the outcome. Raises StepError."""
        controller: Any = self.charts if isinstance(obj, HelmChart) else self.repositories
        reference = controller.kind.reference("default", obj.metadata.name)
        live = LiveObject(reference, controller.kind.api_version, obj.metadata, b"{}")
        self.scope = RecordedScope(live, causes, self.objects)
        outcome = await controller.reconcile(obj, self.scope)
        done = _with_status(obj, {**outcome.status, "observedGeneration": obj.metadata.generation})
        if isinstance(done, HelmRepository):
            self.put(reference, msgspec.to_builtins(done))
        return done, outcome

    async def indexed(self, name: str = "charts", **spec: Any) -> HelmRepository:
        """A repository whose index is stored and which charts can name."""
        done, _ = await self.run(self.repository(name, **spec))
        return done

    async def failure(self, obj: HelmChart | HelmRepository, causes: tuple[Cause, ...] = CREATED) -> StepError:
        try:
            if isinstance(obj, HelmChart):
                _, outcome = await self.run(obj, causes)
            else:
                _, outcome = await self.run(obj, causes)
        except StepError as error:
            return error
        raise AssertionError(f"the run succeeded: {outcome.message}")

    async def tree(
        self, files: Mapping[str, str | bytes], *, kind: str = "GitRepository", revision: str = ""
    ) -> Artifact:
        """The artifact of a source of files, and the object that has it."""
        revision = revision or f"main@sha1:{hashlib.sha1(repr(files).encode()).hexdigest()}"

        async def produce(directory: Path) -> None:
            for name, content in files.items():
                path = directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)

        packed = await self.store.content(f"tree {files}", produce)
        place = Place(kind.lower(), "default", "files")
        artifact = await self.store.publish(place, f"{packed.digest[7:]}.tar.gz", packed, revision)
        body = {"status": {"artifact": msgspec.to_builtins(artifact)}}
        self.put(Reference(SOURCE_GROUP, kind, "default", "files"), body)
        return artifact

    def archive(self, obj: HelmChart) -> bytes:
        """The stored chart of an object."""
        assert obj.status.artifact is not None
        return (self.store.root / obj.status.artifact.path).read_bytes()

    def files(self, obj: HelmChart) -> dict[str, bytes]:
        return files_of(self.archive(obj))


def _object(kind: KindInfo[T], name: str, spec: dict[str, Any], generation: int = 1) -> T:
    metadata = {"name": name, "namespace": "default", "uid": name, "generation": generation,
                "creationTimestamp": rfc3339(SystemClock().now())}  # fmt: skip
    return msgspec.json.decode(msgspec.json.encode({"metadata": metadata, "spec": spec}), type=kind.type)


def _with_status(obj: T, change: dict[str, object]) -> T:
    content = msgspec.to_builtins(obj)
    status = {**content.get("status", {}), **change}
    content["status"] = {key: value for key, value in status.items() if value is not None}
    return msgspec.convert(content, type(obj))


@contextlib.asynccontextmanager
async def helm_world(
    directory: Path, toolbox: Toolbox, *, limits: HelmLimits = HELM, policy: EgressPolicy | None = None,
    workload: WorkloadPolicy | None = None, identities: RegistryIdentities | None = None,
) -> AsyncIterator[HelmWorld]:
    """Everything made below `directory`, closed at the end."""
    clock: Clock = _Impatient()
    changed: list[tuple[Reference, str, str]] = []

    def tell(*moved: Any) -> None:
        changed.append(moved)

    async with helm_server() as server, contextlib.AsyncExitStack() as stack:
        egress = Egress(policy or EgressPolicy(allow_loopback=True))
        stack.push_async_callback(egress.close)
        store = Store(directory / "data", "source.example:9090", clock)
        trees = Trees(store, clock)
        read, match = yaml_reader(toolbox), version_matcher(toolbox)
        indexes = Indexes(store.scratch, store.installation_key(), read, clock, tell, limits=limits)
        access = HelmAccess(egress)
        world: HelmWorld

        async def repositories(namespace: str) -> Iterable[LiveObject]:
            return [live for reference, live in world.objects.items() if reference.kind == "HelmRepository"]

        remotes = OciRemotes(
            Registry(egress, clock), key=b"k" * 32, clock=clock, match_tags=toolbox_tags(toolbox), changed=tell
        )
        builder = ChartBuilder(read, match, store.scratch, limits=limits)
        http = HttpCandidates(access, indexes, match, store, limits=limits)
        verification = OciVerification(remotes.registry, toolbox)
        oci = RegistryCharts(
            remotes, identities or NoIdentities(), verification, clock, policy=workload or WorkloadPolicy(),
            limits=limits,
        )  # fmt: skip
        remote = RemoteCharts(http, oci, builder, store)
        local = LocalCharts(trees, store, builder, ChartDependencies(repositories, remote))
        world = HelmWorld(
            server, egress, store, trees, indexes,
            HelmRepositoryController(access, indexes, store, trees, clock),
            HelmChartController(ChartSources(), remote, local, store, trees), changed,
        )  # fmt: skip
        yield world
