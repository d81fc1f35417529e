from __future__ import annotations

import asyncio
import time

import pytest

from headrace.core.clock import SystemClock
from headrace.engine.stall import watch_loop
from tests.unit.engine.world import Told


@pytest.mark.spec("REL-40")
async def test_a_loop_that_is_blocked_is_noticed_and_one_that_is_not_is_not() -> None:
    metrics = Told()
    watch = asyncio.create_task(watch_loop(SystemClock(), metrics, 0.1))
    for _ in range(3):
        await asyncio.sleep(0)
    time.sleep(0.4)
    async with asyncio.timeout(10):
        while not metrics.blocked:
            await asyncio.sleep(0.01)
    watch.cancel()
    assert metrics.blocked[0] > 0.1
