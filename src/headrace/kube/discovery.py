"""Which kinds a cluster serves, and under which paths: aggregated discovery, cached for each cluster.

The cache answers at once; it is read anew when a CRD event said that it may be old (`invalidate`), when a
kind is missing (not more often than a request rate allows), and after some minutes. Reading it anew costs two
conditional requests (`/api` and `/apis`), answered 304 as long as nothing changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from headrace.core.clock import Clock, SystemClock
from headrace.kube.client import JSON, Client
from headrace.kube.counter import DISCOVERY
from headrace.kube.errors import ApiError, KubeError, NoMatch
from headrace.kube.resource import Resource

log = logging.getLogger(__name__)

T = TypeVar("T")

_AGGREGATED = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)
_ACCEPT = f"{_AGGREGATED},{JSON}"

EXPIRY = 600.0
"""Seconds until the cache is read anew without a reason; APIServices come and go without a CRD event."""
MISS_INTERVAL = 5.0
"""Seconds between two readings for kinds that are missing, when no event announced them."""
STALE_INTERVAL = 0.25
"""Seconds between two readings after events."""


class _SubresourceDiscovery(msgspec.Struct, rename="camel"):
    subresource: str = ""


class _ResponseKind(msgspec.Struct):
    group: str = ""
    kind: str = ""


class _ResourceDiscovery(msgspec.Struct, rename="camel"):
    resource: str = ""
    response_kind: _ResponseKind = msgspec.field(default_factory=_ResponseKind)
    scope: str = ""
    singular_resource: str = ""
    verbs: list[str] = []
    short_names: list[str] = []
    categories: list[str] = []
    subresources: list[_SubresourceDiscovery] = []


class _VersionDiscovery(msgspec.Struct):
    version: str = ""
    resources: list[_ResourceDiscovery] = []


class _GroupMetadata(msgspec.Struct):
    name: str = ""


class _GroupDiscovery(msgspec.Struct):
    metadata: _GroupMetadata = msgspec.field(default_factory=_GroupMetadata)
    versions: list[_VersionDiscovery] = []


class _Aggregated(msgspec.Struct):
    kind: str = ""
    items: list[_GroupDiscovery] = []


class _ApiResource(msgspec.Struct, rename="camel"):
    name: str = ""
    singular_name: str = ""
    namespaced: bool = False
    kind: str = ""
    verbs: list[str] = []
    short_names: list[str] = []
    categories: list[str] = []


class _ApiResourceList(msgspec.Struct):
    resources: list[_ApiResource] = []


class _GroupVersion(msgspec.Struct):
    version: str = ""


class _ApiGroup(msgspec.Struct, rename="camel"):
    name: str = ""
    versions: list[_GroupVersion] = []
    preferred_version: _GroupVersion = msgspec.field(default_factory=_GroupVersion)


class _ApiGroupList(msgspec.Struct):
    groups: list[_ApiGroup] = []


class _ApiVersions(msgspec.Struct):
    versions: list[str] = []


_Table = dict[tuple[str, str], tuple[Resource, ...]]


class _Part(msgspec.Struct):
    """What one of the two paths answered last."""

    etag: str = ""
    resources: tuple[Resource, ...] = ()


class Discovery:
    """REST mapping of one cluster, under the identity of `client`."""

    def __init__(self, client: Client, *, clock: Clock | None = None) -> None:
        self._client = client
        self._clock: Clock = clock or SystemClock()
        self._lock = asyncio.Lock()
        self._parts = {"/api": _Part(), "/apis": _Part()}
        self._table: _Table = {}
        self._all: tuple[Resource, ...] = ()
        self._read_at: float | None = None
        self._stale = False
        self._listeners: list[Callable[[], None]] = []

    async def resource(self, group: str, kind: str, version: str = "") -> Resource:
        """The resource of a kind, in its preferred version unless one is named.

        Raises NoMatch when the cluster does not serve it, KubeError when the cluster cannot be asked.
        """
        found = self.cached(group, kind, version)
        if self._due(missing=found is None):
            await self._refresh_for(missing=found is None)
            found = self.cached(group, kind, version)
        if found is None:
            raise NoMatch(group, kind, version)
        return found

    def cached(self, group: str, kind: str, version: str = "") -> Resource | None:
        """As `resource`, from the cache alone."""
        served = self._table.get((group, kind), ())
        return next((resource for resource in served if version in ("", resource.version)), None)

    async def versions(self, group: str, kind: str) -> tuple[Resource, ...]:
        """A kind in all versions that are served, preferred first. Raises NoMatch."""
        await self.resource(group, kind)
        return self._table[group, kind]

    async def resources(self) -> tuple[Resource, ...]:
        """Everything that is served, in the server's order of preference."""
        if self._due(missing=False):
            await self._refresh_for(missing=False)
        return self._all

    async def wait(self, group: str, kind: str, version: str = "", *, timeout: float = 10.0) -> Resource:
        """As `resource`, for a kind whose CRD was just established: the server's discovery lags a little
        behind.

        Raises NoMatch when it is not served within `timeout` seconds.
        """
        deadline = self._clock.monotonic() + timeout
        while True:
            self.invalidate()
            try:
                return await self.resource(group, kind, version)
            except NoMatch:
                if self._clock.monotonic() >= deadline:
                    raise
            await self._clock.sleep(STALE_INTERVAL)

    def invalidate(self) -> None:
        """A CRD or APIService changed: what is missing may be there now."""
        self._stale = True

    async def refresh(self) -> None:
        """Read the cache anew. Raises KubeError; the earlier content is kept then."""
        async with self._lock:
            await self._read()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each reading that found something changed."""
        self._listeners.append(listener)

    def _due(self, *, missing: bool) -> bool:
        if self._read_at is None:
            return True
        age = self._clock.monotonic() - self._read_at
        if missing:
            return age >= (STALE_INTERVAL if self._stale else MISS_INTERVAL)
        return age >= (MISS_INTERVAL if self._stale else EXPIRY)

    async def _refresh_for(self, *, missing: bool) -> None:
        async with self._lock:
            if not self._due(missing=missing):
                return
            try:
                await self._read()
            except KubeError:
                # What is known already stays usable; only a miss cannot be told from an outage.
                if missing or self._read_at is None:
                    raise
                log.warning("discovery could not be read again", exc_info=True)

    async def _read(self) -> None:
        self._stale, stale = False, self._stale
        try:
            changed = await self._read_part("/api") | await self._read_part("/apis")
        except BaseException:
            self._stale |= stale  # what was announced is still to be read
            raise
        self._read_at = self._clock.monotonic()
        if not changed:
            return
        self._all = (*self._parts["/api"].resources, *self._parts["/apis"].resources)
        self._table = _by_kind(self._all)
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                log.exception("a listener of discovery failed")

    async def _read_part(self, path: str) -> bool:
        part = self._parts[path]
        answer = await self._client.exchange("GET", path, accept=_ACCEPT, purpose=DISCOVERY, etag=part.etag)
        if answer.status == 304:
            return False
        resources = _aggregated(answer.body)
        if resources is None:
            resources = await self._read_each(path, answer.body)
        changed = resources != part.resources
        self._parts[path] = _Part(answer.etag, resources)
        return changed

    async def _read_each(self, path: str, body: bytes) -> tuple[Resource, ...]:
        """Without aggregated discovery (before Kubernetes 1.26): one request for each group and version. One
        that fails (an aggregated API that is down) leaves only itself out."""
        found: list[Resource] = []
        for group, version in _group_versions(path, body):
            group_path = f"{path}/{group}/{version}" if group else f"{path}/{version}"
            try:
                raw = await self._client.request("GET", group_path, purpose=DISCOVERY)
            except ApiError as error:
                log.warning("discovery left out a group", extra={"group": group, "error": str(error)})
                continue
            found += _listed(raw, group, version)
        return tuple(found)


def _aggregated(body: bytes) -> tuple[Resource, ...] | None:
    """The resources of an aggregated answer, None when it is none."""
    answer = _decoded(body, _Aggregated)
    if answer.kind != "APIGroupDiscoveryList":
        return None
    return tuple(
        Resource(
            group=group.metadata.name,
            version=version.version,
            kind=found.response_kind.kind,
            plural=found.resource,
            namespaced=found.scope == "Namespaced",
            verbs=tuple(found.verbs),
            subresources=tuple(sub.subresource for sub in found.subresources),
            singular=found.singular_resource,
            short_names=tuple(found.short_names),
            categories=tuple(found.categories),
        )
        for group in answer.items
        for version in group.versions
        for found in version.resources
    )


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise KubeError(f"the server's discovery answer cannot be decoded: {error}") from None


def _group_versions(path: str, body: bytes) -> list[tuple[str, str]]:
    if path == "/api":
        return [("", version) for version in _decoded(body, _ApiVersions).versions]
    found: list[tuple[str, str]] = []
    for group in _decoded(body, _ApiGroupList).groups:
        preferred = group.preferred_version.version
        versions = [version.version for version in group.versions]
        found += [(group.name, version) for version in sorted(versions, key=lambda v: v != preferred)]
    return found


def _listed(body: bytes, group: str, version: str) -> list[Resource]:
    listed = _decoded(body, _ApiResourceList).resources
    subresources: dict[str, list[str]] = {}
    for entry in listed:
        name, _, subresource = entry.name.partition("/")
        if subresource:
            subresources.setdefault(name, []).append(subresource)
    return [
        Resource(
            group=group,
            version=version,
            kind=entry.kind,
            plural=entry.name,
            namespaced=entry.namespaced,
            verbs=tuple(entry.verbs),
            subresources=tuple(subresources.get(entry.name, ())),
            singular=entry.singular_name,
            short_names=tuple(entry.short_names),
            categories=tuple(entry.categories),
        )
        for entry in listed
        if "/" not in entry.name
    ]


def _by_kind(resources: Iterable[Resource]) -> _Table:
    """Resources by (group, kind). Those that cannot be read one by one (reviews, bindings) are served too;
    where a kind has several resources, the one that can be got and listed comes first."""
    table: dict[tuple[str, str], list[Resource]] = {}
    for resource in resources:
        table.setdefault(resource.group_kind, []).append(resource)
    return {key: tuple(sorted(found, key=lambda r: "list" not in r.verbs)) for key, found in table.items()}
