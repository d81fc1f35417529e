"""The engine's protocols over `kube`: every cluster read with the engine's own identity.

What is watched how follows from the kind. Flux's own kinds and those that are served are watched whole, since their
status is what is read of them; everything else, Secrets and ConfigMaps first of all, as metadata only, one watch per
kind and cluster, and read by GET when a part is needed that metadata does not tell.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.api.kinds import KINDS, KindInfo
from headrace.engine.reader import UNWATCHED, Account, Listener, Unwatched
from headrace.kube.cluster import Cluster, Clusters
from headrace.kube.errors import ApiError, KubeError, NoMatch, NotFound, Unreachable
from headrace.kube.informer import Informer
from headrace.kube.informers import Informers, Missing
from headrace.model.objects import LiveObject
from headrace.model.reference import MANAGEMENT_CLUSTER, Reference

WHOLE_GROUPS = (".toolkit.fluxcd.io", ".extensions.fluxcd.io", ".headrace.dev")
"""Endings of the groups whose objects are watched whole."""

FIELD_MANAGER = "headrace"
"""Who changes finalizers. Upstream's controllers use their own names; the field is a list that nobody owns for long."""


class ClusterAccess:
    """`engine.Access` over the connected clusters. `namespaces` limits the watches of the management cluster, for
    an engine that has no rights elsewhere."""

    def __init__(self, clusters: Clusters, *, namespaces: Sequence[str] = (),
                 kinds: Mapping[tuple[str, str], KindInfo[Any]] = KINDS) -> None:
        self._clusters = clusters
        self._namespaces = frozenset(namespaces)
        self._kinds = kinds
        self._held: dict[Hashable, list[tuple[Informers, Informer]]] = {}

    def get(self, reference: Reference, *, full: bool = False) -> LiveObject | Unwatched | None:
        """See `Reader.get`."""
        cluster = self._clusters.get(reference.cluster)
        found = cluster.informers.get(reference, full=full) if cluster is not None else Missing.MISSING
        return UNWATCHED if isinstance(found, Missing) else found

    async def ensure(self, reference: Reference, *, version: str = "", full: bool = False) -> None:
        """See `Reader.ensure`."""
        limited = bool(self._namespaces) and reference.cluster == MANAGEMENT_CLUSTER
        await self._cluster(reference).informers.ensure(
            reference.group_kind,
            version=version or self._version(reference),
            namespace=reference.namespace if limited else "",
            metadata_only=not (full or reference.group.endswith(WHOLE_GROUPS)),
            holder=self,
        )

    async def hold(self, reference: Reference, holder: Hashable) -> None:
        """See `Reader.hold`."""
        informers = self._cluster(reference).informers
        limited = bool(self._namespaces) and reference.cluster == MANAGEMENT_CLUSTER
        informer = await informers.ensure(
            reference.group_kind, namespace=reference.namespace if limited else "", metadata_only=True, holder=holder)
        self._held.setdefault(holder, []).append((informers, informer))

    def release(self, holder: Hashable) -> None:
        """See `Reader.release`."""
        for informers, informer in self._held.pop(holder, []):
            informers.release(informer, holder)

    async def fetch(
        self, reference: Reference, *, version: str = "", account: Account | None = None
    ) -> LiveObject | None:
        """See `Reader.fetch`."""
        cluster = self._cluster(reference)
        client = cluster.client.impersonate_service_account(*account) if account else cluster.client
        resource = await cluster.discovery.resource(reference.group, reference.kind, version)
        try:
            return await client.get(resource, reference.namespace, reference.name)
        except NotFound:
            return None

    def subscribe(self, listener: Listener) -> None:
        """See `Reader.subscribe`."""
        self._clusters.subscribe(listener)

    async def served(self, reference: Reference) -> bool:
        """See `Reader.served`."""
        discovery = self._cluster(reference).discovery
        if discovery.cached(reference.group, reference.kind) is None:
            discovery.invalidate()
        try:
            await discovery.resource(reference.group, reference.kind)
        except NoMatch:
            return False
        return True

    async def alive(self, cluster: str) -> bool:
        """See `Reader.alive`. Any answer of the API server is one, a refusal too."""
        connected = self._clusters.get(cluster)
        if connected is None:
            return True
        try:
            await connected.client.request("GET", "/version")
        except ApiError as error:
            return error.status != 0
        except KubeError:
            return False
        return True

    async def finalizers(self, live: LiveObject, finalizers: Sequence[str]) -> LiveObject | None:
        """See `FinalizerWriter.finalizers`."""
        reference, metadata = live.reference, live.metadata
        cluster = self._cluster(reference)
        version = live.api_version.rpartition("/")[2]
        resource = await cluster.discovery.resource(reference.group, reference.kind, version)
        body = {"metadata": {"finalizers": list(finalizers), "resourceVersion": metadata.resource_version}}
        written = await cluster.client.patch(
            resource, metadata.namespace, metadata.name, msgspec.json.encode(body), field_manager=FIELD_MANAGER)
        return None if metadata.deleting and not finalizers else written

    def _version(self, reference: Reference) -> str:
        """The version in which a kind of ours is watched by everybody, so that one watch serves all."""
        kind = self._kinds.get(reference.group_kind)
        return kind.storage_version if kind is not None else ""

    def _cluster(self, reference: Reference) -> Cluster:
        cluster = self._clusters.get(reference.cluster)
        if cluster is None:
            raise Unreachable(f"the cluster of {reference} is not connected", sent=False)
        return cluster
