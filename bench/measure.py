"""Measures one phase: the clock, the engine's request counter and the processes, before and after."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from bench import counters
from bench.counters import Request
from bench.engine import EngineProcess
from bench.phases import Details
from bench.processes import Processes
from bench.report import Measurement

_SAMPLE_EVERY = 1.0
_QUIET_FOR = 1.0
_QUIET_WITHIN = 15.0


class Meter:
    """Measures phases of one engine."""

    def __init__(self, engine: EngineProcess, processes: Processes) -> None:
        self._engine = engine
        self._processes = processes

    async def measure(self, phase: str, n: int, work: Callable[[], Awaitable[Details]], *,
                      mandatory: float | None = None, afresh: bool = False) -> Measurement:
        """Run `work`. Its requests are those until the engine is quiet again: the last event follows the status.

        `afresh`: the work starts another engine, which counts from nothing.
        """
        quiet = await self._quiet()
        before = Counter[Request]() if afresh else quiet
        self._processes.start()
        sampling = asyncio.ensure_future(self._sample())
        try:
            started = time.monotonic()
            details = await work()
            seconds = time.monotonic() - started
            spent = counters.tally(before, await self._quiet())
            processes = self._processes.usage()
        finally:
            sampling.cancel()
        return Measurement(
            phase=phase, n=n, seconds=round(seconds, 3), requests=spent.requests, writes=spent.writes,
            mandatory_seconds=None if mandatory is None else round(mandatory, 3), dry_runs=spent.dry_runs,
            by_verb_resource=spent.by_verb_resource, apart=spent.apart, processes=processes,
            details={name: round(value, 3) for name, value in details.items()},
        )

    async def _sample(self) -> None:
        while True:
            self._processes.sample()
            await asyncio.sleep(_SAMPLE_EVERY)

    async def _quiet(self) -> Counter[Request]:
        """The counter, once it has not moved for a second (leases apart)."""
        deadline = time.monotonic() + _QUIET_WITHIN
        last = counters.parse(await self._engine.metrics())
        while True:
            await asyncio.sleep(_QUIET_FOR)
            now = counters.parse(await self._engine.metrics())
            if counters.tally(last, now).requests == 0 or time.monotonic() > deadline:
                return now
            last = now
