"""Processes: nothing of ours in their environment, nothing of theirs left behind."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from headrace.core.limits import MIB, ProcessLimits
from headrace.core.sandbox import OutputTooLarge, ProcessFailed, ProcessTimedOut, ProgramMissing, run, run_into
from tests.eventually import eventually


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


async def test_arguments_reach_the_program_as_they_are() -> None:
    odd = ["$(id)", "a b", "'; exit 3", "-n", "*"]
    completed = await run(["printf", "%s\n", *odd], timeout=10)
    assert completed.stdout.decode().splitlines() == odd


async def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "canary")
    completed = await run(["env"], env={"GIVEN": "yes"}, timeout=10)
    names = {line.partition("=")[0] for line in completed.stdout.decode().splitlines()}
    assert names - {"PWD", "_", "SHLVL"} == {"PATH", "LANG", "HOME", "GIVEN"}


async def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(ProcessTimedOut, match=r"sh took longer than 0\.5s"):
        await run(["sh", "-c", f"trap '' TERM; sleep 60 & echo $! > {note}; wait"], timeout=0.5)
    await eventually(lambda: _is_gone(int(note.read_text())))


async def test_too_much_output_ends_the_child() -> None:
    with pytest.raises(OutputTooLarge, match="yes wrote more than 100000 bytes"):
        await run(["yes"], timeout=10, output_limit=100_000)


async def test_errors_are_capped_and_never_block_the_child() -> None:
    completed = await run(["sh", "-c", "head -c 1000000 /dev/zero >&2; exit 4"], timeout=10)
    assert (completed.code, len(completed.stderr)) == (4, 65536)


async def test_a_missing_program_is_said_to_be_missing() -> None:
    with pytest.raises(ProgramMissing, match="'no-such-program' is not installed"):
        await run(["no-such-program"], timeout=10)


async def test_memory_is_limited() -> None:
    limits = ProcessLimits(memory_bytes=64 * MIB)
    completed = await run(["python3", "-c", "bytes(200_000_000)"], timeout=10, limits=limits)
    assert completed.code != 0


async def test_a_child_that_is_no_longer_wanted_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    task = asyncio.create_task(run(["sh", "-c", f"echo $$ > {note}; exec sleep 60"], timeout=60))
    while not note.is_file() or not note.read_text().strip():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: _is_gone(int(note.read_text())))


async def test_output_is_consumed_while_it_comes() -> None:
    assert await run_into(["cat"], lambda output: output.read(), stdin=b"x" * 300_000, timeout=10) == b"x" * 300_000


async def test_a_consumer_that_has_enough_ends_the_child() -> None:
    def refuse(output: BinaryIO) -> None:
        output.read(10)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        await run_into(["yes"], refuse, timeout=10)


async def test_a_child_that_fails_explains_an_output_that_ends_early() -> None:
    def read(output: BinaryIO) -> bytes:
        if not (data := output.read()):
            raise EOFError
        return data

    with pytest.raises(ProcessFailed, match="no such thing"):
        await run_into(["sh", "-c", "echo no such thing >&2; exit 3"], read, timeout=10)


async def test_a_consumer_is_over_when_the_timeout_is() -> None:
    finished: list[bool] = []

    def read(output: BinaryIO) -> None:
        output.read()
        finished.append(True)

    with pytest.raises(ProcessTimedOut):
        await run_into(["sleep", "60"], read, timeout=0.3)
    assert finished == [True]
