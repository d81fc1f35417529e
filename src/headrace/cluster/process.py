"""Starts the supervisor of a control plane, either tied to this process or outliving it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Supervisor:
    """A supervisor that this process started. `tie` is the pipe whose end ends it; -1 when it is to outlive us."""

    pid: int
    tie: int = -1
    _code: int | None = None

    def ended(self) -> bool:
        """Whether it is over; also takes it off the process table then."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None

    def untie(self) -> None:
        """Close the pipe; a tied supervisor stops then."""
        if self.tie >= 0:
            os.close(self.tie)
            self.tie = -1


def start_supervisor(argv: Sequence[str], env: Mapping[str, str], errors: Path, *, tied: bool) -> Supervisor:
    """Start it in a session of its own, without terminal; what it says goes to the file `errors`.

    os.posix_spawn, because a child of asyncio or subprocess is bound to their objects and this one may outlive us.
    """
    read_end, write_end = os.pipe() if tied else (-1, -1)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, read_end, 0) if tied else (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(errors), flags, 0o600),
    ]
    default = [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM]
    try:
        pid = os.posix_spawn(argv[0], list(argv), env, file_actions=actions, setsid=True, setsigdef=default)
    except BaseException:
        if tied:
            os.close(write_end)
        raise
    finally:
        if tied:
            os.close(read_end)
    return Supervisor(pid, write_end)
