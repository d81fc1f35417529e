"""Sets everything up, runs the phases in order, takes everything down."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench import cluster, phases, workload
from bench.api import GROUPS
from bench.cluster import Cluster
from bench.counters import Request, parse
from bench.engine import EngineProcess
from bench.mandatory import Floor
from bench.measure import Meter
from bench.options import Options
from bench.phases import Stage
from bench.processes import Processes
from bench.profile import profiled
from bench.releases import Release, Sources, served
from bench.report import Measurement, render
from bench.watch import Watch


class PhaseError(RuntimeError):
    """A phase did not end in time; the message names what was not done and what its conditions say."""


@dataclass(frozen=True, slots=True)
class _Watches:
    sources: Watch
    deliveries: Watch
    links: Watch
    deployments: Watch
    floor: Watch


async def run(options: Options) -> list[Measurement]:
    """All measurements, in the order of the phases. Raises PhaseError and EngineError."""
    return (await run_observed(options))[0]


async def run_observed(options: Options) -> tuple[list[Measurement], Counter[Request]]:
    """As `run`; also what the engine counted from its start to the end of the last phase."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    try:
        async with cluster.started(folder / "cluster", audit=options.audit) as running:
            return await _on_cluster(options, folder, running)
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _on_cluster(options: Options, folder: Path, running: Cluster) -> tuple[list[Measurement], Counter[Request]]:
    await running.prepare((workload.NAMESPACE, workload.CHAIN_NAMESPACE, workload.MANDATORY_NAMESPACE))
    async with contextlib.AsyncExitStack() as stack:
        kind = await stack.enter_async_context(served(options.source, folder))
        watches = await _watch(running, stack, kind)
        floor = await _floor(options, running, watches) if options.floor and "install" in options.phases else None
        apps, chain = await _releases(kind, options.n)
        kubeconfig = await running.engine_kubeconfig(folder)
        engine = await stack.enter_async_context(_engine(kubeconfig, folder / "engine", kind.host))
        roots = {"engine": engine.pid, "controlplane": running.pid, "bench": os.getpid()}

        async def restart(*, forgetful: bool) -> None:
            await engine.restart(forgetful=forgetful)
            roots["engine"] = engine.pid

        stage = Stage(
            n=options.n, idle=options.idle, api=running.api, apps=apps, chain=chain, kind=kind,
            sources=watches.sources, deliveries=watches.deliveries, links=watches.links,
            deployments=watches.deployments, restart=restart,
        )
        processes = Processes(roots)
        async with profiled(engine.pid, options.profile):
            measurements = await _phases(options, stage, Meter(engine, processes), engine, floor)
        return measurements, parse(await engine.metrics())


async def _phases(options: Options, stage: Stage, meter: Meter, engine: EngineProcess,
                  floor: float | None) -> list[Measurement]:
    measurements = []
    for phase in options.phases:
        bounded = functools.partial(_bounded, phase, options.timeout, stage, engine)
        n = workload.CHAIN_LENGTH if phase == "chain" else options.n
        measurement = await meter.measure(
            phase, n, bounded, mandatory=floor if phase == "install" else None, afresh=phase in phases.AFRESH
        )
        print(render(measurement), flush=True)
        measurements.append(measurement)
    return measurements


async def _bounded(phase: str, timeout: float, stage: Stage, engine: EngineProcess) -> phases.Details:
    """Run a phase; ends early with the reason when the engine dies."""
    work = asyncio.ensure_future(phases.PHASES[phase](stage))
    died = asyncio.ensure_future(engine.ended())
    try:
        await asyncio.wait({work, died}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            await died
        if not work.done():
            raise PhaseError(_unfinished(phase, timeout, stage))
        return await work
    finally:
        work.cancel()
        died.cancel()


def _unfinished(phase: str, timeout: float, stage: Stage) -> str:
    watches = {stage.kind.kind: stage.sources, "Kustomization": stage.deliveries, "link": stage.links,
               "Deployment": stage.deployments}
    open_ones = [f"{kind} {line}" for kind, watch in watches.items() for line in watch.unfinished()]
    shown = "\n  ".join(open_ones[:10])
    return f"{phase} was not done after {timeout:g} s; {len(open_ones)} objects are not there yet:\n  {shown}"


async def _watch(running: Cluster, stack: contextlib.AsyncExitStack, kind: Sources) -> _Watches:
    """Start all watches; they end with the stack."""
    watches = _Watches(Watch(), Watch(), Watch(), Watch(), Watch())
    followed = (
        (watches.sources, kind.plural, workload.NAMESPACE),
        (watches.deliveries, "kustomizations", workload.NAMESPACE),
        (watches.links, "kustomizations", workload.CHAIN_NAMESPACE),
        (watches.deployments, "deployments", workload.NAMESPACE),
        (watches.floor, "deployments", workload.MANDATORY_NAMESPACE),
    )
    for watch, plural, namespace in followed:
        await stack.enter_async_context(running.followed(watch, GROUPS[plural], plural, namespace))
    return watches


async def _floor(options: Options, running: Cluster, watches: _Watches) -> float:
    """The mandatory seconds, measured before there is an engine, and cleaned up after."""
    floor = Floor(running.api, watches.floor, workload.MANDATORY_NAMESPACE)
    seconds = await asyncio.wait_for(floor.measure(options.n), options.timeout)
    print(f"mandatory: n={options.n} {seconds:.2f} s", flush=True)
    await running.empty(workload.MANDATORY_NAMESPACE)
    return seconds


async def _releases(kind: Sources, n: int) -> tuple[Release, Release]:
    """What the apps come from, and the chain, each with a first revision that is visible."""
    apps, chain = await kind.release("apps"), await kind.release("chain")
    for index in range(n):
        name = workload.app_name(index)
        apps.write(f"apps/{name}", workload.app_objects(name, workload.NAMESPACE))
    for name in phases.link_names():
        chain.write(name, [workload.config_map(name, workload.CHAIN_NAMESPACE)])
    for release in (apps, chain):
        await release.commit("First release")
        await release.push()
    return apps, chain


@contextlib.asynccontextmanager
async def _engine(kubeconfig: Path, folder: Path, git_host: str) -> AsyncIterator[EngineProcess]:
    engine = await EngineProcess.start(kubeconfig, folder, git_host)
    try:
        yield engine
    finally:
        await engine.stop()
