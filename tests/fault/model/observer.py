"""Everything that happens to the objects that matter, as the API server itself tells it, in the order of versions.

A watch client of its own, straight to the server: neither the engine's caches nor its proxy are believed. Versions of
objects come from one etcd, so they order what happens to objects of different kinds as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from headrace.kube.config import ClientConfig
from headrace.kube.credentials import Material
from headrace.kube.tls import ssl_context
from tests.fault.model.desired import CRD, HOME, SECOND, Json, Key

PATHS = {
    "Kustomization": "/apis/kustomize.toolkit.fluxcd.io/v1/kustomizations",
    "ConfigMap": "/api/v1/configmaps", "Secret": "/api/v1/secrets", "ServiceAccount": "/api/v1/serviceaccounts",
    "Deployment": "/apis/apps/v1/deployments", "Widget": "/apis/model.test/v1/widgets",
    "Namespace": "/api/v1/namespaces", "CustomResourceDefinition":
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}  # fmt: skip
NOT_OURS = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default"), ("ConfigMap", "denied")}
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `listed`: not seen itself, but inferred from a list after a watch was lost; then a
    deletion's `version` is that of the list."""

    version: int
    type: str
    key: Key
    object: Json
    at: float
    listed: bool = False


@dataclass
class Observer:
    """See the module. `pending` are the events that nobody has taken yet."""

    config: ClientConfig
    pending: list[Event] = field(default_factory=list)
    _held: dict[str, dict[Key, Json]] = field(default_factory=lambda: {kind: {} for kind in PATHS})
    _connected: set[str] = field(default_factory=set)
    _session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Observer]:
        """Observe as long as the context is open, from before it is entered."""
        own = self.config.credentials
        tls = ssl_context(Material(self.config.ca, own.client_certificate, own.client_key), insecure=False)
        connector, timeout = aiohttp.TCPConnector(limit=0, ssl=tls), aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=1 << 22) as session:
            self._session = session
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._observe(kind)) for kind in PATHS]
                try:
                    yield self
                finally:
                    for task in running:
                        task.cancel()

    @property
    def live(self) -> dict[Key, Json]:
        """All objects as they are now, Kustomizations among them."""
        return {key: live for held in self._held.values() for key, live in held.items()}

    @property
    def connected(self) -> bool:
        """Whether no watch is broken; that of a kind which is not served is none."""
        return self._connected >= PATHS.keys() - {"Widget"}

    def take(self, until: float) -> list[Event]:
        """The events that came before this (monotonic) time, in the order of their versions."""
        taken = sorted((e for e in self.pending if e.at <= until), key=lambda e: e.version)
        self.pending = [e for e in self.pending if e.at > until]
        return taken

    async def fresh(self) -> dict[Key, Json]:
        """All objects by new lists."""
        lists = await asyncio.gather(*(self._list(kind) for kind in PATHS))
        return {key: live for found, _ in lists for key, live in found.items()}

    # -- one kind --------------------------------------------------------------------------------------------------

    async def _observe(self, kind: str) -> None:
        version = ""
        while True:
            try:
                if not version:
                    version = await self._relist(kind)
                self._connected.add(kind)
                version = await self._watch(kind, version)
            except (aiohttp.ClientError, OSError, _Refused):
                self._connected.discard(kind)
                await asyncio.sleep(_PAUSE)

    async def _relist(self, kind: str) -> str:
        found, version = await self._list(kind)
        held = self._held[kind]
        for key, old in list(held.items()):
            if key not in found or found[key]["metadata"]["uid"] != old["metadata"]["uid"]:
                at = int(version or _version(old) + 1) if key not in found else _version(found[key]) - 1
                self._happened("DELETED", key, old, at, listed=True)
        if not version:
            raise _Refused
        for key, live in found.items():
            if key not in held:
                self._happened("ADDED", key, live, _version(live), listed=True)
            elif _version(held[key]) != _version(live):
                self._happened("MODIFIED", key, live, _version(live), listed=True)
        return version

    async def _list(self, kind: str) -> tuple[dict[Key, Json], str]:
        assert self._session is not None
        async with self._session.get(self.config.server + PATHS[kind]) as answer:
            if answer.status == 404 and kind == "Widget":
                return {}, ""  # the kind comes and goes
            if answer.status != 200:
                raise _Refused
            content = await answer.json()
        items = ({"kind": kind} | item for item in content["items"])
        found = {key: item for item in items if (key := _key(kind, item)) is not None}
        return found, content["metadata"]["resourceVersion"]

    async def _watch(self, kind: str, version: str) -> str:
        """Follow; returns the version to go on from, empty when it is too old. Raises _Refused, ClientError."""
        assert self._session is not None
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        async with self._session.get(self.config.server + PATHS[kind], params=query) as answer:
            if answer.status == 410 or answer.status == 404:
                return ""
            if answer.status != 200:
                raise _Refused
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return ""
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._told(kind, event)
        self._connected.discard(kind)
        return version

    def _told(self, kind: str, event: Json) -> None:
        if event["type"] == "BOOKMARK":
            return
        key = _key(kind, event["object"])
        if key is not None:
            self._happened(event["type"], key, event["object"], _version(event["object"]))

    def _happened(self, what: str, key: Key, live: Json, version: int, *, listed: bool = False) -> None:
        if what == "DELETED":
            self._held[key.kind].pop(key, None)
        else:
            self._held[key.kind][key] = live
        live["metadata"].pop("managedFields", None)
        self.pending.append(Event(version, what, key, live, time.monotonic(), listed))


class _Refused(Exception):
    """The server does not serve this now."""


def _key(kind: str, live: dict[str, Any]) -> Key | None:
    """What the object is called here, None for those that are not of the story."""
    metadata = live["metadata"]
    key = Key(kind, metadata.get("namespace", ""), metadata["name"])
    if key.namespace:
        return key if key.namespace in (HOME, SECOND) and (kind, key.name) not in NOT_OURS else None
    return key if key == CRD or key.name == "extra" else None


def _version(live: Json) -> int:
    return int(live["metadata"]["resourceVersion"])

