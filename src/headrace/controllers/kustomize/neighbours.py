"""The other Kustomizations, as far as one of them has to mind them: for handing over objects and for teardown.

Views of the watch that the engine has anyway: looking costs no request. Whoever's run depends on a neighbour reads it
through its scope, under `HANDLED` or `TERMINATION`, so that the neighbour's next step wakes it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import Kustomization
from headrace.api.meta import FINALIZER, READY
from headrace.controllers.kustomize.dependencies import source_of
from headrace.kube.cluster import Clusters
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference


class Neighbour(msgspec.Struct, frozen=True, gc=False):
    """One Kustomization in the eyes of another.

    `ready` and `reason` are those of its Ready condition. `current` says that its generation was observed, which only a
    success does, `told` that the condition is about its generation. `target` tells apart where it delivers to,
    `inventory` are the ids of its entries.
    """

    reference: Reference
    uid: str
    source: tuple[str, str, str]
    target: tuple[str, ...]
    depends_on: tuple[Reference, ...]
    inventory: frozenset[str]
    ready: str = ""
    reason: str = ""
    current: bool = False
    told: bool = False
    applied: str = ""
    attempted: str = ""
    suspended: bool = False
    deleting: bool = False
    finalizing: bool = False


def neighbour(live: LiveObject, ks: Kustomization) -> Neighbour:
    """The view of one Kustomization."""
    status, metadata = ks.status, live.metadata
    ready = next((condition for condition in status.conditions if condition.type == READY), None)
    return Neighbour(
        reference=live.reference,
        uid=metadata.uid,
        source=source_of(ks),
        target=target_of(ks),
        depends_on=dependencies_of(ks),
        inventory=frozenset(e.id for e in status.inventory.entries) if status.inventory else frozenset(),
        ready=ready.status if ready else "",
        reason=ready.reason if ready else "",
        told=ready is not None and ready.observed_generation == metadata.generation,
        current=status.observed_generation == metadata.generation,
        applied=status.last_applied_revision,
        attempted=status.last_attempted_revision,
        suspended=ks.spec.suspend,
        deleting=metadata.deleting,
        finalizing=metadata.deleting and FINALIZER in (metadata.finalizers or ()),
    )


def seen_by_others(live: LiveObject) -> Neighbour | None:
    """The view of a Kustomization, None of one that cannot be decoded."""
    try:
        return neighbour(live, live.decode(Kustomization))
    except msgspec.MsgspecError:
        return None


def dependencies_of(ks: Kustomization) -> tuple[Reference, ...]:
    """The Kustomizations of spec.dependsOn."""
    namespace = ks.metadata.namespace
    return tuple(KUSTOMIZATION.reference(each.namespace or namespace, each.name) for each in ks.spec.depends_on)


def target_of(ks: Kustomization) -> tuple[str, ...]:
    """What names the cluster: nothing for the own one, else the object with the kubeconfig."""
    config = ks.spec.kube_config
    if config is None:
        return ()
    secret, config_map = config.secret_ref, config.config_map_ref
    named = ("Secret", secret.name, secret.key) if secret else ("ConfigMap", config_map.name if config_map else "")
    return (ks.metadata.namespace, *named)


def _handled(live: LiveObject) -> object:
    try:
        seen = neighbour(live, live.decode(Kustomization))
    except msgspec.MsgspecError:
        return None
    condition = [seen.ready, seen.reason, seen.current, seen.told]
    return [condition, seen.applied, seen.attempted, seen.suspended, seen.deleting, sorted(seen.inventory)]


HANDLED = Part("handled revision", _handled)
"""How far a neighbour is with its revision, and what it lists as its own."""

TERMINATION = Part(
    "termination", lambda live: [live.metadata.deleting, FINALIZER in (live.metadata.finalizers or ())],
    metadata_only=True,
)
"""Whether an object is being deleted, and whether that is still for its controller to do."""


class Neighbours:
    """All Kustomizations that the engine sees."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters
        self._views: dict[Reference, tuple[str, str, Neighbour | None]] = {}

    def of(self, reference: Reference) -> list[Neighbour]:
        """All but the one at `reference`. Those that cannot be decoded are left out."""
        seen = {live.reference: self._view(live) for live in self._live()}
        for gone in self._views.keys() - seen.keys():
            del self._views[gone]
        return [view for other, view in seen.items() if view is not None and other != reference]

    def _live(self) -> Iterator[LiveObject]:
        for informer in self._clusters.management.informers.all():
            selection = informer.selection
            if (selection.group, selection.kind) == KUSTOMIZATION.group_kind and not selection.metadata_only:
                yield from informer

    def _view(self, live: LiveObject) -> Neighbour | None:
        """Decoded once for each version of an object."""
        uid, version = live.metadata.uid, live.metadata.resource_version
        known = self._views.get(live.reference)
        if known is not None and known[:2] == (uid, version):
            return known[2]
        view = seen_by_others(live)
        self._views[live.reference] = (uid, version, view)
        return view
