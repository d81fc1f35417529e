"""The secrets that the current run has come by, so that whatever it says can be cleaned of them (SEC-35).

They belong to the task that runs and to the tasks it starts, by context; nothing is kept when the run has ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

SHORTEST = 6
"""Characters: shorter values are words that occur by themselves; taking them out would maim every message."""

_secrets: ContextVar[set[str] | None] = ContextVar("secrets", default=None)


@contextlib.contextmanager
def keeping_secrets() -> Iterator[None]:
    """Collect the secrets that are registered within."""
    token = _secrets.set(set())
    try:
        yield
    finally:
        _secrets.reset(token)


def register(secret: str) -> None:
    """Have `secret` taken out of everything that the current run says. Short values are not taken."""
    known = _secrets.get()
    secret = secret.strip()
    if known is not None and len(secret) >= SHORTEST:
        known.add(secret)


def secrets() -> frozenset[str]:
    """The secrets of the current run."""
    return frozenset(_secrets.get() or ())
