"""Locks of the data directory: who runs the cluster in it, and one start at a time.

The supervisor holds a POSIX lock for as long as it lives. The kernel tells its process id to whoever asks, so there
is no file with a process id that goes stale, and no other process is taken for the supervisor.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path

from headrace.core.clock import Clock

_FLOCK = struct.Struct("@hhqqi4x")
"""struct flock of Linux on 64 bit: type, whence, start, length, process id."""
_POLL = 0.05


def holder(lock: Path) -> int:
    """Process id of the supervisor that holds the lock file; 0 when nobody does."""
    try:
        fd = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    finally:
        os.close(fd)
    return 0 if kind == fcntl.F_UNLCK else pid


def signal_holder(lock: Path, number: int) -> None:
    """Signal the supervisor that holds the lock file. It is pinned before the lock is read for the second time, so the
    signal cannot reach a process that got its id later."""
    pid = holder(lock)
    if not pid:
        return
    with contextlib.suppress(ProcessLookupError):
        pinned = os.pidfd_open(pid)
        try:
            if holder(lock) == pid:
                signal.pidfd_send_signal(pinned, number)
        finally:
            os.close(pinned)


@contextlib.asynccontextmanager
async def one_at_a_time(path: Path, clock: Clock) -> AsyncIterator[None]:
    """Hold a lock against other commands that start or stop the same cluster."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        while not _try_lock(fd):
            await clock.sleep(_POLL)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
