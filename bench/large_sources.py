"""A large source of each kind: from the object until it is ready, beside what `git clone` and `tar` take."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from bench import workload
from bench.processes import Processes
from bench.source_servers import large_artifact, large_repository
from bench.source_setup import NAMESPACE, PLURALS, Bench, is_ready

_SAMPLE_EVERY = 0.05
_WITHIN = 1200.0
_GIT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0"}  # fmt: skip


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one thing took. `peak_mib` adds up the peaks of its programs, of each the largest process (`by_program`);
    `before_mib` is what they had when it began."""

    what: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    before_mib: float = 0.0
    by_program: dict[str, float] = {}


async def large_git(bench: Bench, commits: int) -> list[Cost]:
    """A repository with a long history, as a GitRepository and by `git clone --depth 1` with `tar`."""
    await large_repository(bench.git.root, "large", commits)
    url = bench.git.url("large.git")
    made = workload.git_repository("large", NAMESPACE, url)
    work = bench.folder / "plain-git"
    work.mkdir()
    packed, cloned = str(work / "packed.tar.gz"), str(work / "clone")
    return [
        await _source(bench, "git", made, f"GitRepository of {commits} commits"),
        await _plain("git clone --depth 1", ["git", "clone", "--quiet", "--depth", "1", url, cloned]),
        await _plain("tar cz of the clone", ["tar", "czf", packed, "--exclude=.git", "-C", cloned, "."]),
    ]


async def large_oci(bench: Bench, megabytes: int) -> list[Cost]:
    """A large artifact, as an OCIRepository and by `tar` from a local file."""
    layer = await large_artifact(bench.registry.address, "large", megabytes * 1_000_000)
    made = workload.oci_repository("large", NAMESPACE, bench.registry.url("large"))
    work = bench.folder / "plain-oci"
    work.mkdir()
    archive, opened, packed = work / "layer.tar.gz", work / "opened", str(work / "packed.tar.gz")
    await asyncio.to_thread(archive.write_bytes, layer)
    opened.mkdir()
    return [
        await _source(bench, "oci", made, f"OCIRepository of {megabytes} MB"),
        await _plain("tar xz of the layer", ["tar", "xzf", str(archive), "-C", str(opened)]),
        await _plain("tar cz of its files", ["tar", "czf", packed, "-C", str(opened), "."]),
    ]


async def _source(bench: Bench, kind: str, made: workload.Object, what: str) -> Cost:
    async def until_ready() -> None:
        await bench.api.create(made)
        await bench.watches[PLURALS[kind]].until(made["metadata"]["name"], is_ready)

    engine = Processes({"engine": bench.engine.pid})
    return await _measured(what, engine, until_ready)


async def _plain(what: str, command: list[str]) -> Cost:
    program = shutil.which(command[0])
    assert program is not None, f"{command[0]} is needed"
    # The shell is asked to wait, so that its time is that of its children, and is not replaced by them.
    started = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", 'read go && "$@"; code=$?; read go; exit $code', "sh", program, *command[1:],
        stdin=asyncio.subprocess.PIPE, env=_GIT | {"HOME": os.environ.get("HOME", "/")},
    )  # fmt: skip

    async def until_done() -> None:
        assert started.stdin is not None
        started.stdin.write(b"go\n")
        await _childless(started.pid)

    cost = await _measured(what, Processes({"shell": started.pid}), until_done)
    await started.communicate(b"go\n")
    if started.returncode:
        raise RuntimeError(f"{what} failed with {started.returncode}")
    return cost


async def _childless(pid: int) -> None:
    """Until a process has had children and has none any more."""
    children = f"/proc/{pid}/task/{pid}/children"
    had = False
    while True:
        now = bool(await asyncio.to_thread(_content, children))
        if had and not now:
            return
        had = had or now
        await asyncio.sleep(0.005)


def _content(path: str) -> str:
    return Path(path).read_text().strip()


async def _measured(what: str, processes: Processes, work: Callable[[], Awaitable[None]]) -> Cost:
    """`work`, with the processes sampled often: those of git and tar come and go."""
    processes.start()
    processes.sample()
    before = sum(processes.largest().values())
    sampling = asyncio.ensure_future(_sample(processes))
    try:
        started = time.monotonic()
        async with asyncio.timeout(_WITHIN):
            await work()
        seconds = time.monotonic() - started
        processes.sample()
        cpu = sum(one.cpu_seconds for one in processes.usage())
    finally:
        sampling.cancel()
    peaks = {name: round(peak, 1) for name, peak in processes.largest().items() if peak}
    cost = Cost(
        what=what, seconds=round(seconds, 2), cpu_seconds=round(cpu, 2), peak_mib=round(sum(peaks.values()), 1),
        before_mib=round(before, 1), by_program=peaks,
    )  # fmt: skip
    print(f"{what}: {cost.seconds:.2f} s, {cost.cpu_seconds:.2f} s CPU, {cost.peak_mib:.0f} MiB "
          f"({cost.before_mib:.0f} before; {cost.by_program})", flush=True)  # fmt: skip
    return cost


async def _sample(processes: Processes) -> None:
    while True:
        processes.sample()
        await asyncio.sleep(_SAMPLE_EVERY)
