"""The only place that starts processes: clean environment, own session, limits, capped output, nothing left behind.

A child gets the environment it is given and PATH, no terminal, and resource limits set before its first instruction.
Whatever ends the call (timeout, too much output, cancellation) ends the child's whole process group (REL-25).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from headrace.core.limits import MIB, PROCESS, ProcessLimits

T = TypeVar("T")

_CHUNK = 64 * 1024
_ERROR_OUTPUT = 64 * 1024
_GRACE = 5.0
"""Seconds to wait for the pipes of a killed child: something that left its group may hold them open."""


class SandboxError(Exception):
    """A child could not be run to its end. The message may be shown to users."""


class ProgramMissing(SandboxError):
    """The program is not installed."""


class ProcessTimedOut(SandboxError):
    """The child ran longer than it may, and was killed with everything it had started."""


class OutputTooLarge(SandboxError):
    """The child wrote more than it may, and was killed."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A child that ended by itself. `stderr` holds the first 64 KiB."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def errors(self) -> str:
        """What it wrote to stderr, as text."""
        return self.stderr.decode(errors="replace").strip()


class ProcessFailed(SandboxError):
    """The child whose output was being consumed ended with an error."""

    def __init__(self, completed: Completed) -> None:
        super().__init__(completed.errors or f"exit code {completed.code}")
        self.completed = completed


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a child: PATH, a fixed locale, no home, and `extra`."""
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": "/nonexistent", **(extra or {})}


async def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float,
    output_limit: int = 16 * MIB,
    limits: ProcessLimits = PROCESS,
) -> Completed:
    """Run `argv` to its end and return what it wrote. A non-zero exit code is a value, not an exception.

    Raises ProgramMissing, ProcessTimedOut after `timeout` seconds, OutputTooLarge beyond `output_limit` bytes.
    """
    async with _deadline(argv, timeout), _process(argv, PIPE, env, cwd, limits) as process:
        assert process.stdout is not None
        reading = _read(process.stdout, output_limit, argv)
        stdout, stderr, _ = await _together(reading, _errors(process), _feed(process, stdin))
        return Completed(await process.wait(), stdout or b"", stderr or b"")


async def run_into(
    argv: Sequence[str | Path],
    consume: Callable[[BinaryIO], T],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float,
    limits: ProcessLimits = PROCESS,
) -> T:
    """Run `argv` while `consume` reads its output in a thread; returns what `consume` returns.

    What `consume` raises ends the child and is raised here, except EOFError, by which it says that the output ended
    too early. Raises ProcessFailed on a non-zero exit code, ProgramMissing and ProcessTimedOut.
    """
    read_end, write_end = os.pipe()
    consuming = asyncio.get_running_loop().run_in_executor(None, _consume, read_end, consume)
    output = os.fdopen(write_end, "wb", buffering=0)
    try:
        async with _deadline(argv, timeout), _process(argv, write_end, env, cwd, limits) as process:
            output.close()
            _, stderr, _ = await _together(_wait_for(consuming), _errors(process), _feed(process, stdin))
            completed = Completed(await process.wait(), b"", stderr or b"")
    finally:
        # With the child and our copy gone the pipe is at its end, so the thread returns; nobody may clean up before.
        output.close()
        await asyncio.wait([consuming])
    if completed.code != 0 and (consuming.exception() is None or isinstance(consuming.exception(), EOFError)):
        raise ProcessFailed(completed)
    return consuming.result()


def _consume(read_end: int, consume: Callable[[BinaryIO], T]) -> T:
    with open(read_end, "rb", buffering=4 * _CHUNK) as stream:
        return consume(stream)


async def _wait_for(consuming: asyncio.Future[T]) -> bytes:
    await asyncio.wait([consuming])
    return b""


@contextlib.asynccontextmanager
async def _deadline(argv: Sequence[str | Path], timeout: float) -> AsyncIterator[None]:
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            yield
    except TimeoutError:
        if not deadline.expired():
            raise
        raise ProcessTimedOut(f"{Path(argv[0]).name} took longer than {timeout:g}s") from None


@contextlib.asynccontextmanager
async def _process(
    argv: Sequence[str | Path], stdout: int, env: Mapping[str, str] | None, cwd: Path | None, limits: ProcessLimits
) -> AsyncIterator[Process]:
    """A running child that is gone, with its group, when the context is left."""
    environment = clean_environment(env)
    if shutil.which(argv[0], path=environment["PATH"]) is None:
        raise ProgramMissing(f"the program '{argv[0]}' is not installed")
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(limit=_CHUNK, loop=loop),
        *_limited(argv, limits),
        stdin=PIPE,
        stdout=stdout,
        stderr=PIPE,
        env=environment,
        cwd=cwd,
        start_new_session=True,
    )
    process = Process(transport, protocol, loop)
    try:
        yield process
    finally:
        _kill_group(process.pid)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_drained(process), _GRACE)
        finally:
            transport.close()  # a run that is cancelled while it waits here leaves nothing open either


async def _drained(process: Process) -> None:
    """asyncio sees the end of a child only after the end of its pipes, so what is left in them is dropped."""
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(_CHUNK):
            pass
    await process.wait()


def _limited(argv: Sequence[str | Path], limits: ProcessLimits) -> list[str]:
    """`argv` behind a shell that only sets limits and becomes the program: set before the program's first
    instruction, without a Python hook between fork and exec. The arguments are never parsed by the shell."""
    settings = (
        ("-v", resource.RLIMIT_AS, limits.memory_bytes, 1024),
        ("-f", resource.RLIMIT_FSIZE, limits.file_bytes, 512),
        ("-t", resource.RLIMIT_CPU, limits.cpu_seconds, 1),
        ("-n", resource.RLIMIT_NOFILE, limits.open_files, 1),
    )
    script = "".join(
        f"ulimit {flag} {_allowed(limit, value) // unit:d} && " for flag, limit, value, unit in settings if value
    )
    return ["/bin/sh", "-c", script + 'exec "$@"', "sandbox", *map(str, argv)]


def _allowed(limit: int, value: int) -> int:
    """`value`, or what this process may have itself where that is less: more is refused, and nothing would start."""
    _, hard = resource.getrlimit(limit)
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _kill_group(pid: int) -> None:
    """End the group that the child leads, also when the child itself is gone but something it started is not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


async def _together(*work: Coroutine[None, None, bytes | None]) -> list[bytes | None]:
    """All results in order; the first error ends the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _read(stream: asyncio.StreamReader, limit: int, argv: Sequence[str | Path]) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise OutputTooLarge(f"{Path(argv[0]).name} wrote more than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _errors(process: Process) -> bytes:
    """The first part of stderr; the rest is read and dropped, so that the child never blocks on it."""
    assert process.stderr is not None
    kept = b""
    while chunk := await process.stderr.read(_CHUNK):
        kept = (kept + chunk)[:_ERROR_OUTPUT]
    return kept


async def _feed(process: Process, data: bytes) -> None:
    assert process.stdin is not None
    if data and not process.stdin.is_closing():
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(data)
            await process.stdin.drain()
    process.stdin.close()
