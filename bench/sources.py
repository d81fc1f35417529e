"""`python -m bench.sources`: what sources cost that are polled each minute, and what a large one costs to fetch.

Objects of one kind, each with a URL of its own, are made and left alone; then the engine's CPU, its requests at the
API server and at their server, and its memory are measured for some minutes. Then one large source of the kind is
fetched, beside what `git clone` and `tar` take for the same content.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import counters, workload
from bench.api import GROUPS, collection
from bench.large_sources import Cost, large_git, large_oci
from bench.processes import Usage
from bench.profile import profiled
from bench.source_servers import small_artifacts, small_repositories
from bench.source_setup import KINDS, NAMESPACE, PLURALS, Bench, Options, is_ready, started

_AT_ONCE = 50
_SETTLE = 5.0
_READY_WITHIN = 1200.0
_SHOWN = ("engine", "toolbox", "bench", "kube-apiserver")


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """Many sources that are polled and do not move, watched for `seconds`; `cpu_percent` is the engine's share of one
    core, `cpu_each_ms` its time for each request at the server of the sources."""

    kind: str
    sources: int
    interval: str
    seconds: float
    cpu_percent: float
    cpu_each_ms: float
    server_requests: dict[str, int]
    api_requests: dict[str, int]
    api_writes: int
    processes: list[Usage]


class Report(msgspec.Struct, kw_only=True):
    """All that was measured; `installed` are seconds until all sources of a kind were ready."""

    installed: dict[str, float] = {}
    idle: list[Idle] = []
    large: list[Cost] = []


def parse(argv: Sequence[str]) -> Options:
    """Options of a command line; exits with usage for a bad one."""
    parser = argparse.ArgumentParser(prog="python -m bench.sources", description="Measure the sources of headrace.")
    parser.add_argument("--n", type=int, default=1000, help="sources of each kind; 0 for none")
    parser.add_argument("--kinds", default=",".join(KINDS), help="git, oci or both, with a comma")
    parser.add_argument("--interval", default="1m", help="interval of the sources")
    parser.add_argument("--idle", type=float, default=180.0, help="seconds for which idle sources are watched")
    parser.add_argument("--commits", type=int, default=30_000, help="commits of the large repository; 0 for none")
    parser.add_argument("--megabytes", type=int, default=100, help="size of the large artifact; 0 for none")
    parser.add_argument("--out", type=Path, help="write the measurements to this file as JSON")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="profile the idle engine with py-spy (raw stacks)")
    parser.add_argument("--keep", action="store_true", help="leave logs and data behind, and say where")
    args = parser.parse_args(argv)
    kinds = tuple(kind for kind in KINDS if kind in args.kinds.split(","))
    if not kinds:
        parser.error("--kinds needs git or oci")
    return Options(n=args.n, kinds=kinds, interval=args.interval, idle=args.idle, commits=args.commits,
                   megabytes=args.megabytes, out=args.out, profile=args.profile, keep=args.keep)  # fmt: skip


async def run(options: Options) -> Report:
    """All measurements. Raises EngineError, and TimeoutError when sources do not become ready."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    try:
        async with started(options, folder) as bench:
            report = Report()
            for kind in options.kinds:
                if options.n:
                    report.installed[kind] = await _install(bench, kind)
                    report.idle.append(await _idle(bench, kind))
                    await _withdraw(bench, kind)
            if options.commits and "git" in options.kinds:
                report.large += await large_git(bench, options.commits)
            if options.megabytes and "oci" in options.kinds:
                report.large += await large_oci(bench, options.megabytes)
            return report
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _install(bench: Bench, kind: str) -> float:
    """Make the sources and wait until all are ready; returns the seconds from the first object on."""
    names = [f"source-{number:04d}" for number in range(bench.options.n)]
    if kind == "git":
        await small_repositories(bench.git.root, names)
    else:
        await small_artifacts(bench.registry.address, names)
    limit = asyncio.Semaphore(_AT_ONCE)

    async def create(name: str) -> None:
        async with limit:
            await bench.api.create(_source(bench, kind, name))

    begun = time.monotonic()
    async with asyncio.timeout(_READY_WITHIN):
        await asyncio.gather(*(create(name) for name in names))
        await bench.watches[PLURALS[kind]].until_all(names, is_ready)
    seconds = time.monotonic() - begun
    print(f"{kind}: {len(names)} sources ready after {seconds:.1f} s", flush=True)
    return round(seconds, 2)


def _source(bench: Bench, kind: str, name: str) -> workload.Object:
    if kind == "git":
        made = workload.git_repository(name, NAMESPACE, bench.git.url(f"{name}.git"))
    else:
        made = workload.oci_repository(name, NAMESPACE, bench.registry.url(name))
    return {**made, "spec": {**made["spec"], "interval": bench.options.interval}}


async def _idle(bench: Bench, kind: str) -> Idle:
    await asyncio.sleep(_SETTLE)
    before = counters.parse(await bench.engine.metrics())
    bench.forget_counts()
    bench.processes.start()
    begun = time.monotonic()
    async with profiled(bench.engine.pid, bench.options.profile):
        await asyncio.sleep(bench.options.idle)
    usage, seconds = bench.processes.usage(), time.monotonic() - begun
    requests = dict(bench.counts(kind))
    spent = counters.tally(before, counters.parse(await bench.engine.metrics()))
    cpu = sum(one.cpu_seconds for one in usage if one.name.startswith("engine"))
    measured = Idle(
        kind=kind, sources=bench.options.n, interval=bench.options.interval, seconds=round(seconds, 1),
        cpu_percent=round(100 * cpu / seconds, 2), cpu_each_ms=round(1000 * cpu / max(1, sum(requests.values())), 2),
        server_requests=requests, api_requests=spent.by_verb_resource, api_writes=spent.writes,
        processes=[one for one in usage if one.name.startswith(_SHOWN)],
    )  # fmt: skip
    _print_idle(measured)
    return measured


def _print_idle(measured: Idle) -> None:
    print(f"{measured.kind} idle: {measured.sources} sources every {measured.interval} for {measured.seconds:g} s: "
          f"{measured.cpu_percent:.2f} % of a core, {measured.cpu_each_ms:.2f} ms for each request; at the server "
          f"{measured.server_requests}, at the API server {measured.api_requests or 'none'}, "
          f"{measured.api_writes} writes")  # fmt: skip
    for one in measured.processes:
        print(f"    {one.name:32s} {one.cpu_seconds:7.2f} s CPU {one.peak_mib:8.1f} MiB")
    sys.stdout.flush()


async def _withdraw(bench: Bench, kind: str) -> None:
    """Delete the sources, so that the next kind is measured alone."""
    path = collection(GROUPS[PLURALS[kind]], PLURALS[kind], NAMESPACE)
    await bench.api.delete(path)
    async with asyncio.timeout(_READY_WITHIN):
        while await _items(bench, path):
            pass


async def _items(bench: Bench, path: str) -> int:
    """How many objects there are, a second later: nothing is watched that is about to go."""
    await asyncio.sleep(1)
    return len((await bench.api.get(path))["items"])


def main() -> int:
    """Exit code 0 when everything was measured."""
    options = parse(sys.argv[1:])
    report = asyncio.run(run(options))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
