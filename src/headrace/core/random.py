"""Chance, injected: seedable where a test or a replay needs the same run twice. Not for keys or tokens that protect."""

from __future__ import annotations

import random


class Random:
    """Numbers and ids by chance. The same `seed` gives the same sequence; None takes the seed from the system."""

    def __init__(self, seed: int | None = None) -> None:
        self._source = random.Random(seed)  # noqa: S311 - jitter and names, nothing that protects

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`."""
        return self._source.uniform(low, high)

    def spread(self, value: float, fraction: float) -> float:
        """`value` moved by at most `fraction` of it in either direction (the jitter of intervals)."""
        return value * self._source.uniform(1.0 - fraction, 1.0 + fraction)

    def token(self, size: int = 8) -> str:
        """`size` bytes as hex."""
        return self._source.randbytes(size).hex()
