"""`headrace down`: stop the engine and the embedded cluster of `headrace up`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal

from headrace.cli import paths
from headrace.cli.exits import FAILED, OK, CommandError
from headrace.cli.output import action, success
from headrace.cluster import ClusterError, EmbeddedCluster
from headrace.core.clock import SystemClock

_DRAIN_SECONDS = 40.0
_LOOK_EVERY = 0.05


async def down(*, delete: bool) -> int:
    """Stop what runs, the engine first, so that it can drain. `delete` removes all data as well.

    Raises CommandError when something does not stop.
    """
    await _stop_engine()
    cluster = EmbeddedCluster(paths.cluster_directory())
    running = cluster.status() is not None
    try:
        await cluster.stop()
    except ClusterError as error:
        raise CommandError(str(error), FAILED) from None
    success("cluster stopped" if running else "no cluster is running")
    if delete:
        await asyncio.to_thread(shutil.rmtree, paths.state_home(), ignore_errors=True)
        success(f"{paths.state_home()} removed")
    return OK


async def _stop_engine() -> None:
    """Ask the `headrace up` that holds the lock to end, and wait until it has let go of it."""
    process = engine_process()
    if process is None:
        return
    action(f"stopping headrace up (process {process})")
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while engine_process() is not None:
                await SystemClock().sleep(_LOOK_EVERY)
    except TimeoutError:
        raise CommandError(f"process {process} does not end", FAILED) from None


def engine_process() -> int | None:
    """The process of the `headrace up` that runs; None when nobody holds its lock."""
    try:
        with open(paths.up_lock(), "r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read().strip()
                return int(text) if text.isdigit() else None
    except FileNotFoundError:
        return None
    return None
