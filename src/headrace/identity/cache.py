"""Tokens that are kept for most of their life: 80 % of it, and never longer than the operator says."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar, cast

from headrace.core.clock import Clock

T = TypeVar("T")

_PART_OF_LIFE = 0.8


class TokenCache:
    """Values by what they were issued for. Whoever asks while one is being issued waits for that one.

    `size` 0 keeps nothing. `hits`, `misses` and `failures` count for the metrics, `evictions` those dropped
    for want of room.
    """

    def __init__(self, clock: Clock, *, size: int = 100, longest: float = 3600.0) -> None:
        self._clock = clock
        self._size = size
        self._longest = longest
        self._kept: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        self._issuing: dict[Hashable, asyncio.Lock] = {}
        self.hits = 0
        self.misses = 0
        self.failures = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: Hashable, issue: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        """The value for `key`; `issue` makes it and says when it ends (seconds since the epoch)."""
        lock = self._issuing.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                return await self._get(key, issue)
        finally:
            if not lock.locked():
                self._issuing.pop(key, None)

    async def _get(self, key: Hashable, issue: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        known = self._kept.get(key)
        if known is not None and self._clock.now() < known[1]:
            self.hits += 1
            self._kept.move_to_end(key)
            return cast("T", known[0])
        self.misses += 1
        try:
            value, expires = await issue()
        except BaseException:
            self.failures += 1
            raise
        now = self._clock.now()
        if self._size > 0:
            self._kept[key] = value, now + min((expires - now) * _PART_OF_LIFE, self._longest)
            self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
            self.evictions += 1
        return value
