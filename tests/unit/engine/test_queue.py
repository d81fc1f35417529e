from __future__ import annotations

import pytest

from headrace.engine.queue import RELIEF, Queue, Rest
from headrace.model.reference import Reference
from headrace.model.trace import HUMAN, INTERVAL, RETRY, REVISION, Cause, Lane
from tests.unit.engine.virtual_clock import VirtualClock

CHANGED, REQUESTED = Cause("changed"), Cause("requested")


def ref(name: str, namespace: str = "default") -> Reference:
    return Reference("g", "Thing", namespace, name)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def queue(clock: VirtualClock) -> Queue:
    return Queue(clock)


def taken(queue: Queue, count: int) -> list[str]:
    entries = [queue.take() for _ in range(count)]
    return [entry.reference.name for entry in entries if entry is not None]


def test_lanes_run_by_urgency(queue: Queue) -> None:
    for name, lane in (("i", INTERVAL), ("t", RETRY), ("h", HUMAN), ("r", REVISION)):
        queue.wake(ref(name), lane, CHANGED)
    assert taken(queue, 5) == ["h", "r", "t", "i"]


def test_an_object_is_queued_once_with_its_best_lane_and_all_causes(queue: Queue) -> None:
    queue.wake(ref("a"), INTERVAL, Cause("interval"))
    queue.wake(ref("b"), REVISION, CHANGED)
    queue.wake(ref("a"), HUMAN, REQUESTED)
    queue.wake(ref("a"), RETRY, REQUESTED)
    first = queue.take()
    assert first is not None
    assert (first.reference, first.lane, first.causes) == (ref("a"), HUMAN, (Cause("interval"), REQUESTED))
    assert taken(queue, 2) == ["b"]


def test_namespaces_take_turns_within_a_lane(queue: Queue) -> None:
    for number in range(3):
        queue.wake(ref(f"a{number}", "a"), RETRY, CHANGED)
    queue.wake(ref("b0", "b"), RETRY, CHANGED)
    queue.wake(ref("c0", "c"), RETRY, CHANGED)
    assert taken(queue, 5) == ["a0", "b0", "c0", "a1", "a2"]


@pytest.mark.spec("REL-39")
def test_a_namespace_with_5000_failing_objects_delays_another_one_by_a_single_turn(queue: Queue) -> None:
    for number in range(5000):
        queue.wake(ref(f"a{number}", "tenant-a"), RETRY, Cause("retry"))
    queue.wake(ref("b", "tenant-b"), RETRY, Cause("retry"))
    assert "b" in taken(queue, 2)


def test_urgent_floods_leave_turns_for_the_least_urgent_lane(queue: Queue) -> None:
    queue.wake(ref("patient"), INTERVAL, CHANGED)
    for number in range(100):
        queue.wake(ref(f"u{number}"), REVISION, CHANGED)
    assert "patient" in taken(queue, RELIEF)


def test_an_object_woken_while_it_runs_runs_again_after(queue: Queue) -> None:
    queue.wake(ref("a"), REVISION, CHANGED)
    queue.take()
    queue.wake(ref("a"), HUMAN, REQUESTED)
    assert queue.take() is None
    pending = queue.pending(ref("a"))
    assert pending is not None
    assert pending.lane == HUMAN
    queue.done(ref("a"))
    assert taken(queue, 1) == ["a"]


async def test_a_timer_queues_its_object_when_it_is_due(queue: Queue, clock: VirtualClock) -> None:
    queue.schedule(ref("a"), 10.0, INTERVAL, Cause("interval"))
    await clock.advance(9.0)
    assert queue.advance() == 0
    await clock.advance(1.0)
    assert queue.advance() == 1
    assert taken(queue, 1) == ["a"]


async def test_the_last_timer_set_is_the_only_one(queue: Queue, clock: VirtualClock) -> None:
    queue.schedule(ref("a"), 1.0, RETRY, Cause("retry"))
    queue.schedule(ref("a"), 20.0, INTERVAL, Cause("interval"))
    assert queue.due() == clock.monotonic() + 20.0
    await clock.advance(10.0)
    assert queue.advance() == 0


@pytest.mark.spec("REL-30")
async def test_a_wall_clock_that_jumps_moves_no_timer(queue: Queue, clock: VirtualClock) -> None:
    queue.schedule(ref("a"), 10.0, INTERVAL, Cause("interval"))
    clock.jump(365 * 86400.0)
    assert queue.advance() == 0
    clock.jump(-366 * 86400.0)
    await clock.advance(10.0)
    assert queue.advance() == 1


def test_many_rescheduled_timers_leave_no_garbage(queue: Queue) -> None:
    for number in range(10_000):
        queue.schedule(ref(f"a{number % 10}"), float(number), INTERVAL, Cause("interval"))
    assert len(queue._heap) < 200


def test_forgotten_objects_leave_nothing(queue: Queue) -> None:
    queue.wake(ref("a"), HUMAN, REQUESTED)
    queue.schedule(ref("a"), 1.0, RETRY, Cause("retry"))
    queue.forget(ref("a"))
    assert queue.take() is None
    assert queue.due() is None
    assert ref("a") not in queue


@pytest.mark.parametrize(
    ("step", "attended"),
    [
        pytest.param(lambda q: q.wake(ref("a"), REVISION, CHANGED), True, id="queued"),
        pytest.param(lambda q: (q.wake(ref("a"), REVISION, CHANGED), q.take()), True, id="running"),
        pytest.param(lambda q: (q.wake(ref("a"), REVISION, CHANGED), q.take(), q.done(ref("a"))), False, id="dropped"),
        pytest.param(lambda q: q.schedule(ref("a"), 1.0, RETRY, CHANGED), True, id="timer"),
        pytest.param(lambda q: q.rest(ref("a"), Rest.STALLED), True, id="stalled"),
        pytest.param(lambda q: q.rest(ref("a"), Rest.SUSPENDED), True, id="suspended"),
    ],
)
def test_every_object_is_queued_or_running_or_has_a_timer_or_rests_for_a_reason(
    queue: Queue, step: object, attended: bool
) -> None:
    step(queue)  # type: ignore[operator]
    assert queue.unattended() == (() if attended else (ref("a"),))


def test_taking_an_object_ends_its_timer_and_its_rest(queue: Queue) -> None:
    queue.schedule(ref("a"), 5.0, Lane(3), Cause("interval"))
    queue.wake(ref("a"), HUMAN, REQUESTED)
    queue.take()
    assert queue.timer(ref("a")) is None
    assert queue.due() is None


def test_timers_on_a_grid_fall_together_and_never_early(queue: Queue, clock: VirtualClock) -> None:
    to_whole = -clock.monotonic() % 1.0
    for name, after in (("a", 30.2), ("b", 30.7), ("c", 31.1)):
        queue.schedule(ref(name), to_whole + after, INTERVAL, Cause("interval"), grid=1.0)
    timers = [queue.timer(ref(name)) for name in "abc"]
    assert [timer.when - clock.monotonic() - to_whole for timer in timers if timer] == [31.0, 31.0, 32.0]
