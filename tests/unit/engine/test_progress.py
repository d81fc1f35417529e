from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from headrace.engine.progress import PAUSE, Progress, Reporter
from tests.unit.engine.virtual_clock import VirtualClock


class Runs:
    """Runs that have something to say, and what is written of it and when."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.tasks: set[asyncio.Task[None]] = set()
        self.reporter = Reporter(self.clock, self.spawn)
        self.written: list[tuple[str, float]] = []
        self.began = self.clock.monotonic()

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def run(self, after: float = 1.0) -> Progress:
        async def write() -> None:
            message = progress.take()
            if message is not None:
                self.written.append((message.message, round(self.clock.monotonic() - self.began, 3)))

        progress = Progress(write, self.clock, self.reporter, first_at=self.clock.monotonic() + after)
        return progress


@pytest.fixture
async def runs() -> AsyncIterator[Runs]:
    made = Runs()
    yield made
    for task in made.tasks:
        task.cancel()


async def test_only_the_newest_message_is_written_when_the_first_second_is_over(runs: Runs) -> None:
    run = runs.run()
    run.say("Progressing", "fetching", ())
    run.say("Progressing", "building", ())
    await runs.clock.advance(0.9)
    assert runs.written == []
    await runs.clock.advance(0.2)
    assert runs.written == [("building", 1.0)]


async def test_what_has_been_written_is_not_written_again(runs: Runs) -> None:
    run = runs.run()
    for _ in range(3):
        run.say("Progressing", "building", ())
        await runs.clock.advance(5.0)
    assert runs.written == [("building", 1.0)]


async def test_many_long_runs_are_written_of_one_after_the_other(runs: Runs) -> None:
    for number in range(5):
        runs.run().say("Progressing", str(number), ())
    await runs.clock.advance(5.0)
    times = [when for _, when in runs.written]
    assert len(times) == 5
    assert all(after - before >= PAUSE - 1e-9 for before, after in itertools.pairwise(times))


async def test_a_run_that_ends_before_its_turn_is_not_written_of(runs: Runs) -> None:
    first, second = runs.run(), runs.run()
    first.say("Progressing", "first", ())
    second.say("Progressing", "second", ())
    first.close()
    await runs.clock.advance(3.0)
    assert [message for message, _ in runs.written] == ["second"]


async def test_a_run_that_is_due_earlier_does_not_wait_for_one_that_is_due_later(runs: Runs) -> None:
    late, soon = runs.run(after=30.0), runs.run(after=1.0)
    late.say("Progressing", "late", ())
    await runs.clock.advance(0.1)
    soon.say("Progressing", "soon", ())
    await runs.clock.advance(2.0)
    assert runs.written == [("soon", 1.0)]


async def test_nothing_is_left_running_when_all_is_said(runs: Runs) -> None:
    runs.run().say("Progressing", "only", ())
    await runs.clock.advance(2.0)
    assert runs.written == [("only", 1.0)]
    assert not runs.tasks


async def test_a_write_that_fails_by_a_bug_does_not_end_the_reports_of_others(runs: Runs) -> None:
    async def broken() -> None:
        raise ValueError("a bug")

    Progress(broken, runs.clock, runs.reporter, first_at=runs.began + 1.0).say("Progressing", "broken", ())
    await runs.clock.advance(2.0)
    runs.run().say("Progressing", "next", ())
    await runs.clock.advance(2.0)
    assert [message for message, _ in runs.written] == ["next"]
