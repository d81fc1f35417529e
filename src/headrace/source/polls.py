"""Polls of servers that tell nothing by themselves, shared: whoever wants to know the same asks once for all.

A poll is known by a key, which includes the identity that asks (SEC-49). Whoever asks while another waits for the
answer gets that answer; whoever asks soon after uses it. When the answer changes, `changed` tells the engine, which
wakes all who have recorded it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from headrace.core.clock import Clock
from headrace.model.read import Read
from headrace.model.reference import REMOTE, Reference
from headrace.source.turns import Turns

T = TypeVar("T")

GROUP = "remote"
PART = "answer"
FRESH = 2.0
"""Seconds for which an answer, or a failure, serves everybody who does not ask for a newer one."""
_SETTLE = 0.02
"""Seconds before others are told of a change: those who waited for the same answer have recorded it by then."""
FORGET = 3600.0
"""Seconds after which what nobody asked for is forgotten, and not polled with others."""

Changed = Callable[[Reference, str, str], None]
"""Told that the part of a reference has another digest now."""


@dataclass(frozen=True, slots=True)
class Polled(Generic[T]):
    """An answer, and the read to record by whoever uses it."""

    value: T
    read: Read


@dataclass(slots=True)
class _Entry(Generic[T]):
    """What is known by one key. `started` is when the answer was asked for."""

    reference: Reference
    used: float
    polling: asyncio.Lock = field(default_factory=asyncio.Lock)
    started: float = 0.0
    value: T | None = None
    error: Exception | None = None
    digest: str = ""


class Polls(Generic[T]):
    """All polls of one kind. `digest` makes of an answer what is compared; `errors` are failures that are shared."""

    def __init__(
        self,
        kind: str,
        *,
        digest: Callable[[T], str],
        errors: type[Exception],
        clock: Clock,
        changed: Changed,
    ) -> None:
        self._kind = kind
        self._digest = digest
        self._errors = errors
        self._clock = clock
        self._changed = changed
        self._turns = Turns()
        self._entries: dict[str, _Entry[T]] = {}
        self._swept = clock.monotonic()

    def nowait(self, key: str, *, max_age: float) -> Polled[T] | None:
        """The answer that was asked for at most `max_age` seconds ago; None when there is none. Raises its error."""
        return self._answer(self._entry(key), self._clock.monotonic(), max_age)

    async def ask(
        self, key: str, poll: Callable[[], Awaitable[T]], *, max_age: float, host: str
    ) -> Polled[T]:
        """As `nowait`, with `poll` called when there is no such answer, and when it has its turn at the `host`: what
        accepts no older answer is waited for by somebody, and goes before the others. Raises one of `errors`.
        """
        entry, asked, urgent = self._entry(key), self._clock.monotonic(), max_age <= 0
        if urgent:
            self._turns.hasten(host, key)
        async with entry.polling:
            known = self._answer(entry, asked, max_age)
            if known is not None:
                return known
            async with self._turns.turn(host, key, urgent=urgent):
                await self._poll(entry, poll)
            answer = self._answer(entry, entry.started, 0.0)
            assert answer is not None
            return answer

    def _entry(self, key: str) -> _Entry[T]:
        now = self._clock.monotonic()
        if now - self._swept > FORGET:
            self._swept = now
            self._entries = {k: e for k, e in self._entries.items() if e.polling.locked() or now - e.used < FORGET}
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(Reference(GROUP, self._kind, "", key, cluster=REMOTE), now)
        entry.used = now
        return entry

    def _answer(self, entry: _Entry[T], asked: float, max_age: float) -> Polled[T] | None:
        unknown = entry.value is None and entry.error is None
        if unknown or not serves(entry.started, asked, max_age, entry.error):
            return None
        if entry.error is not None:
            raise entry.error
        assert entry.value is not None
        return Polled(entry.value, Read(entry.reference, PART, entry.digest))

    async def _poll(self, entry: _Entry[T], poll: Callable[[], Awaitable[T]]) -> None:
        started = self._clock.monotonic()
        try:
            value = await poll()
        except self._errors as error:
            entry.started, entry.value, entry.error = started, None, error
            return
        digest = self._digest(value)
        moved = bool(entry.digest) and entry.digest != digest
        entry.started, entry.value, entry.error, entry.digest = started, value, None, digest
        if moved:
            tell_later(self._changed, Read(entry.reference, PART, digest))


def serves(started: float, asked: float, max_age: float, error: Exception | None) -> bool:
    """Whether an answer is new enough for who asked now: a failure serves those who waited for it, and for a moment
    others, but no longer."""
    return started >= asked - (max_age if error is None else min(max_age, FRESH))


def tell_later(changed: Changed, moved: Read) -> None:
    """Tell of a change once those who waited for the same answer have recorded it."""
    asyncio.get_running_loop().call_later(_SETTLE, changed, moved.reference, moved.part, moved.digest)
