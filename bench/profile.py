"""A sampling profile of the engine, by py-spy where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path


@contextlib.asynccontextmanager
async def profiled(pid: int, out: Path | None) -> AsyncIterator[None]:
    """Sample the process while the context is open, to `out` (raw stacks, one a line with its count).

    Raises RuntimeError when a profile is wanted and py-spy is not there.
    """
    if out is None:
        yield
        return
    program = shutil.which("py-spy")
    if program is None:
        raise RuntimeError("--profile needs py-spy: pip install py-spy")
    sampler = await asyncio.create_subprocess_exec(
        program, "record", "--pid", str(pid), "--output", str(out), "--format", "raw", "--rate", "200",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            sampler.send_signal(signal.SIGINT)
        await sampler.wait()
