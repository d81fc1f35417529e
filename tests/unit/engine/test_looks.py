"""What happens at the interval of an object whose last run has left a look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from headrace.engine.settings import EngineSettings
from headrace.model.outcome import Outcome
from headrace.model.scope import Scope
from tests.unit.engine.virtual_clock import settle
from tests.unit.engine.world import Thing, World, config_map, key, thing

A, B = thing("a"), thing("b")


class Looked:
    """A reconcile that leaves a look, and what the look is to say."""

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.asked = 0
        self.before: Callable[[], Awaitable[None]] | None = None

    async def reconcile(self, obj: Thing, scope: Scope) -> Outcome:
        await scope.read(config_map("values"), key("x"))
        return Outcome("Succeeded", "done", after=600.0, look=self.look)

    async def look(self) -> bool:
        self.asked += 1
        if self.before is not None:
            await self.before()
        return self.answer


@pytest.fixture
def looked(world: World) -> Looked:
    looked = Looked()
    world.things.by_name["a"] = looked.reconcile
    return looked


@pytest.fixture
def world() -> World:
    return World(EngineSettings(concurrent=1, interval_jitter=0.0))


async def test_an_object_that_has_not_moved_is_not_run_at_its_interval(world: World, looked: Looked) -> None:
    async with world.running():
        await world.put(A, spec={})
        for _ in range(3):
            await world.clock.advance(600.0)
        assert (looked.asked, world.things.runs) == (3, ["a"])
        assert world.statuses.of(A) == ["succeeded"]
        assert world.metrics.looks == [A, A, A]
        state = world.engine.state(A)
        assert state is not None
        assert state.looked == world.clock.now()
        assert state.next_in == 600.0
        assert world.engine.unattended() == ()


async def test_an_object_that_has_moved_is_run_and_looked_at_again_later(world: World, looked: Looked) -> None:
    async with world.running():
        await world.put(A, spec={})
        looked.answer = False
        await world.clock.advance(600.0)
        assert world.things.runs == ["a", "a"]
        assert world.causes(A) == ["interval"]
        looked.answer = True
        await world.clock.advance(600.0)
        assert (looked.asked, world.things.runs) == (2, ["a", "a"])


async def test_a_look_that_breaks_is_followed_by_a_run(world: World, looked: Looked) -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    async with world.running():
        await world.put(A, spec={})
        looked.before = fail
        await world.clock.advance(600.0)
        assert world.things.runs == ["a", "a"]


async def test_what_wakes_an_object_has_it_run_without_a_look(world: World, looked: Looked) -> None:
    async with world.running():
        await world.put(A, spec={})
        await world.put(A, spec={"text": "new"})
        assert (looked.asked, world.things.runs) == (0, ["a", "a"])


async def test_what_was_read_still_wakes_an_object_after_a_look(world: World, looked: Looked) -> None:
    world.objects.put(config_map("values"), data={"x": "1"})
    async with world.running():
        await world.put(A, spec={})
        await world.clock.advance(600.0)
        assert looked.asked == 1
        await world.put(config_map("values"), data={"x": "2"})
        assert world.things.runs == ["a", "a"]


async def test_a_change_during_a_look_is_not_lost(world: World, looked: Looked) -> None:
    going_on = asyncio.Event()

    async def wait() -> None:
        await going_on.wait()

    world.objects.put(config_map("values"), data={"x": "1"})
    async with world.running():
        await world.put(A, spec={})
        looked.before = wait
        await world.clock.advance(600.0)
        await world.put(config_map("values"), data={"x": "2"})
        assert world.things.runs == ["a"]
        going_on.set()
        await settle()
        assert world.things.runs == ["a", "a"]
        assert world.causes(A) == ["ConfigMap/default/values changed (data[x])"]


async def test_a_look_that_takes_long_holds_up_nobody(world: World, looked: Looked) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async with world.running():
        await world.put(A, spec={})
        looked.before = hang
        await world.clock.advance(600.0)
        await world.put(B, spec={})
        assert world.things.runs == ["a", "b"]


async def test_an_object_that_goes_during_a_look_is_forgotten(world: World, looked: Looked) -> None:
    going_on = asyncio.Event()

    async def wait() -> None:
        await going_on.wait()

    async with world.running():
        await world.put(A, spec={})
        looked.before = wait
        await world.clock.advance(600.0)
        world.objects.remove(A)
        going_on.set()
        await settle()
        assert world.engine.state(A) is None
        assert world.things.runs == ["a"]


async def test_a_look_that_the_end_cuts_short_is_none(world: World, looked: Looked) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async with world.running():
        await world.put(A, spec={})
        looked.before = hang
        await world.clock.advance(600.0)
    assert world.metrics.looks == []
    assert world.things.runs == ["a"]
