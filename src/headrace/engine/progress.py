"""What a long run says while it goes on: nothing in its first second, then the newest message now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from headrace.core.clock import Clock
from headrace.engine.services import Spawn
from headrace.kube.errors import KubeError
from headrace.model.outcome import Condition

log = logging.getLogger(__name__)

GAP = 2.0
"""Seconds between two progress patches of one run: each costs the API server as much as an apply."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One progress report: reason and message of Reconciling=True, and conditions beside it."""

    reason: str
    message: str
    conditions: tuple[Condition, ...] = ()


Write = Callable[[Message], Awaitable[None]]


class Progress:
    """Collects messages and writes the newest; a write that fails is logged and never fails the run."""

    def __init__(self, write: Write, clock: Clock, spawn: Spawn, *, first_at: float) -> None:
        self._write = write
        self._clock = clock
        self._spawn = spawn
        self._next = first_at
        self._unsent: Message | None = None
        self._said = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.current: Message | None = None

    def say(self, reason: str, message: str, conditions: Sequence[Condition]) -> None:
        """This is what the run does now; an unsent message is replaced."""
        said = Message(reason, message, tuple(conditions))
        if said == self.current:
            return
        self.current = self._unsent = said
        self._said.set()
        if self._task is None:
            self._task = self._spawn(self._report(), name="progress")

    def sent(self) -> None:
        """The current message has reached the object with another write."""
        self._unsent = None

    async def close(self) -> None:
        """Say nothing more. Returns when no write is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _report(self) -> None:
        while True:
            await self._said.wait()
            await self._clock.sleep(max(0.0, self._next - self._clock.monotonic()))
            self._said.clear()
            message, self._unsent = self._unsent, None
            if message is not None:
                await self._send(message)
                self._next = self._clock.monotonic() + GAP

    async def _send(self, message: Message) -> None:
        try:
            await self._write(message)
        except KubeError as error:
            log.warning("progress was not written", extra={"error": str(error)})
