"""When a deletion is put off for a neighbour, for how long, and what is left to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import Kustomization
from headrace.apply.applied import AppliedStore, LastDelivery
from headrace.controllers.kustomize.handover import PATIENCE, Handovers, Trees
from headrace.controllers.kustomize.neighbours import Neighbour, Neighbours, target_of
from headrace.core.clock import rfc3339
from headrace.kube.objects import decode_object
from headrace.model.artifact import Artifact
from headrace.model.errors import Waiting
from headrace.model.objects import LiveObject
from headrace.model.plan import InventoryEntry
from headrace.model.reference import Reference
from tests.manual_clock import ManualClock
from tests.servers.sources import RecordedScope

ARTIFACT = Artifact("p", "http://x/p", "r2", digest="sha256:2")
MOVING, GONE = InventoryEntry("ns_moving__ConfigMap", "v1"), InventoryEntry("ns_gone__ConfigMap", "v1")
DONE = {"current": True, "ready": "True", "applied": "r2", "attempted": "r2"}


def stored(deleted: float | None = None) -> LiveObject:
    metadata = {"name": "old", "namespace": "ns", "uid": "u1", "resourceVersion": "1"}
    if deleted is not None:
        metadata["deletionTimestamp"] = rfc3339(deleted)
    spec = {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"}}
    status = {"inventory": {"entries": [{"id": entry.id, "v": entry.v} for entry in (MOVING, GONE)]}}
    return decode_object(msgspec.json.encode({
        "apiVersion": KUSTOMIZATION.api_version, "kind": "Kustomization", "metadata": metadata, "spec": spec,
        "status": status}))


def old(deleted: float | None = None) -> Kustomization:
    return stored(deleted).decode(Kustomization)


def ref(name: str) -> Reference:
    return KUSTOMIZATION.reference("ns", name)


def neighbour(name: str = "new", *inventory: InventoryEntry, **fields: Any) -> Neighbour:
    shared = {"source": ("GitRepository", "ns", "app"), "target": target_of(old())}
    return Neighbour(reference=ref(name), uid=name, depends_on=(),
                     inventory=frozenset(entry.id for entry in inventory), **(shared | fields))


class Others:
    """The other Kustomizations of the cluster."""

    def __init__(self, others: Sequence[Neighbour]) -> None:
        self.others = others

    def of(self, reference: Reference) -> Sequence[Neighbour]:
        return self.others


class Decided:
    """Handovers among some neighbours."""

    def __init__(self, store: AppliedStore, *others: Neighbour) -> None:
        self.clock = ManualClock()
        self.scope = RecordedScope(stored())
        self.handovers = Handovers(cast(Neighbours, Others(others)), store, cast(Trees, None), self.clock)

    async def look(self, revision: str = "r2") -> tuple[dict[str, Reference], tuple[InventoryEntry, ...], float | None]:
        artifact = msgspec.structs.replace(ARTIFACT, revision=revision)
        found = await self.handovers.look(old(), artifact, (MOVING, GONE), self.scope)
        return dict(found.claims), tuple(found.undecided), found.left

    @property
    def read(self) -> set[Reference]:
        return {read.reference for read in self.scope.reads}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AppliedStore]:
    """What was delivered last; nothing so far."""
    opened = AppliedStore(tmp_path / "applied.db")
    yield opened
    await opened.close()


@pytest.mark.spec("KS-GC-04")
async def test_what_a_neighbour_lists_is_left_to_it_and_the_rest_goes_when_it_has_spoken(store: AppliedStore) -> None:
    decided = Decided(store, neighbour("new", MOVING, **DONE))
    assert await decided.look() == ({MOVING.id: ref("new")}, (), None)
    assert decided.read == {ref("new")}


async def test_the_rest_is_put_off_while_a_neighbour_has_not_spoken_but_not_forever(store: AppliedStore) -> None:
    decided = Decided(store, neighbour("new", MOVING, **(DONE | {"applied": "r1"})))
    claims = {MOVING.id: ref("new")}
    assert await decided.look() == (claims, (GONE,), PATIENCE)
    decided.clock.time += PATIENCE - 1
    assert await decided.look() == (claims, (GONE,), 1.0)
    decided.clock.time += 1
    assert await decided.look() == (claims, (), None)
    assert await decided.look("r3") == (claims, (GONE,), PATIENCE), "another revision is another matter"


async def test_a_neighbour_that_has_delivered_the_very_files_before_wants_nothing_new(store: AppliedStore) -> None:
    behind = neighbour(**(DONE | {"applied": "r1"}))
    (await store.owner(behind.uid)).delivered(LastDelivery("inputs", ARTIFACT.digest, "manifests", ()))
    assert await Decided(store, behind).look() == ({}, (), None)
    changed = msgspec.structs.replace(behind, current=False)
    decided = Decided(store, changed)
    assert await decided.look() == ({}, (MOVING, GONE), PATIENCE), "its own spec is another"
    assert decided.read == {ref("new")}


@pytest.mark.parametrize("fields", [
    pytest.param({"suspended": True}, id="suspended"),
    pytest.param({"deleting": True}, id="being deleted"),
    pytest.param({"source": ("GitRepository", "ns", "another")}, id="of another source"),
    pytest.param({"source": ("OCIRepository", "ns", "app")}, id="of a source of another kind"),
    pytest.param({"target": ("elsewhere",)}, id="of another cluster"),
    pytest.param(DONE, id="done with the revision"),
])
async def test_nobody_waits_for_a_neighbour_that_is(store: AppliedStore, fields: dict[str, Any]) -> None:
    decided = Decided(store, neighbour(**fields))
    assert await decided.look() == ({}, (), None)
    assert decided.read == set()


@pytest.mark.parametrize("fields", [{"target": ("elsewhere",)}, {"deleting": True}])
async def test_an_object_on_another_cluster_or_of_one_that_goes_too_is_not_claimed(
    store: AppliedStore, fields: dict[str, Any]
) -> None:
    decided = Decided(store, neighbour("new", MOVING, **fields))
    assert await decided.look() == ({}, (), None)
    assert await decided.handovers.for_deletion(old(0.0), decided.scope) == {}


async def test_a_deletion_waits_for_one_that_was_just_created_and_has_not_begun(store: AppliedStore) -> None:
    decided = Decided(store, neighbour("renamed"))
    deleted = old(decided.clock.now())
    decided.clock.time += 20
    with pytest.raises(Waiting) as waiting:
        await decided.handovers.for_deletion(deleted, decided.scope)
    assert (waiting.value.reason, waiting.value.objects) == ("HandoverPending", (ref("renamed"),))
    assert waiting.value.after == pytest.approx(PATIENCE - 20, abs=1)
    assert decided.read == {ref("renamed")}
    decided.clock.time += PATIENCE
    assert await decided.handovers.for_deletion(deleted, decided.scope) == {}


@pytest.mark.parametrize("fields", [
    {"attempted": "r1"}, {"ready": "False"}, {"suspended": True}, {"source": ("GitRepository", "ns", "another")},
])
async def test_a_deletion_waits_for_no_other(store: AppliedStore, fields: dict[str, Any]) -> None:
    decided = Decided(store, neighbour("new", GONE, **fields))
    deleted = old(decided.clock.now())
    assert await decided.handovers.for_deletion(deleted, decided.scope) == {GONE.id: ref("new")}
