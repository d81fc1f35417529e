"""Events that cure an error and are no change of one object: a kind that begins to be served, a cluster that answers.

Both have a Reference of their own, so that `Retry(cures=...)` names them like anything else; readers subscribe to it,
and whoever finds the cure tells the graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from headrace.core.clock import Clock
from headrace.engine.graph import Graph
from headrace.engine.reader import Reader
from headrace.engine.services import Spawn
from headrace.kube.errors import KubeError
from headrace.model.reference import MANAGEMENT_CLUSTER, Reference

log = logging.getLogger(__name__)

CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")

KIND_LOOKS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Seconds before each look for a kind after an event of a CRD of its group: discovery follows in a second or two."""
CLUSTER_LOOKS = (1.0, 30.0)
"""Seconds before the first probe of a cluster that did not answer, and the most that they double to."""

PATIENCE = 60.0
"""Seconds before an error alone, without an event, makes a kind be looked for again."""

Search = Callable[[Reference], Coroutine[Any, Any, None]]


def kind_reference(group: str, kind: str, cluster: str = MANAGEMENT_CLUSTER) -> Reference:
    """The kind itself: a reference without a name."""
    return Reference(group, kind, "", "", cluster)


def cluster_reference(cluster: str) -> Reference:
    """The API server of a cluster."""
    return Reference("headrace.dev", "Cluster", "", cluster or "management", cluster)


def is_kind(reference: Reference) -> bool:
    """Whether a reference names a kind."""
    return not reference.name


def is_cluster(reference: Reference) -> bool:
    """Whether a reference names a cluster."""
    return reference.group_kind == ("headrace.dev", "Cluster")


class Cures:
    """Looks for cures as long as somebody waits for them. `found` is called with the reference of each."""

    def __init__(self, reader: Reader, graph: Graph, clock: Clock, spawn: Spawn,
                 found: Callable[[Reference], None]) -> None:
        self._reader = reader
        self._graph = graph
        self._clock = clock
        self._spawn = spawn
        self._found = found
        self._looking: set[Reference] = set()
        self._sought: dict[Reference, float] = {}

    async def seek(self, reference: Reference) -> None:
        """Somebody has subscribed to a kind or a cluster: make sure that its cure is noticed."""
        if is_kind(reference):
            group, kind = CRD
            await self._reader.ensure(Reference(group, kind, "", "", reference.cluster))
            # Discovery may be just behind a CRD event that has passed. Once: that a kind is served and still does
            # not match must not become a loop.
            now = self._clock.monotonic()
            if now - self._sought.get(reference, -PATIENCE) >= PATIENCE:
                self._sought[reference] = now
                self._look(reference, self._seek_kind)
        elif is_cluster(reference):
            self._look(reference, self._seek_cluster)

    def changed(self, reference: Reference) -> None:
        """A CRD has changed: kinds of its group that somebody looks for may be served now."""
        if reference.group_kind != CRD:
            return
        group = reference.name.partition(".")[2]
        for target in self._graph.targets():
            if is_kind(target) and (target.group, target.cluster) == (group, reference.cluster):
                self._look(target, self._seek_kind)

    def _look(self, reference: Reference, how: Search) -> None:
        if reference not in self._looking:
            self._looking.add(reference)
            self._spawn(self._run(reference, how), name=f"cure {reference}")

    async def _run(self, reference: Reference, how: Search) -> None:
        try:
            await how(reference)
        except KubeError as error:
            log.warning("a cure cannot be looked for", extra={"reference": str(reference), "error": str(error)})
        finally:
            self._looking.discard(reference)

    async def _seek_kind(self, reference: Reference) -> None:
        for seconds in KIND_LOOKS:
            await self._clock.sleep(seconds)
            if await self._reader.served(reference):
                self._found(reference)
                return

    async def _seek_cluster(self, reference: Reference) -> None:
        seconds, longest = CLUSTER_LOOKS
        while reference in self._graph:
            await self._clock.sleep(seconds)
            if await self._reader.alive(reference.cluster):
                self._found(reference)
                return
            seconds = min(2 * seconds, longest)
