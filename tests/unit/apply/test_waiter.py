"""Waiting until deleted objects are gone: who is asked about, and how often; and what is healthy to begin with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from headrace.api.kustomization import HealthCheckExpr
from headrace.apply import waiter
from headrace.apply.expressions import HealthRules
from headrace.apply.planner import Known
from headrace.apply.waiter import Checked, HealthWait, wait_gone
from headrace.kube.listeners import Listener, Listeners
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference
from headrace.toolbox import Toolbox
from tests.manual_clock import ManualClock
from tests.unit.apply.builders import live

OBJECTS = [Reference("", "ConfigMap", "default", f"c{number}") for number in range(50)]


class Cluster:
    """Objects that are being deleted, as a Target shows them, and how often each was asked for."""

    clock = ManualClock()

    def __init__(self, *, watched: bool) -> None:
        self.left = set(OBJECTS)
        self.asked: Counter[Reference] = Counter()
        self.moments: list[float] = []
        self._watched = watched
        self.listeners = Listeners()

    def subscribe(self, listener: Listener, references: Iterable[Reference]) -> Callable[[], None]:
        return self.listeners.subscribe(listener, references)

    def look(self, reference: Reference, record: object) -> Known:
        return Known(watched=self._watched)

    async def exists(self, reference: Reference) -> bool:
        self.asked[reference] += 1
        self.moments.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0)
        return reference in self.left

    def remove(self, reference: Reference) -> None:
        self.left.discard(reference)
        self.listeners.notify(reference, None, None)


async def test_only_what_has_moved_is_asked_for_again() -> None:
    cluster = Cluster(watched=True)
    waiting = asyncio.create_task(wait_gone(cluster, OBJECTS, cluster.exists, 20.0))  # type: ignore[arg-type]
    for reference in OBJECTS:
        for _ in range(5):
            await asyncio.sleep(0)
        cluster.remove(reference)
    assert await waiting == ()
    assert max(cluster.asked.values()) <= 2


async def test_what_no_watch_covers_is_asked_for_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiter, "UNWATCHED_LOOKS", (0.01, 0.16))
    cluster = Cluster(watched=False)
    waiting = asyncio.create_task(
        wait_gone(cluster, OBJECTS[:1], cluster.exists, 20.0))  # type: ignore[arg-type]
    while cluster.asked[OBJECTS[0]] < 5:
        await asyncio.sleep(0.01)
    cluster.left.clear()
    assert await waiting == ()
    pauses = [later - earlier for earlier, later in zip(cluster.moments, cluster.moments[1:], strict=False)]
    assert all(pause >= least for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.08, 0.16), strict=False))


async def test_what_is_left_at_the_end_is_named() -> None:
    cluster = Cluster(watched=True)
    assert await wait_gone(cluster, OBJECTS[:2], cluster.exists, 0.05) == tuple(OBJECTS[:2])  # type: ignore[arg-type]


# -- health ------------------------------------------------------------------------------------------------------------

RULED = HealthCheckExpr("v1", "data.k == '2'", "ConfigMap")


def is_open(check: Checked, answer: LiveObject | None = None, *rules: HealthCheckExpr) -> bool:
    """Whether an object is waited for, of which nothing is known but what its apply was answered with."""
    answers = {} if answer is None else {check.reference: answer}
    stated = HealthRules.parse(Toolbox(), rules) if rules else None
    return bool(HealthWait(Cluster(watched=True), [check], answers, rules=stated).open)  # type: ignore[arg-type]


@pytest.mark.spec("KS-HC-04")
def test_what_nobody_has_delivered_is_waited_for_whatever_its_kind() -> None:
    assert is_open(Checked(OBJECTS[0], owned=False))
    assert not is_open(Checked(OBJECTS[0])), "was delivered, and its kind is healthy as soon as it is there"
    assert is_open(Checked(Reference("apps", "Deployment", "default", "web")))


@pytest.mark.spec("KS-HC-08")
def test_an_expression_has_its_say_on_kinds_that_are_always_healthy() -> None:
    assert is_open(Checked(OBJECTS[0]), None, RULED)
    assert is_open(Checked(OBJECTS[0]), live(), RULED)


@pytest.mark.spec("KS-HC-07")
def test_what_goes_away_by_itself_is_no_loss() -> None:
    job = Reference("batch", "Job", "default", "once")
    assert is_open(Checked(job))
    assert not is_open(Checked(job, may_vanish=True))
