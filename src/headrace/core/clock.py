"""Time, injected: the only module that asks the operating system for it.

`now` is wall-clock time for what people read (conditions, file times), `monotonic` is for everything that is
scheduled or measured, so that a clock that jumps by a year moves no timer (REL-30).
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never jumps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def rfc3339(epoch: float) -> str:
    """`2026-11-21T11:47:42Z`: the form of metav1.Time, whole seconds, UTC."""
    return _second(int(epoch))


@lru_cache(maxsize=64)
def _second(epoch: int) -> str:
    """The same second is written many times: every condition, event and artifact has one."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(epoch: float) -> str:
    """The form of metav1.MicroTime (leases): six digits of fraction, UTC."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch. Raises ValueError on anything else than an RFC 3339 time with its zone."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text[:64]}' is not an RFC 3339 time")
    day, hour, fraction, zone = match.groups()
    whole = datetime.fromisoformat(f"{day}T{hour}{'+00:00' if zone in 'Zz' else zone}").timestamp()
    return whole + float(fraction or 0)
