"""Waiting in tests: for a condition, with a deadline, never for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

DEADLINE = 30.0


async def eventually(condition: Callable[[], object], what: str = "", timeout: float = DEADLINE) -> None:
    """Return once `condition()` is true; fails after `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"did not happen within {timeout:g}s: {what or condition}") from None
