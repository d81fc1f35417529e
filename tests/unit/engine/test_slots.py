from __future__ import annotations

import asyncio

import pytest

from headrace.engine.slots import LAST_SHARE, QUIET, Slots
from headrace.model.trace import HUMAN, INTERVAL, LAST, REVISION, Lane
from tests.unit.engine.virtual_clock import VirtualClock, settle


class Line:
    """Tasks that take a slot, in the order in which they get it."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.served: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def join(self, name: str, lane: Lane) -> None:
        async def take() -> None:
            await self.slots.take(self.slots.ask(lane))
            self.served.append(name)
        self.tasks[name] = asyncio.create_task(take())
        await settle()


def full(size: int = 1) -> Slots:
    slots = Slots(size, lambda: None, VirtualClock())
    for _ in range(size):
        slots.occupy(INTERVAL)
    return slots


async def test_slots_go_by_lane_and_then_by_arrival() -> None:
    slots = full()
    line = Line(slots)
    for name, lane in (("i", INTERVAL), ("r1", REVISION), ("r2", REVISION), ("h", HUMAN)):
        await line.join(name, lane)
    for _ in range(4):
        slots.give(INTERVAL)
        slots.grant()
        await settle()
    assert line.served == ["h", "r1", "r2", "i"]
    assert slots.free == 0


async def test_who_leaves_the_line_takes_no_slot_along() -> None:
    slots = full()
    line = Line(slots)
    await line.join("impatient", HUMAN)
    await line.join("patient", INTERVAL)
    line.tasks["impatient"].cancel()
    await settle()
    slots.give(INTERVAL)
    slots.grant()
    await settle()
    assert line.served == ["patient"]


async def test_a_slot_granted_to_a_task_that_is_cancelled_meanwhile_is_given_back() -> None:
    slots = full()
    line = Line(slots)
    await line.join("unlucky", HUMAN)
    slots.give(INTERVAL)
    slots.grant()
    line.tasks["unlucky"].cancel()
    await settle()
    assert slots.free == 1


def test_no_more_slots_are_taken_than_there_are() -> None:
    with pytest.raises(RuntimeError):
        full(2).occupy(INTERVAL)


async def test_whoever_watches_is_told_when_a_slot_is_given_or_asked_for() -> None:
    told: list[int] = []
    slots = Slots(1, lambda: told.append(slots.free), VirtualClock())
    slots.occupy(INTERVAL)
    slots.give(INTERVAL)
    line = Line(slots)
    await line.join("one", HUMAN)
    assert told == [1, 1]
    slots.grant()
    await settle()


async def test_the_last_lane_has_a_share_of_the_slots_only() -> None:
    clock = VirtualClock()
    slots = Slots(LAST_SHARE + 2, lambda: None, clock)
    for _ in range(LAST_SHARE):
        slots.occupy(LAST)
    line = Line(slots)
    await line.join("bookkeeping", LAST)
    assert slots.best() is None
    await line.join("delivery", REVISION)
    slots.grant()
    slots.give(LAST)
    slots.grant()
    await settle()
    assert line.served == ["delivery"]
    slots.give(REVISION)
    await clock.advance(QUIET)
    slots.grant()
    await settle()
    assert line.served == ["delivery", "bookkeeping"]


async def test_beside_other_work_and_a_moment_after_it_the_last_lane_has_one_slot() -> None:
    clock = VirtualClock()
    slots = Slots(4, lambda: None, clock)
    slots.occupy(REVISION)
    assert slots.open_to(LAST)
    slots.occupy(LAST)
    assert not slots.open_to(LAST)
    assert slots.open_to(REVISION)
    slots.give(REVISION)
    assert not slots.open_to(LAST)
    await clock.advance(QUIET)
    assert slots.open_to(LAST)


def test_the_last_lane_alone_has_its_share_at_once() -> None:
    slots = Slots(4, lambda: None, VirtualClock())
    slots.occupy(LAST)
    slots.give(LAST)
    slots.occupy(LAST)
    assert slots.open_to(LAST)
