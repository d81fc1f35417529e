"""Where a Kustomization delivers to: one cluster as one identity, with the watches that tell drift and health.

Writes, and reads of delivered objects, are made as the tenant; watches are the engine's own and shared by all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from headrace.api.kustomization import OWNER_NAME
from headrace.apply.applied import Record
from headrace.apply.planner import Known
from headrace.apply.signature import SIGNATURE
from headrace.core.clock import Clock
from headrace.kube.client import Client
from headrace.kube.cluster import Cluster
from headrace.kube.definitions import is_defined
from headrace.kube.errors import KubeError, NoMatch
from headrace.kube.informer import Informer
from headrace.kube.listeners import Listener
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference

log = logging.getLogger(__name__)

GroupKind = tuple[str, str]

UNSELECTED = frozenset({("", "Secret"), ("", "ConfigMap")})
"""Kinds of which one watch of all objects serves both deliveries and everybody who reads them."""

HOLDER = "deliveries"
"""Who keeps the shared watches of delivered kinds."""


class Target:
    """See the module. `client` is the tenant's, `overridden` the setting override-manager."""

    def __init__(
        self, cluster: Cluster, client: Client, clock: Clock, *,
        signature: Part = SIGNATURE, overridden: tuple[str, ...] = (),
    ) -> None:
        self.client = client
        self.clock = clock
        self.signature = signature
        self.overridden = overridden
        self.unwatched: dict[GroupKind, str] = {}
        """Kinds that could not be watched, and why: their drift shows only at the interval."""
        self._cluster = cluster
        self._defined: dict[GroupKind, bool] = {}
        self._asking = asyncio.Lock()

    @property
    def name(self) -> str:
        """The cluster's name in References."""
        return self._cluster.name

    # -- kinds -----------------------------------------------------------------------------------------------------

    async def resource(self, group_kind: GroupKind, version: str) -> Resource:
        """The kind in exactly this version. Raises NoMatch when it is not served."""
        return await self._cluster.discovery.resource(*group_kind, version)

    async def any_resource(self, group_kind: GroupKind, version: str) -> Resource:
        """The kind in this version, or in the preferred one when that is not served any more. Raises NoMatch."""
        try:
            return await self.resource(group_kind, version)
        except NoMatch:
            return await self.resource(group_kind, "")

    async def namespaced(self, group_kind: GroupKind) -> bool | None:
        """Whether the kind is namespaced; None when it is not served (yet)."""
        try:
            return (await self.resource(group_kind, "")).namespaced
        except NoMatch:
            return None

    async def established(self, group_kind: GroupKind, version: str) -> None:
        """Return when a kind whose CRD was just established is served. Discovery lags a little behind."""
        await self._cluster.discovery.wait(*group_kind, version)

    async def may_exist(self, group_kind: GroupKind) -> bool:
        """Whether there may be objects of a kind that is not served: anything but sure knowledge says so (REL-06).
        Asked once a run."""
        async with self._asking:
            if group_kind not in self._defined:
                try:
                    self._defined[group_kind] = await is_defined(
                        self._cluster.client, self._cluster.discovery, *group_kind)
                except KubeError as error:
                    log.info("definitions cannot be read", extra={"kind": group_kind[1], "error": str(error)})
                    self._defined[group_kind] = True
            return self._defined[group_kind]

    # -- drift -----------------------------------------------------------------------------------------------------

    async def watch(self, kinds: Iterable[GroupKind]) -> None:
        """Have every change of delivered objects of these kinds told, from now on.

        A kind that is not served is left out; so is one that must not be watched, which `unwatched` then names.
        """
        missing = [kind for kind in kinds if not self._watches_all(kind, full=False)]
        async with asyncio.TaskGroup() as group:
            for kind in missing:
                group.create_task(self._watch_owned(kind))

    async def _watch_owned(self, kind: GroupKind) -> None:
        selector = "" if kind in UNSELECTED else OWNER_NAME
        try:
            await self._cluster.informers.ensure(kind, label_selector=selector, metadata_only=True, holder=HOLDER)
        except NoMatch:
            return
        except KubeError as error:
            self.unwatched[kind] = str(error)
            log.warning("delivered objects are not watched", extra={"kind": kind[1], "error": str(error)})

    def _watches_all(self, kind: GroupKind, *, full: bool) -> bool:
        """Whether a watch of all objects of the kind runs already, as for CRDs and for our own kinds."""
        return any(
            (informer.selection.group, informer.selection.kind) == kind
            and not (informer.selection.label_selector or informer.selection.namespace or informer.selection.name)
            and not (full and informer.selection.metadata_only)
            and informer.synced
            for informer in self._cluster.informers.all()
        )

    def look(self, reference: Reference, record: Record | None) -> Known:
        """What the watches know of an object. One that does not carry our label counts as absent."""
        live = self._cluster.informers.get(reference)
        if isinstance(live, LiveObject):
            return Known(record, live, watched=True)
        return Known(record, None, watched=live is None or self._owned_is_watched(reference.group_kind))

    def _owned_is_watched(self, kind: GroupKind) -> bool:
        return any(
            (informer.selection.group, informer.selection.kind) == kind
            and informer.selection.label_selector == OWNER_NAME
            and informer.synced
            for informer in self._cluster.informers.all()
        )

    def observe(self, live: LiveObject) -> None:
        """Show the watches what a write of ours was answered with, so that none takes it for news (REL-13)."""
        self._cluster.informers.observe(live)

    # -- health ----------------------------------------------------------------------------------------------------

    async def watch_health(self, kind: GroupKind, *, namespace: str = "", owned: bool = True) -> None:
        """Have whole objects of a kind watched: those that are delivered, or, with `owned` false, all of a namespace.

        Raises NoMatch and what else stands in the way.
        """
        if self._watches_all(kind, full=True):
            return
        selector = OWNER_NAME if owned else ""
        await self._cluster.informers.ensure(
            kind, label_selector=selector, namespace=namespace, metadata_only=False, holder=HOLDER
        )

    def whole(self, reference: Reference) -> LiveObject | None:
        """The whole object as the watches of health show it; None when they show none."""
        live = self._cluster.informers.get(reference, full=True)
        return live if isinstance(live, LiveObject) else None

    def all_in(self, kind: GroupKind, namespace: str) -> list[LiveObject]:
        """All watched whole objects of a kind in a namespace."""
        return [
            live
            for informer in self._cluster.informers.all()
            if (informer.selection.group, informer.selection.kind) == kind and _is_full(informer)
            for live in informer
            if live.metadata.namespace == namespace
        ]

    def subscribe(self, listener: Listener, references: Iterable[Reference]) -> Callable[[], None]:
        """Call `listener` at each change of these objects, or of what they own, that a watch shows; returns what ends
        it."""
        return self._cluster.informers.subscribe(listener, references)


def _is_full(informer: Informer) -> bool:
    return not informer.selection.metadata_only
