"""A real engine with the real controllers, against a real control plane and a real git server.

Tests talk to it through API objects only; traces and the request counter are what it offers to anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION, KindInfo
from headrace.apply.applied import AppliedStore
from headrace.artifact.fetch import Fetcher
from headrace.artifact.store import FILE, Store, stored_reference
from headrace.artifact.trees import Trees
from headrace.cli.helm import helm_controllers
from headrace.cli.identities import identities
from headrace.controllers.bucket.access import BucketAccess
from headrace.controllers.bucket.bucket import BucketController
from headrace.controllers.consumers import Consumers
from headrace.controllers.generate.artifactgenerator import ArtifactGeneratorController
from headrace.controllers.git.gitrepository import GitRepositoryController
from headrace.controllers.kustomize.kustomization import KustomizationController, KustomizationOptions
from headrace.controllers.oci.verification import OciVerification
from headrace.controllers.workload import WorkloadPolicy
from headrace.core.clock import Clock, SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.core.random import Random
from headrace.engine.access import ClusterAccess
from headrace.engine.engine import Engine
from headrace.engine.runner import AnyController
from headrace.engine.settings import EngineSettings
from headrace.kube.client import MERGE_PATCH, Client
from headrace.kube.cluster import Clusters
from headrace.kube.config import ClientConfig
from headrace.kube.discovery import Discovery
from headrace.kube.errors import NotFound
from headrace.kube.informer import WatchSettings
from headrace.kube.resource import Resource
from headrace.kube.tokens import ServiceAccountTokens
from headrace.kube.watch import Selection, watch
from headrace.model.objects import LiveObject
from headrace.model.read import ABSENT, WHOLE
from headrace.model.reference import Reference
from headrace.model.trace import LAST, Trace
from headrace.settings import Settings
from headrace.source.git.remotes import Remotes
from headrace.source.oci.registry import Registry
from headrace.source.oci.remotes import OciRemotes
from headrace.source.oci.versions import toolbox_tags
from headrace.status.events import Events, Sink
from headrace.status.writer import ApiStatusWriter
from headrace.toolbox import KeyServices, Toolbox
from tests.servers.git_http import GitServer, Repository

DEADLINE = 60.0
"""Seconds that a test waits for anything; far more than it takes."""

Json = dict[str, Any]


@dataclass
class RunningEngine:
    """An engine that runs until it is stopped; a second one on the same directory is a restart."""

    engine: Engine
    clusters: Clusters
    _stop: asyncio.Event
    _task: asyncio.Task[None]

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    def traces(self, reference: Reference) -> tuple[Trace, ...]:
        return self.engine.traces(reference)

    async def until_trace(self, reference: Reference, holds: Callable[[Trace], object]) -> Trace:
        """Wait for a run that has ended, status and event included, of which `holds` is true."""
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    for trace in self.traces(reference):
                        if holds(trace):
                            return trace
                    await asyncio.sleep(0.01)  # traces tell nobody
        except TimeoutError:
            told = "\n".join(str((t.result, t.message, [str(c) for c in t.causes])) for t in self.traces(reference))
            raise AssertionError(f"no such run among:\n{told}") from None

    async def until_caused(self, reference: Reference, cause: str) -> Trace:
        """Wait for a run that ended and had this cause."""
        return await self.until_trace(reference, lambda trace: cause in [str(c) for c in trace.causes])

    def writes(self) -> dict[str, int]:
        """Requests so far that change something or look at one object, by verb and resource; dry-runs apart."""
        counted: dict[str, int] = {}
        for key, number in self.clusters.counter.snapshot().items():
            if key.purpose == "":
                name = f"{key.verb} {key.resource}{'/' + key.subresource if key.subresource else ''}"
                name += " (dry-run)" if key.dry_run else ""
                counted[name] = counted.get(name, 0) + number
        return counted


@contextlib.asynccontextmanager
async def running_engine(
    config: ClientConfig, directory: Path, namespace: str, options: KustomizationOptions | None = None,
    *, clock: Clock | None = None, watch: WatchSettings | None = None, key_services: KeyServices | None = None,
    sinks: tuple[Sink, ...] = (),
) -> AsyncIterator[RunningEngine]:
    """An engine that serves the objects of one namespace."""
    clock, random = clock or SystemClock(), Random()
    settings = EngineSettings(namespaces=(namespace,), min_retry_delay=0.2)
    async with contextlib.AsyncExitStack() as stack:
        clusters = await stack.enter_async_context(Clusters(config, clock=clock, random=random, watch=watch))
        toolbox = await stack.enter_async_context(Toolbox(size=1, key_services=key_services))
        egress = Egress(EgressPolicy(allow_hosts=frozenset({"127.0.0.1"})))
        stack.push_async_callback(egress.close)
        engines: list[Engine] = []

        def changed(reference: Reference, part: str, digest: str) -> None:
            engines[0].changed(reference, part, digest)

        store = Store(
            directory / "storage", "127.0.0.1:1", clock,
            published=lambda artifact: changed(stored_reference(artifact.path), WHOLE.name, artifact.digest),
        )  # fmt: skip
        trees = Trees(
            store, clock, fetcher=Fetcher(egress),
            lost=lambda artifact: changed(stored_reference(artifact.path), FILE, ABSENT),
        )  # fmt: skip
        applied = AppliedStore(directory / "applied.db")
        stack.push_async_callback(applied.close)
        remotes = Remotes(
            store.mirrors, key=b"k" * 32, egress=egress, clock=clock, match_versions=_no_versions,
            changed=lambda reference, part, digest: engines[0].changed(reference, part, digest, LAST),
        )
        consumers = Consumers()
        bucket_access = await stack.enter_async_context(_bucket_access(clusters, egress, clock))
        issued = await stack.enter_async_context(identities(Settings(), clusters.management.client, egress, clock))
        registries = OciRemotes(
            Registry(egress, clock), key=b"k" * 32, clock=clock, match_tags=toolbox_tags(toolbox), changed=changed
        )
        helm = helm_controllers(
            clusters, toolbox, store, trees, egress, fetcher=Fetcher(egress), identities=issued, clock=clock,
            registries=registries, policy=WorkloadPolicy(),
            verification=OciVerification(registries.registry, toolbox), changed=changed, requeue=30.0,
        )  # fmt: skip
        controllers: list[AnyController] = [
            *helm,
            GitRepositoryController(remotes, store, trees, clock, consumers),
            BucketController(
                bucket_access, store, trees, clock, changed, consumers
            ),
            ArtifactGeneratorController(
                clusters.management.client, toolbox, store, trees, clock=clock, random=random
            ),
            KustomizationController(
                clusters=clusters, toolbox=toolbox, trees=trees, store=applied, clock=clock, consumers=consumers,
                options=options, tokens=ServiceAccountTokens(clusters.management.client, clock), issuers=issued,
            ),
        ]
        client = clusters.management.client
        writer = ApiStatusWriter(client, Events(client, clock, sinks=sinks), clock)
        access = ClusterAccess(clusters, namespaces=(namespace,))
        engine = Engine(access, controllers, writer, settings, clock=clock, random=random)
        engines.append(engine)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            running = RunningEngine(engine, clusters, stop, tasks.create_task(engine.run(stop)))
            try:
                yield running
            finally:
                stop.set()


@contextlib.asynccontextmanager
async def _bucket_access(clusters: Clusters, egress: Egress, clock: Clock) -> AsyncIterator[BucketAccess]:
    client = clusters.management.client
    async with identities(Settings(), client, egress, clock) as issued:
        yield BucketAccess(egress, clock, issued, WorkloadPolicy(), key=b"k" * 32)


async def _no_versions(constraint: str, versions: Any) -> list[str]:
    raise ValueError(constraint)


@dataclass
class World:
    """One namespace with a repository and the objects that deliver it."""

    client: Client
    discovery: Discovery
    namespace: str
    git: GitServer
    repository: Repository
    created: list[Reference] = field(default_factory=list)

    # -- files -----------------------------------------------------------------------------------------------------

    def commit(self, files: Mapping[str, Any]) -> str:
        """Commit files (objects as Python data become YAML); returns the revision as sources write it."""
        written = {name: content if content is None or isinstance(content, str | bytes) else _yaml(content)
                   for name, content in files.items()}
        return f"main@sha1:{self.repository.commit(written)}"

    async def announce(self, revision: str) -> None:
        """Have the source look for the commit now, and wait until it has it."""
        await self.request(GIT_REPOSITORY, "app")
        await self.until(GIT_REPOSITORY, "app", lambda o: _artifact(o).get("revision") == revision)

    async def push(self, files: Mapping[str, Any]) -> str:
        """Commit and announce."""
        revision = self.commit(files)
        await self.announce(revision)
        return revision

    # -- objects ---------------------------------------------------------------------------------------------------

    async def source(self, name: str = "app", **spec: Any) -> None:
        """Create the GitRepository."""
        spec = {"interval": "1h", "url": self.git.url(self.repository.name), "ref": {"branch": "main"}} | spec
        await self.create(GIT_REPOSITORY, name, spec)

    async def kustomization(self, name: str = "app", **spec: Any) -> None:
        """Create a Kustomization of the repository."""
        source = {"kind": "GitRepository", "name": "app"}
        await self.create(
            KUSTOMIZATION, name, {"interval": "1h", "retryInterval": "1h", "prune": True, "sourceRef": source} | spec
        )

    async def create(self, kind: KindInfo[Any], name: str, spec: Json) -> None:
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
        await self.client.create(_resource(kind), self.namespace, msgspec.json.encode(body))
        self.created.append(kind.reference(self.namespace, name))

    async def patch(self, kind: KindInfo[Any], name: str, patch: Json) -> None:
        await self.client.patch(
            _resource(kind), self.namespace, name, msgspec.json.encode(patch), content_type=MERGE_PATCH
        )

    async def request(self, kind: KindInfo[Any], name: str) -> str:
        """Ask for a run as `flux reconcile` does; returns the token."""
        token = f"{asyncio.get_running_loop().time():.6f}"
        await self.patch(kind, name, {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}})
        return token

    async def delete(self, kind: KindInfo[Any], name: str) -> None:
        await self.client.delete(_resource(kind), self.namespace, name)

    # -- what is there ---------------------------------------------------------------------------------------------

    async def resource(self, api_version: str, kind: str) -> Resource:
        group, _, version = api_version.rpartition("/")
        return await self.discovery.resource(group, kind, version)

    async def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Json | None:
        """An object of the namespace, None when it does not exist."""
        resource = await self.resource(api_version, kind)
        try:
            live = await self.client.get(resource, self.namespace if namespace is None else namespace, name)
        except NotFound:
            return None
        return live.content()

    async def until(
        self, kind: KindInfo[Any] | Resource, name: str, holds: Callable[[Json], object], namespace: str | None = None
    ) -> Json:
        """Wait on a watch until an object exists of which `holds` is true."""
        found = await self._watch(kind, name, namespace, lambda content: content is not None and bool(holds(content)))
        assert found is not None
        return found

    async def until_gone(self, kind: KindInfo[Any] | Resource, name: str, namespace: str | None = None) -> None:
        """Wait on a watch until an object does not exist."""
        await self._watch(kind, name, namespace, lambda content: content is None)

    async def _watch(
        self, kind: KindInfo[Any] | Resource, name: str, namespace: str | None, holds: Callable[[Json | None], bool]
    ) -> Json | None:
        resource = kind if isinstance(kind, Resource) else _resource(kind)
        namespace = self.namespace if namespace is None else namespace
        selection = Selection(resource.group, resource.kind, resource.version, namespace, name=name)
        content: Json | None = None
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    version, content = await self._now(resource, namespace, name)
                    if holds(content):
                        return content
                    async for batch in watch(self.client, resource, selection, resource_version=version):
                        for event in batch:
                            if event.live is None:
                                continue
                            content = None if event.type == "DELETED" else event.live.content()
                            if holds(content):
                                return content
        except TimeoutError:
            status = (content or {}).get("status", content)
            raise AssertionError(f"{resource.kind} {name} did not come to be as wanted: {status}") from None

    async def _now(self, resource: Resource, namespace: str, name: str) -> tuple[str, Json | None]:
        listing = await self.client.list(resource, namespace, field_selector=f"metadata.name={name}")
        return listing.resource_version, listing.items[0].content() if listing.items else None

    # -- conditions ------------------------------------------------------------------------------------------------

    async def ready(self, name: str = "app", revision: str = "") -> Json:
        """Wait until the Kustomization is Ready, at this revision if one is given."""
        return await self.until(
            KUSTOMIZATION, name,
            lambda o: condition(o, "Ready").get("status") == "True"
            and o["status"].get("observedGeneration") == o["metadata"]["generation"]
            and (not revision or o["status"].get("lastAppliedRevision") == revision),
        )

    async def failed(self, name: str = "app", reason: str = "", text: str = "") -> Json:
        """Wait until the Kustomization is Ready=False with this reason and a message that holds this text."""
        return await self.until(
            KUSTOMIZATION, name,
            lambda o: condition(o, "Ready").get("status") == "False"
            and reason in ("", condition(o, "Ready")["reason"]) and text in condition(o, "Ready")["message"],
        )

    async def handled(self, name: str, token: str) -> Json:
        """Wait until a requested run has ended."""
        return await self.until(KUSTOMIZATION, name, lambda o: o["status"].get("lastHandledReconcileAt") == token)

    async def events(self, name: str = "app", kind: str = "Kustomization") -> list[Json]:
        """The events about an object, oldest first."""
        resource = await self.resource("v1", "Event")
        listing = await self.client.list(resource, self.namespace)
        found = [live.content() for live in listing.items]
        return [e for e in found if (e["involvedObject"]["kind"], e["involvedObject"]["name"]) == (kind, name)]

    async def until_event(self, text: str, name: str = "app", kind: str = "Kustomization") -> Json:
        """Wait on a watch for an event about an object whose message holds this text."""
        resource = await self.resource("v1", "Event")
        selection = Selection("", "Event", "v1", self.namespace)
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    async for batch in watch(self.client, resource, selection, resource_version="0"):
                        for event in batch:
                            found = {} if event.live is None else event.live.content()
                            about = found.get("involvedObject", {})
                            if (about.get("kind"), about.get("name")) == (kind, name) and text in found["message"]:
                                return found
        except TimeoutError:
            told = [event["message"] for event in await self.events(name, kind)]
            raise AssertionError(f"no event with '{text}' among {told}") from None

    def reference(self, name: str = "app") -> Reference:
        return KUSTOMIZATION.reference(self.namespace, name)


def condition(content: Json, name: str) -> Json:
    """A condition of an object; empty when it has none of this type."""
    conditions: list[Json] = content.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == name), {})


def inventory(content: Json) -> set[str]:
    return {entry["id"] for entry in content["status"].get("inventory", {}).get("entries", [])}


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, replicas: int = 1, **pod: Any) -> Json:
    labels = {"app": name}
    spec = {"containers": [{"name": "main", "image": "example.com/app:1"}]} | pod
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def _artifact(content: Json) -> Json:
    artifact: Json = content.get("status", {}).get("artifact") or {}
    return artifact


def _yaml(content: Any) -> str:
    """JSON is YAML; several objects become several documents."""
    documents = content if isinstance(content, list) else [content]
    return "---\n".join(msgspec.json.encode(document).decode() + "\n" for document in documents)


def _resource(kind: KindInfo[Any]) -> Resource:
    return Resource(kind.group, kind.storage_version, kind.kind, kind.plural, namespaced=True)


def object_of(live: LiveObject | None) -> Json | None:
    return None if live is None else live.content()
