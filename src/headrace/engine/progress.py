"""What long runs say while they go on: nothing in their first second, then the newest message now and then.

One task writes for all runs, one patch after the other and with pauses: a thousand runs that a busy API server makes
long must not keep it busier still.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from headrace.core.clock import Clock
from headrace.kube.errors import KubeError
from headrace.model.outcome import Condition

log = logging.getLogger(__name__)

GAP = 2.0
"""Seconds between two progress patches of one run: each costs the API server as much as an apply."""
PAUSE = 0.2
"""Seconds between two progress patches of all runs together."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One progress report: reason and message of Reconciling=True, and conditions beside it."""

    reason: str
    message: str
    conditions: tuple[Condition, ...] = ()


Write = Callable[[], Awaitable[None]]
"""Writes what `Progress.take` gives; called when it is due."""


class Reporter:
    """Writes what runs have to say, those who have waited longest first. Nothing runs while there is nothing to say."""

    def __init__(self, clock: Clock, spawn: Callable[..., asyncio.Task[None]]) -> None:
        self._clock = clock
        self._spawn = spawn
        self._waiting: dict[Progress, None] = {}
        self._until = 0.0
        self._not_before = 0.0
        self._sleeping: asyncio.Task[None] | None = None

    def join(self, progress: Progress) -> None:
        """A run has something to say."""
        self._waiting[progress] = None
        if self._sleeping is None or progress.due < self._until:
            self._sleep(progress.due)

    def leave(self, progress: Progress) -> None:
        """It has nothing to say any more."""
        self._waiting.pop(progress, None)

    def _sleep(self, until: float) -> None:
        if self._sleeping is not None:
            self._sleeping.cancel()
        self._until = max(until, self._not_before)
        self._sleeping = self._spawn(self._rise(self._until), name="progress")

    async def _rise(self, until: float) -> None:
        await self._clock.sleep(max(0.0, until - self._clock.monotonic()))
        self._until = 0.0  # from here on `join` leaves this task alone: a write may be under way
        first = min(self._waiting, key=lambda progress: progress.due, default=None)
        if first is not None and first.due <= self._clock.monotonic():
            del self._waiting[first]
            await first.send()
            self._not_before = self._clock.monotonic() + PAUSE
        self._sleeping = None
        if self._waiting:
            self._sleep(min(progress.due for progress in self._waiting))


class Progress:
    """The messages of one run; a write that fails is logged and never fails the run. `due` is when the next is due."""

    def __init__(self, write: Write, clock: Clock, reporter: Reporter, *, first_at: float) -> None:
        self._write = write
        self._clock = clock
        self._reporter = reporter
        self._unsent: Message | None = None
        self.due = first_at
        self.current: Message | None = None

    def say(self, reason: str, message: str, conditions: Sequence[Condition]) -> None:
        """This is what the run does now; an unsent message is replaced."""
        said = Message(reason, message, tuple(conditions))
        if said != self.current:
            self.current = self._unsent = said
            self._reporter.join(self)

    def sent(self) -> None:
        """The current message has reached the object with another write."""
        self._unsent = None
        self._reporter.leave(self)

    def close(self) -> None:
        """Say nothing more."""
        self.sent()

    async def send(self) -> None:
        """Have the newest message written."""
        try:
            await self._write()
        except KubeError as error:
            log.warning("progress was not written", extra={"error": str(error)})
        except Exception:
            log.exception("progress was not written")  # a bug, which must not end the reports of all other runs
        finally:
            self.due = self._clock.monotonic() + GAP

    def take(self) -> Message | None:
        """The message to write, once; None when the run has ended or another write carried it."""
        message, self._unsent = self._unsent, None
        return message
