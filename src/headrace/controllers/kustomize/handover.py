"""Handing over: an object that moves from one Kustomization to another is neither deleted nor created anew.

The new owner going first is Flux's own rule: it holds the owner labels then, and the old owner's prune leaves the
object. Here is the other order. Before the old owner deletes what is stale it asks, without a request, who else

- lists the object in its inventory, which is written ahead of the first apply: such an object is left to it;
- delivers the same source to the same cluster and may want it: one that has not listed this revision's, and of whose
  last build something reads differently in the revision's files. Then the deletion is put off, for a while only.

The run itself never waits: it ends Ready with the objects still in its inventory, and the neighbour's next step wakes
it. So a neighbour that depends on this object is not held up by it (decision 009).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from headrace.api.kustomization import Kustomization
from headrace.apply.applied import AppliedStore
from headrace.apply.inventory import Entries
from headrace.apply.prune import Handover
from headrace.controllers.kustomize.dependencies import source_of
from headrace.controllers.kustomize.neighbours import HANDLED, Neighbour, Neighbours, target_of
from headrace.core.clock import Clock, parse_rfc3339
from headrace.model.artifact import Artifact, Tree
from headrace.model.errors import Waiting
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.render.reads import changed_read

PATIENCE = 120.0
"""Seconds for which a deletion is put off because of a neighbour that does not come to say what it wants."""

REMEMBERED = 4096
"""Comparisons of a neighbour's reads with a revision that are remembered."""

HANDOVER = "HandoverPending"


class Trees(Protocol):
    """Opens artifacts."""

    def open(self, artifact: Artifact) -> AbstractAsyncContextManager[Tree]:
        """The files of an artifact for as long as the context is open."""
        ...


class Handovers:
    """Decides for all Kustomizations of one engine which stale objects are somebody else's to come."""

    def __init__(self, neighbours: Neighbours, store: AppliedStore, trees: Trees, clock: Clock) -> None:
        self._neighbours = neighbours
        self._store = store
        self._trees = trees
        self._clock = clock
        self._since: dict[str, tuple[str, float]] = {}
        self._listed: dict[str, str] = {}
        self._compared: dict[tuple[str, str, str], bool] = {}

    async def look(self, ks: Kustomization, artifact: Artifact, stale: Entries, scope: Scope) -> Handover:
        """What of `stale` is not to be deleted by `ks` in this run, which delivers `artifact`.

        Subscribes to the neighbours that this is because of.
        """
        others = [n for n in self._neighbours.of(scope.live.reference) if n.target == target_of(ks) and not n.deleting]
        claims = claimed(others, (e.id for e in stale))
        for claimant in sorted(set(claims.values())):
            await scope.read(claimant, HANDLED)
        unclaimed = tuple(e for e in stale if e.id not in claims)
        undecided = await self._undecided(ks, artifact, others) if unclaimed else None
        left = self._patience(ks, artifact, undecided)
        if undecided is None or left <= 0:
            return Handover(claims)
        await scope.read(undecided, HANDLED)
        return Handover(claims, unclaimed, undecided, left)

    async def for_deletion(self, ks: Kustomization, scope: Scope) -> Mapping[str, Reference]:
        """The claims on what a Kustomization that is being deleted has delivered. Raises Waiting(HandoverPending) for
        a neighbour that was just created and has not begun: a Kustomization that is renamed."""
        others = [n for n in self._neighbours.of(scope.live.reference) if n.target == target_of(ks) and not n.deleting]
        fresh = next((n.reference for n in others if n.source == source_of(ks) and is_new(n)), None)
        if fresh is not None:
            await self.await_claimant(ks, fresh, scope)
        return claimed(others, (e.id for e in ks.status.inventory.entries)) if ks.status.inventory else {}

    async def await_claimant(self, ks: Kustomization, claimant: Reference, scope: Scope) -> None:
        """Raises Waiting(HandoverPending) until the claimant has moved; returns when patience is over."""
        left = PATIENCE - age_of_deletion(ks, self._clock)
        if left > 0:
            await scope.read(claimant, HANDLED)
            raise Waiting(HANDOVER, f"objects are handed over to {claimant}", on=(claimant,), after=left, quiet=True)

    def listed(self, ks: Kustomization, artifact: Artifact) -> None:
        """The inventory of `ks` says all that it wants of `artifact`, whatever becomes of the run."""
        self._listed[ks.metadata.uid] = artifact.revision

    def forget(self, uid: str) -> None:
        """The Kustomization is gone."""
        self._since.pop(uid, None)
        self._listed.pop(uid, None)

    def _patience(self, ks: Kustomization, artifact: Artifact, undecided: Reference | None) -> float:
        """Seconds for which deleting is put off yet: counted from the first look at this revision."""
        uid = ks.metadata.uid
        if undecided is None:
            self._since.pop(uid, None)
            return 0.0
        if self._since.get(uid, ("", 0.0))[0] != artifact.revision:
            self._since[uid] = (artifact.revision, self._clock.monotonic())
        return PATIENCE - (self._clock.monotonic() - self._since[uid][1])

    async def _undecided(self, ks: Kustomization, artifact: Artifact, others: Iterable[Neighbour]) -> Reference | None:
        """A neighbour that may want anything at this revision and has not said so; one is enough to wait for."""
        for other in others:
            listed = self._listed.get(other.uid, "")
            if other.source != source_of(ks) or other.suspended or has_handled(other, artifact.revision, listed):
                continue
            if not (other.current and await self._is_unaffected(other, artifact)):
                return other.reference
        return None

    async def _is_unaffected(self, other: Neighbour, artifact: Artifact) -> bool:
        """Whether the neighbour's build of this revision gives what its last one gave."""
        last = (await self._store.owner(other.uid)).delivery
        if last is None:
            return False
        if last.artifact == artifact.digest:
            return True
        key = (other.uid, last.artifact, artifact.digest)
        if key not in self._compared:
            if len(self._compared) >= REMEMBERED:
                self._compared.clear()
            async with self._trees.open(artifact) as tree:
                self._compared[key] = await asyncio.to_thread(changed_read, last.reads, tree) is None
        return self._compared[key]


def claimed(others: Iterable[Neighbour], ids: Iterable[str]) -> dict[str, Reference]:
    """Which of the ids other Kustomizations list as their own, and who."""
    wanted = frozenset(ids)
    return {each: other.reference for other in others for each in wanted & other.inventory}


LISTED = frozenset({"PruneFailed", "PruneHeld", "HealthCheckFailed"})
"""Reasons of failures that come after the inventory was written: it holds all that the revision wants."""


def has_handled(other: Neighbour, revision: str, listed: str = "") -> bool:
    """Whether the inventory of a neighbour says all that it wants at the revision. `listed` is the last one that it is
    known to say so of: of most failures only the run knows whether they came before the inventory was written."""
    if other.ready == "True":
        return other.current and other.applied == revision
    failed = other.ready == "False" and other.told and other.attempted == revision
    return failed and (other.reason in LISTED or listed == revision)


def is_new(other: Neighbour) -> bool:
    """Whether a neighbour was created and has not come to anything yet, not even to a failure."""
    return not (other.suspended or other.attempted or other.ready == "False")


def age_of_deletion(ks: Kustomization, clock: Clock) -> float:
    """Seconds since the deletion was asked for."""
    stamp = ks.metadata.deletion_timestamp
    return clock.now() - parse_rfc3339(stamp) if stamp else 0.0
