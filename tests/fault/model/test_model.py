"""REL-43: random commits and random faults against a model of what Git has said.

ROUNDS and SEED choose how much and what; the seed is printed, and with a failure everything since all was right the
last time. RECORD names a directory that keeps the log.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.cluster import EmbeddedCluster
from headrace.kube.client import Client
from headrace.kube.config import load_kubeconfig
from headrace.kube.discovery import Discovery
from headrace.kube.resource import Resource
from tests.cluster.kustomization.conftest import install_crds
from tests.cluster.kustomization.world import World, config_map
from tests.fault.model.commits import commit
from tests.fault.model.desired import COLOR, HOME, OWNERS, SECOND, Repository
from tests.fault.model.judge import Foreign, Judge
from tests.fault.model.observer import Observer
from tests.fault.model.process import EngineProcess
from tests.fault.model.run import Run
from tests.fault.model.trouble import DENIED, POLICY, Trouble
from tests.own_namespace import NAMESPACES
from tests.servers import git_http
from tests.servers.fault_proxy import fault_proxy

ROUNDS = int(os.environ.get("ROUNDS", "40"))
# The short run is the same each time, but for its timing; the long one is another each time.
SEED = int(os.environ.get("SEED", str(random.SystemRandom().randrange(2**32) if "ROUNDS" in os.environ else 5)))
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)


@pytest.fixture
async def own_cluster(tmp_path: Path) -> AsyncIterator[EmbeddedCluster]:
    """A control plane of one's own: its API server is going to be killed."""
    async with EmbeddedCluster(tmp_path / "cluster", ephemeral=True) as cluster:
        yield cluster


@pytest.fixture
async def world(own_cluster: EmbeddedCluster, tmp_path: Path) -> AsyncIterator[World]:
    git = git_http.GitServer(tmp_path)
    await git.start()
    async with Client(load_kubeconfig(own_cluster.kubeconfig, trusted=True)) as client:
        await install_crds(client)
        yield World(client, Discovery(client), HOME, git, git_http.Repository(tmp_path, "app.git"))
    await git.stop()


async def furnish(world: World, chance: random.Random) -> None:
    """The namespaces, the policy that denies nothing yet, the source and the Kustomizations."""
    for name in (HOME, SECOND):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await world.client.create(NAMESPACES, "", msgspec.json.encode(body))
    await world.client.create(CONFIG_MAPS, HOME, msgspec.json.encode(config_map(DENIED)))
    for policy in POLICY:
        resource = await world.resource(policy["apiVersion"], policy["kind"])
        await world.client.create(resource, "", msgspec.json.encode(policy))
    await world.source()
    for owner in OWNERS:
        spec = {
            "path": f"./{owner}", "retryInterval": "1s", "timeout": "30s", "wait": chance.random() < 0.4,
            "postBuild": {"substitute": {"color": COLOR}},
        }  # fmt: skip
        await world.kustomization(owner, **spec)


@pytest.mark.spec("REL-43")
@pytest.mark.timeout(240 + 6 * ROUNDS)
async def test_after_random_commits_and_faults_the_cluster_is_what_git_says(
    own_cluster: EmbeddedCluster, world: World, tmp_path: Path
) -> None:
    print(f"SEED={SEED} ROUNDS={ROUNDS}")
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # the proxy's clients are killed all the time
    record = Path(os.environ.get("RECORD") or tmp_path)
    record.mkdir(parents=True, exist_ok=True)
    log = record / f"rounds-{SEED}.log"
    log.unlink(missing_ok=True)
    repository, foreign = Repository(), Foreign()
    async with fault_proxy(world.client.config) as proxy, Observer(world.client.config).running() as observer:
        engine = EngineProcess(proxy.write_kubeconfig(tmp_path / "kubeconfig"), tmp_path, HOME)
        trouble = Trouble(world.client, own_cluster, proxy, engine, foreign, lambda line: run.tell(line))
        judge = Judge(repository, foreign)
        run = Run(SEED, world, observer, judge, trouble, engine, log, repository)
        try:
            await begin(run)
            await run.rounds(ROUNDS)
        finally:
            await engine.kill()
    print(f"{ROUNDS} rounds; {dict(sorted(trouble.counts.items()))}; pauses {[round(p, 1) for p in run.pauses]}")


async def begin(run: Run) -> None:
    """The first revision, delivered without any fault."""
    chance = random.Random(f"{run.seed}/0")
    await run.push(commit(None, chance), "the first commit")
    await furnish(run.world, chance)
    await run.pause(0)
