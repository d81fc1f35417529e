"""Whose turn it is to poll a host: a few at a time for each, and those that somebody waits for before the others.

A host with a thousand sources is not asked a thousand things at once, and one that is slow holds up only its own
sources. What a person or a webhook has asked for finds places that ordinary polls may not take.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

AT_ONCE = 16
"""Polls of one host at the same time: half of the connections that are kept to it."""
RESERVE = 8
"""As many more when they are urgent."""

_Line = OrderedDict[str, asyncio.Future[None]]


@dataclass(slots=True)
class _Host:
    """How many poll it, and who waits for that, each in order of arrival."""

    polling: int = 0
    urgent: _Line = field(default_factory=OrderedDict)
    ordinary: _Line = field(default_factory=OrderedDict)


class Turns:
    """The turns at all hosts. A poll is named by a key, which no other poll of the host has at the same time."""

    def __init__(self, at_once: int = AT_ONCE, reserve: int = RESERVE) -> None:
        self._at_once = at_once
        self._reserve = reserve
        self._hosts: dict[str, _Host] = {}

    @contextlib.asynccontextmanager
    async def turn(self, host: str, key: str, *, urgent: bool = False) -> AsyncIterator[None]:
        """Wait for a turn at a host and have it while the context is open. Cancelled while waiting: has none."""
        there = self._hosts.setdefault(host, _Host())
        await self._wait(host, there, key, urgent)
        try:
            yield
        finally:
            self._leave(host, there)

    def hasten(self, host: str, key: str) -> None:
        """Somebody is waiting for a poll that may be in line: it goes before the ordinary ones."""
        there = self._hosts.get(host)
        if there is not None and (waiting := there.ordinary.pop(key, None)) is not None:
            there.urgent[key] = waiting
            self._admit(there)

    def polling(self, host: str) -> int:
        """How many poll a host now."""
        there = self._hosts.get(host)
        return there.polling if there is not None else 0

    async def _wait(self, host: str, there: _Host, key: str, urgent: bool) -> None:
        """Nobody waits while there is room, so who finds room goes before nobody."""
        if there.polling < self._at_once + (self._reserve if urgent else 0):
            there.polling += 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (there.urgent if urgent else there.ordinary)[key] = granted
        try:
            await granted
        except asyncio.CancelledError:
            there.urgent.pop(key, None)
            there.ordinary.pop(key, None)
            if granted.done() and not granted.cancelled():
                self._leave(host, there)
            raise

    def _leave(self, host: str, there: _Host) -> None:
        there.polling -= 1
        self._admit(there)
        if not there.polling:
            self._hosts.pop(host, None)

    def _admit(self, there: _Host) -> None:
        """Let in whom there is room for."""
        while there.urgent and there.polling < self._at_once + self._reserve:
            _grant(there, there.urgent)
        while there.ordinary and there.polling < self._at_once:
            _grant(there, there.ordinary)


def _grant(there: _Host, line: _Line) -> None:
    _, waiting = line.popitem(last=False)
    if not waiting.done():
        there.polling += 1
        waiting.set_result(None)
