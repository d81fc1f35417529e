"""A small kind of its own on the real API server: the engine's example controller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from headrace.api.kinds import KindInfo
from headrace.core.clock import SystemClock
from headrace.core.random import Random
from headrace.engine.access import ClusterAccess
from headrace.engine.engine import Engine
from headrace.engine.settings import EngineSettings
from headrace.kube.client import Client
from headrace.kube.cluster import Clusters
from headrace.kube.config import ClientConfig
from headrace.kube.errors import AlreadyExists, KubeError
from headrace.kube.resource import Resource
from headrace.model.errors import Waiting
from headrace.model.objects import LiveObject, Metadata
from headrace.model.outcome import Outcome
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.status.events import Events
from headrace.status.writer import ApiStatusWriter
from tests.eventually import eventually

GROUP = "test.headrace.dev"
THINGS = Resource(GROUP, "v1", "Thing", "things", namespaced=True)
CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
EVENTS = Resource("", "v1", "Event", "events", namespaced=True)
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
REQUESTED = "reconcile.fluxcd.io/requestedAt"


class Spec(msgspec.Struct, frozen=True, rename="camel"):
    text: str = ""
    suspend: bool = False
    depends_on: tuple[str, ...] = ()


class Thing(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: Spec = Spec()


THING: KindInfo[Any] = KindInfo(
    group=GROUP, kind="Thing", plural="things", singular="thing", short_names=(), categories=(), versions=("v1",),
    type=Thing, component="thing-controller")

READY = Part("ready", lambda live: status_of(live, "Ready"))

Reconcile = Callable[[Thing, Scope], Awaitable[Outcome]]


def status_of(live: LiveObject, kind: str) -> str:
    return str((condition_of(live, kind) or {}).get("status", ""))


def condition_of(live: LiveObject, kind: str) -> dict[str, Any] | None:
    conditions = (live.content().get("status") or {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == kind), None)


async def install_crd(client: Client) -> None:
    """Define Thing; harmless when it is defined already."""
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
               "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": free, "status": free}}}}
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"things.{GROUP}"},
            "spec": {"group": GROUP, "scope": "Namespaced", "versions": [version],
                     "names": {"kind": "Thing", "plural": "things", "singular": "thing"}}}
    with contextlib.suppress(AlreadyExists):
        await client.create(CRDS, "", msgspec.json.encode(body))
    async with asyncio.timeout(30):
        while True:
            try:
                await client.list(THINGS, "default")
                return
            except KubeError:
                await asyncio.sleep(0.05)


async def ready(obj: Thing, scope: Scope) -> Outcome:
    """Ready, once everything it depends on is."""
    for name in obj.spec.depends_on:
        other = Reference(GROUP, "Thing", obj.metadata.namespace, name)
        live = await scope.read(other, READY)
        if live is None or status_of(live, "Ready") != "True":
            raise Waiting("DependencyNotReady", f"dependency '{other.namespace}/{name}' is not ready", on=[other])
    return Outcome("ReconciliationSucceeded", f"said {obj.spec.text}", after=3600.0)


class Things:
    kind = THING
    finalizer = "finalizers.fluxcd.io"
    parts = ()

    def __init__(self) -> None:
        self.by_name: dict[str, Reconcile] = {}
        self.runs: list[str] = []
        self.finalized: list[str] = []

    async def reconcile(self, obj: Thing, scope: Scope) -> Outcome:
        self.runs.append(obj.metadata.name)
        return await self.by_name.get(obj.metadata.name, ready)(obj, scope)

    async def finalize(self, obj: Thing, scope: Scope) -> None:
        self.finalized.append(obj.metadata.name)

    def timeout(self, obj: Thing) -> float:
        return 300.0

    def suspended(self, obj: Thing) -> bool:
        return obj.spec.suspend

    def retry_interval(self, obj: Thing) -> float | None:
        return None


class Stage:
    """A running engine, its controller, and an administrator's view of the namespace."""

    def __init__(self, admin: Client, namespace: str, clusters: Clusters, settings: EngineSettings) -> None:
        clock = SystemClock()
        client = clusters.management.client
        kinds = {THING.group_kind: THING}
        self.admin = admin
        self.namespace = namespace
        self.clusters = clusters
        self.things = Things()
        self.writer = ApiStatusWriter(client, Events(client, clock), clock, kinds)
        self.engine = Engine(ClusterAccess(clusters, namespaces=(namespace,), kinds=kinds), [self.things],
                             self.writer, settings, clock=clock, random=Random())

    def reference(self, name: str) -> Reference:
        return Reference(GROUP, "Thing", self.namespace, name)

    async def create(self, name: str, **spec: Any) -> LiveObject:
        body = {"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec}
        return await self.admin.create(THINGS, self.namespace, msgspec.json.encode(body))

    async def patch(self, name: str, **content: Any) -> LiveObject:
        return await self.admin.patch(THINGS, self.namespace, name, msgspec.json.encode(content))

    async def config_map(self, name: str, **data: str) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
        await self.admin.apply(CONFIG_MAPS, self.namespace, name, msgspec.json.encode(body), field_manager="test")

    async def get(self, name: str) -> LiveObject:
        return await self.admin.get(THINGS, self.namespace, name)

    async def has(self, name: str, kind: str, status: str, reason: str = "") -> LiveObject:
        """Wait until a condition of an object has a status (and a reason)."""
        async with asyncio.timeout(30):
            while True:
                live = await self.get(name)
                condition = condition_of(live, kind)
                if condition and condition["status"] == status and reason in ("", condition["reason"]):
                    return live
                await asyncio.sleep(0.02)

    async def events(self, name: str) -> list[dict[str, Any]]:
        listing = await self.admin.list(EVENTS, self.namespace, field_selector=f"involvedObject.name={name}")
        return [live.content() for live in listing.items]

    async def runs(self, name: str, count: int) -> None:
        await eventually(lambda: len(self.engine.traces(self.reference(name))) >= count, f"{count} runs of {name}")

    async def caused(self, name: str, *causes: str) -> None:
        """The newest run has ended, and had these causes: its status is seen a moment before its trace."""
        await eventually(lambda: self.causes(name) == [*causes], f"{name} runs because of {causes}")

    def causes(self, name: str) -> list[str]:
        return [str(cause) for cause in self.engine.traces(self.reference(name))[0].causes]


@contextlib.asynccontextmanager
async def stage(admin: Client, namespace: str, config: ClientConfig,
                settings: EngineSettings | None = None) -> AsyncIterator[Stage]:
    """An engine that serves Things in one namespace."""
    settings = settings or EngineSettings(namespaces=(namespace,))
    stop = asyncio.Event()
    async with Clusters(config, user_agent="headrace-test") as clusters, asyncio.TaskGroup() as group:
        built = Stage(admin, namespace, clusters, settings)
        group.create_task(built.engine.run(stop))
        try:
            yield built
        finally:
            stop.set()
