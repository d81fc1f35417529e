"""Notices when something blocks the event loop: everything else, the lease included, stands still as long (REL-40)."""

from __future__ import annotations

import logging

from headrace.core.clock import Clock
from headrace.engine.metrics import Metrics

log = logging.getLogger(__name__)

PERIOD = 0.25
"""Seconds between two looks: a blocked loop shows as a look that comes late."""


async def watch_loop(clock: Clock, metrics: Metrics, threshold: float) -> None:
    """Count and log every time the loop was blocked for longer than `threshold` seconds. Runs until cancelled."""
    while True:
        asleep = clock.monotonic()
        await clock.sleep(PERIOD)
        late = clock.monotonic() - asleep - PERIOD
        if late > threshold:
            metrics.stalled_loop(late)
            log.warning("the event loop was blocked", extra={"seconds": round(late, 3)})
