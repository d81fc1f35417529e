"""What the benchmark of the sources runs on: a control plane, the engine, a git server and a registry."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench import cluster
from bench.api import GROUPS, Api, collection
from bench.cluster import Cluster
from bench.engine import EngineProcess
from bench.processes import Processes
from bench.watch import Live, Watch
from headrace.kube.errors import NotFound
from tests.servers.git_http import GitServer
from tests.servers.registry import RegistryServer

NAMESPACE = "bench-sources"
KINDS = ("git", "oci")
PLURALS = {"git": "gitrepositories", "oci": "ocirepositories"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user chose: `n` sources of each of `kinds`, polled every `interval`, watched for `idle` seconds;
    `commits` and `megabytes` of the large sources, 0 for none."""

    n: int
    kinds: tuple[str, ...]
    interval: str
    idle: float
    commits: int
    megabytes: int
    out: Path | None
    profile: Path | None
    keep: bool


@dataclass(frozen=True, slots=True)
class Bench:
    """What runs during the bench."""

    options: Options
    folder: Path
    api: Api
    watches: dict[str, Watch]
    engine: EngineProcess
    processes: Processes
    git: GitServer
    registry: RegistryServer

    def counts(self, kind: str) -> Counter[str]:
        """Requests that the server of a kind has got since `forget_counts`."""
        return self.git.counts if kind == "git" else self.registry.counts

    def forget_counts(self) -> None:
        """Have the servers count anew."""
        self.git.requests.clear()
        self.registry.requests.clear()


def is_ready(live: Live) -> bool:
    """Whether a source has its artifact."""
    return live.condition("Ready") == "True"


@contextlib.asynccontextmanager
async def started(options: Options, folder: Path) -> AsyncIterator[Bench]:
    """All of it, stopped at the end."""
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(cluster.started(folder / "cluster"))
        await running.prepare((NAMESPACE,))
        git, registry = GitServer(folder / "git"), RegistryServer(folder / "registry")
        (folder / "git").mkdir()
        for server in (git, registry):
            await server.start()
            stack.push_async_callback(server.stop)
        watches = {plural: await _watched(running, plural, stack) for plural in PLURALS.values()}
        kubeconfig = await running.engine_kubeconfig(folder)
        hosts = f"127.0.0.1:{git.port},{registry.address}"
        engine = await EngineProcess.start(kubeconfig, folder / "engine", hosts)
        stack.push_async_callback(engine.stop)
        processes = Processes({"engine": engine.pid, "controlplane": running.pid, "bench": os.getpid()})
        yield Bench(options, folder, running.api, watches, engine, processes, git, registry)


async def _watched(running: Cluster, plural: str, stack: contextlib.AsyncExitStack) -> Watch:
    while True:
        with contextlib.suppress(NotFound):
            await running.api.get(collection(GROUPS[plural], plural))
            break
        await asyncio.sleep(0.1)
    watch = Watch()
    await stack.enter_async_context(running.followed(watch, GROUPS[plural], plural, NAMESPACE))
    return watch
