"""How often one object may run: a token bucket each, whatever its interval says and whatever wakes it (SEC-38).

Runs in a row are free up to a number that no honest use comes to; from there on there is one each second.
"""

from __future__ import annotations

from headrace.core.clock import Clock
from headrace.model.reference import Reference

BURST = 60
"""Runs of one object that may follow each other at once."""

EVERY = 1.0
"""Seconds in which an object earns another run."""


class Pace:
    """The buckets. Each is one number: when it will be full again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._full: dict[Reference, float] = {}

    def spend(self, reference: Reference) -> None:
        """The object runs."""
        now = self._clock.monotonic()
        self._full[reference] = max(self._full.get(reference, now), now) + EVERY

    def wait(self, reference: Reference) -> float:
        """Seconds until the object may run; 0 when it may now."""
        missing = self._full.get(reference, 0.0) - self._clock.monotonic()
        return max(0.0, missing - (BURST - 1) * EVERY)

    def forget(self, reference: Reference) -> None:
        """The object is gone."""
        self._full.pop(reference, None)
