"""When a Kustomization that is being deleted has its turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import Kustomization
from headrace.controllers.kustomize.neighbours import Neighbour, Neighbours
from headrace.controllers.kustomize.teardown import MOMENT, PATIENCE, Teardown
from headrace.core.clock import rfc3339
from headrace.kube.objects import decode_object
from headrace.model.errors import Waiting
from headrace.model.reference import Reference
from tests.manual_clock import ManualClock
from tests.servers.sources import RecordedScope

LEAVING = {"deleting": True, "finalizing": True}


def ref(name: str) -> Reference:
    return KUSTOMIZATION.reference("ns", name)


def dependent(**fields: Any) -> Neighbour:
    return Neighbour(reference=ref("two"), uid="two", source=("GitRepository", "ns", "app"), target=(),
                     depends_on=(ref("one"),), inventory=frozenset(), **fields)


class Others:
    """The other Kustomizations of the cluster."""

    def __init__(self, others: Sequence[Neighbour]) -> None:
        self.others = others

    def of(self, reference: Reference) -> Sequence[Neighbour]:
        return self.others


class Deleted:
    """Kustomization `one` so many seconds after its deletion was asked for."""

    def __init__(self, age: float, *others: Neighbour) -> None:
        self.clock = ManualClock()
        metadata = {"name": "one", "namespace": "ns", "uid": "u1", "resourceVersion": "1",
                    "deletionTimestamp": rfc3339(self.clock.now() - age)}
        spec = {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"}}
        self._live = decode_object(msgspec.json.encode({
            "apiVersion": KUSTOMIZATION.api_version, "kind": "Kustomization", "metadata": metadata, "spec": spec}))
        self.scope = RecordedScope(self._live)
        self._teardown = Teardown(cast(Neighbours, Others(others)), self.clock)

    async def await_turn(self) -> None:
        await self._teardown.await_turn(self._live.decode(Kustomization), self.scope)


async def test_dependents_that_are_deleted_too_go_first_and_their_end_wakes_it() -> None:
    deleted = Deleted(100.0, dependent(**LEAVING))
    with pytest.raises(Waiting) as waiting:
        await deleted.await_turn()
    assert (waiting.value.reason, waiting.value.objects) == ("DependentsTerminating", (ref("two"),))
    assert waiting.value.after == pytest.approx(PATIENCE - 100.0, abs=1.0)
    assert [read.reference for read in deleted.scope.reads] == [ref("two")]


async def test_patience_with_dependents_ends() -> None:
    await Deleted(PATIENCE, dependent(**LEAVING)).await_turn()


async def test_a_dependent_that_stays_is_given_a_moment_to_be_deleted_too() -> None:
    deleted = Deleted(0.0, dependent())
    await deleted.await_turn()
    assert deleted.clock.slept == [MOMENT]
    assert [read.reference for read in deleted.scope.reads] == [ref("two")]


async def test_later_and_for_others_no_moment_is_given() -> None:
    unrelated = msgspec.structs.replace(dependent(), depends_on=())
    for deleted in (Deleted(2 * MOMENT, dependent()), Deleted(0.0), Deleted(0.0, unrelated)):
        await deleted.await_turn()
        assert deleted.clock.slept == []
