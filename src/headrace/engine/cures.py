"""Events that cure an error and are no change of one object that could be named: a kind that begins to be served, a
cluster that answers, rights that are granted, a webhook that comes back.

Each has a Reference of its own (`model.cures`), so that `Retry(cures=...)` names them like anything else; readers
subscribe to it, and whoever finds the cure tells the graph. What must be watched for it is watched only so long.
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
from headrace.model.cures import ACCESS, ADMISSION, ANYTHING, is_cluster, is_kind
from headrace.model.reference import Reference

log = logging.getLogger(__name__)

CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")

KIND_LOOKS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Seconds before each look for a kind after an event of a CRD of its group: discovery follows in a second or two."""
CLUSTER_LOOKS = (1.0, 30.0)
"""Seconds before the first probe of a cluster that did not answer, and the most that they double to."""

PATIENCE = 60.0
"""Seconds before an error alone, without an event, makes a kind be looked for again; and for which a cluster that was
found to answer is looked at ever more slowly when it is said not to."""

Search = Callable[[Reference], Coroutine[Any, Any, None]]


RBAC = "rbac.authorization.k8s.io"
ACCESS_KINDS = tuple((RBAC, kind) for kind in ("RoleBinding", "ClusterRoleBinding", "Role", "ClusterRole"))

REGISTRATION = "admissionregistration.k8s.io"
RULES = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy",
         "ValidatingAdmissionPolicyBinding")
SERVICE, ENDPOINTS = ("", "Service"), ("discovery.k8s.io", "EndpointSlice")
ADMISSION_KINDS = (*((REGISTRATION, kind) for kind in RULES), SERVICE, ENDPOINTS)

WATCHED = {ACCESS: ACCESS_KINDS, ADMISSION: ADMISSION_KINDS}
"""What is watched, as metadata and only while somebody is blocked, for each cure that shows as events."""

EVENT_LOOKS = (0.0, 2.0)
"""Seconds before each try after such an event: the API server's own caches may be a moment behind it."""
SETTLED_LOOKS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each try of a kind whose definition was established a moment ago."""

GUARD = 30.0
"""Seconds between two looks whether anybody is still blocked."""


def may_cure(reference: Reference, changed: Reference) -> bool:
    """Whether a change of an object may be the cure that `reference` stands for. Pure."""
    if changed.cluster != reference.cluster:
        return False
    if reference.kind == ACCESS:
        within = not reference.namespace or changed.namespace in ("", reference.namespace)
        return changed.group_kind in ACCESS_KINDS and within
    if changed.group == REGISTRATION:
        return changed.kind in RULES
    if changed.namespace != reference.namespace or reference.name == ANYTHING:
        return False
    if changed.group_kind == ENDPOINTS:
        return changed.name.startswith(f"{reference.name}-")
    return changed.group_kind == SERVICE and changed.name == reference.name


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
        self._again: set[Reference] = set()
        self._watching: set[Reference] = set()
        self._settling: set[Reference] = set()
        self._answered: dict[Reference, tuple[float, float]] = {}
        """When a cluster was found to answer, and after how long a look."""

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
        elif reference.kind in WATCHED:
            await self._watch(reference)
        elif reference not in self._settling:
            self._settling.add(reference)
            self._look(reference, self._seek_settled)

    async def _watch(self, reference: Reference) -> None:
        """Have events tell of the cure. One that came before the watch began is not missed: there is one try more.
        Raises KubeError when no kind of it can be watched."""
        if reference in self._watching:
            return
        errors = []
        for group, kind in WATCHED[reference.kind]:
            try:
                await self._reader.hold(Reference(group, kind, reference.namespace, "", reference.cluster), reference)
            except KubeError as error:
                errors.append(error)
        if len(errors) == len(WATCHED[reference.kind]):
            raise errors[0]
        self._watching.add(reference)
        self._spawn(self._guard(reference), name=f"guard {reference}")
        self._look(reference, self._seek_again)

    async def _guard(self, reference: Reference) -> None:
        """End the watches when nobody is blocked any more."""
        while reference in self._graph:
            await self._clock.sleep(GUARD)
        self._watching.discard(reference)
        self._reader.release(reference)

    def changed(self, reference: Reference) -> None:
        """An object has changed: somebody who is blocked may not be any more."""
        for blocked in [blocked for blocked in self._watching if may_cure(blocked, reference)]:
            self._look(blocked, self._seek_again)
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
        else:
            self._again.add(reference)

    async def _run(self, reference: Reference, how: Search) -> None:
        try:
            again = True
            while again:
                self._again.discard(reference)
                await how(reference)
                again = reference in self._again
        except KubeError as error:
            log.warning("a cure cannot be looked for", extra={"reference": str(reference), "error": str(error)})
        finally:
            self._looking.discard(reference)
            self._again.discard(reference)
            self._settling.discard(reference)

    async def _seek_kind(self, reference: Reference) -> None:
        for seconds in KIND_LOOKS:
            await self._clock.sleep(seconds)
            if await self._reader.served(reference):
                self._found(reference)
                return

    async def _seek_cluster(self, reference: Reference) -> None:
        seconds, longest = CLUSTER_LOOKS
        found, after = self._answered.get(reference, (-PATIENCE, 0.0))
        if self._clock.monotonic() - found < PATIENCE:
            # It answers a probe and still fails who works with it: that must not become a loop.
            seconds = min(2 * after, longest)
        while reference in self._graph:
            await self._clock.sleep(seconds)
            if await self._reader.alive(reference.cluster):
                self._answered[reference] = self._clock.monotonic(), seconds
                self._found(reference)
                return
            seconds = min(2 * seconds, longest)

    async def _seek_again(self, reference: Reference) -> None:
        """Try what was refused, as often as it takes the API server to notice what has changed."""
        for seconds in EVENT_LOOKS:
            await self._clock.sleep(seconds)
            if reference not in self._graph:
                return
            self._found(reference)

    async def _seek_settled(self, reference: Reference) -> None:
        for seconds in SETTLED_LOOKS:
            await self._clock.sleep(seconds)
            if reference not in self._graph:
                return
            self._found(reference)
