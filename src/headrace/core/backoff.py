"""How long to wait before trying again: doubling from a minimum to a maximum (sources.md section 1, SRC-COM-07)."""

from __future__ import annotations

from headrace.core.random import Random

JITTER = 0.1
"""Fraction by which delays are spread, so that what failed together does not return together (REL-20)."""


class Backoff:
    """Delays in seconds; `minimum` and `maximum` are upstream's `--min-retry-delay` and `--max-retry-delay`."""

    def __init__(self, minimum: float = 0.75, maximum: float = 900.0, random: Random | None = None) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self._random = random or Random()

    def delay(self, failures: int) -> float:
        """The delay after so many failures in a row (1 = the first), within minimum and maximum."""
        doublings = min(max(failures - 1, 0), 62)
        delay: float = self._random.spread(min(self.minimum * 2**doublings, self.maximum), JITTER)
        return min(max(delay, self.minimum), self.maximum)
