"""How often one object may run."""

from __future__ import annotations

import pytest

from headrace.engine.pace import BURST, EVERY, Pace
from headrace.engine.queue import Queue
from headrace.model.trace import HUMAN, INTERVAL, Cause
from tests.manual_clock import ManualClock
from tests.unit.engine.world import thing

APP = thing("app")


@pytest.mark.spec("SEC-38")
def test_runs_are_free_up_to_a_number_and_earned_from_there_on() -> None:
    clock = ManualClock()
    pace = Pace(clock)
    for _ in range(BURST):
        assert pace.wait(APP) == 0
        pace.spend(APP)
    assert pace.wait(APP) == pytest.approx(EVERY)
    assert pace.wait(thing("other")) == 0
    clock.time += EVERY
    assert pace.wait(APP) == pytest.approx(0)
    clock.time += BURST * EVERY * 10
    pace.spend(APP)
    assert pace.wait(APP) == 0


@pytest.mark.spec("SEC-38")
def test_an_object_that_wakes_itself_all_the_time_runs_once_a_second_and_holds_nobody_up() -> None:
    clock = ManualClock()
    queue, runs = Queue(clock), 0
    for _ in range(1000):
        queue.wake(APP, HUMAN, Cause("requested"))
        if queue.take() is not None:
            runs += 1
            queue.wake(APP, HUMAN, Cause("requested"))
            queue.done(APP)
    assert runs == BURST
    assert queue.unattended() == ()
    queue.wake(thing("other"), INTERVAL, Cause("interval"))
    entry = queue.take()
    assert entry is not None
    assert entry.reference == thing("other")
    clock.time += EVERY
    queue.advance()
    entry = queue.take()
    assert entry is not None
    assert (entry.reference, entry.lane) == (APP, HUMAN)
