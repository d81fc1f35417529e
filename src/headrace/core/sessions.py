"""HTTP sessions, of which only so many are kept: whoever names servers must not make the engine grow."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp


@dataclass(slots=True)
class _Kept:
    """A session, and how many use it."""

    session: aiohttp.ClientSession
    users: int = 0


class Sessions:
    """The `most` sessions that were used last, by a key that says who may share connections. One in use is never
    closed, however many there are."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @contextlib.asynccontextmanager
    async def taken(self, key: str, make: Callable[[], aiohttp.ClientSession]) -> AsyncIterator[aiohttp.ClientSession]:
        """The session of a key, made if there is none. It stays open while the context is."""
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept(make())
        self._kept.move_to_end(key)
        kept.users += 1
        try:
            await self._make_room()
            yield kept.session
        finally:
            kept.users -= 1

    async def _make_room(self) -> None:
        """Close those that nobody uses, the oldest first, until there are not too many."""
        excess = len(self._kept) - self._most
        if excess <= 0:
            return
        idle = [key for key, kept in self._kept.items() if not kept.users][:excess]
        await _close([self._kept.pop(key) for key in idle])

    async def close(self) -> None:
        """Close all, in use or not."""
        kept, self._kept = list(self._kept.values()), OrderedDict()
        await _close(kept)


async def _close(sessions: list[_Kept]) -> None:
    for kept in sessions:
        await kept.session.close()
