"""Turns at a host: how many poll it at the same time, and who goes first."""

from __future__ import annotations

import asyncio

from headrace.source.polls import Polls
from headrace.source.turns import Turns
from tests.manual_clock import ManualClock

HOST = "https://git.example.com:443"


class Polling:
    """Polls that last until they are told to end; `begun` are those that had their turn, in that order."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.begun: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, *keys: str, urgent: bool = False, host: str = HOST) -> None:
        for key in keys:
            self.ends[key] = asyncio.Event()
            self.tasks[key] = asyncio.create_task(self._poll(host, key, urgent))
        await self.settled()

    async def end(self, *keys: str) -> None:
        for key in keys:
            self.ends[key].set()
        await self.settled()

    async def settled(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def _poll(self, host: str, key: str, urgent: bool) -> None:
        async with self.turns.turn(host, key, urgent=urgent):
            self.begun.append(key)
            await self.ends[key].wait()

    async def finish(self) -> None:
        for end in self.ends.values():
            end.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def test_a_host_is_polled_a_few_at_a_time_and_others_meanwhile() -> None:
    polling = Polling(Turns(at_once=2, reserve=1))
    await polling.start("a", "b", "c", "d")
    await polling.start("elsewhere", host="https://other.example.com:443")
    assert polling.begun == ["a", "b", "elsewhere"]
    assert polling.turns.polling(HOST) == 2
    await polling.end("b")
    assert polling.begun[-1] == "c"
    await polling.finish()
    assert polling.begun[-1] == "d"
    assert polling.turns.polling(HOST) == 0


async def test_what_somebody_waits_for_finds_a_place_at_a_host_that_is_full() -> None:
    polling = Polling(Turns(at_once=2, reserve=1))
    await polling.start("a", "b", "c")
    await polling.start("asked", urgent=True)
    assert polling.begun == ["a", "b", "asked"]
    await polling.end("asked")
    assert polling.begun == ["a", "b", "asked"], "the reserve is not for the others"
    await polling.finish()


async def test_what_somebody_waits_for_goes_before_what_came_earlier() -> None:
    polling = Polling(Turns(at_once=2, reserve=0))
    await polling.start("a", "b", "c")
    await polling.start("asked", urgent=True)
    await polling.end("a")
    assert polling.begun == ["a", "b", "asked"]
    await polling.finish()
    assert polling.begun[-1] == "c"


async def test_a_poll_in_line_is_hastened_when_somebody_asks_for_its_answer() -> None:
    polling = Polling(Turns(at_once=1, reserve=0))
    await polling.start("a", "b", "c", "d")
    polling.turns.hasten(HOST, "d")
    polling.turns.hasten(HOST, "unknown")
    await polling.end("a")
    assert polling.begun == ["a", "d"]
    await polling.finish()


async def test_who_gives_up_in_line_takes_no_turn_and_loses_none() -> None:
    polling = Polling(Turns(at_once=1, reserve=1))
    await polling.start("a", "b", "c")
    polling.tasks["b"].cancel()
    await polling.settled()
    await polling.end("a")
    assert polling.begun == ["a", "c"]
    await polling.finish()
    assert polling.turns.polling(HOST) == 0


async def test_who_gives_up_when_the_turn_has_just_come_hands_it_on() -> None:
    polling = Polling(Turns(at_once=1, reserve=0))
    await polling.start("a", "b", "c")
    polling.ends["a"].set()
    await asyncio.sleep(0)
    polling.tasks["b"].cancel()
    await polling.finish()
    assert polling.begun == ["a", "c"]
    assert polling.turns.polling(HOST) == 0


async def test_a_requested_poll_of_a_host_full_of_slow_ones_is_made_at_once() -> None:
    polls: Polls[str] = Polls(
        "Thing", digest=str, errors=OSError, clock=ManualClock(), changed=lambda *_: None
    )  # fmt: skip
    begun: list[str] = []
    slow = asyncio.Event()

    async def ask(key: str, max_age: float) -> None:
        async def poll() -> str:
            begun.append(key)
            if max_age:
                await slow.wait()
            return key

        await polls.ask(key, poll, max_age=max_age, host=HOST)

    ordinary = [asyncio.create_task(ask(f"poll-{number}", 60.0)) for number in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    held_up = len(begun)
    assert held_up < 100
    await ask("requested", 0.0)
    assert begun[held_up:] == ["requested"]
    slow.set()
    await asyncio.gather(*ordinary)
    assert len(begun) == 101
