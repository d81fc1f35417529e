"""Fixtures of faults: a world, engines that can be killed, and one that meets its cluster through a fault proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.kube.client import Client
from headrace.kube.discovery import Discovery
from tests.cluster.kustomization.conftest import install_crds
from tests.cluster.kustomization.world import RunningEngine, World, running_engine
from tests.fault.killable import KillableEngines
from tests.fault.leader_process import LeaderProcess, Made
from tests.servers.control_plane import ControlPlane
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.git_http import GitServer, Repository


@pytest.fixture
async def world(client: Client, namespace: str, tmp_path: Path) -> AsyncIterator[World]:
    await install_crds(client)
    git = GitServer(tmp_path)
    await git.start()
    yield World(client, Discovery(client), namespace, git, Repository(tmp_path, "app.git"))
    await git.stop()


@pytest.fixture
async def engines(cluster: ControlPlane, world: World, tmp_path: Path) -> AsyncIterator[KillableEngines]:
    killable = KillableEngines(cluster.kubeconfig, tmp_path / "state", world.namespace)
    yield killable
    await killable.kill()


@pytest.fixture
async def proxy(cluster: ControlPlane) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(cluster.config) as proxy:
        yield proxy


@pytest.fixture
async def engine(proxy: FaultProxy, world: World, tmp_path: Path) -> AsyncIterator[RunningEngine]:
    """An engine whose every request goes through `proxy`."""
    async with running_engine(proxy.config, tmp_path / "state", world.namespace) as running:
        yield running


@pytest.fixture
async def leader(world: World, tmp_path: Path) -> AsyncIterator[Made]:
    """Makes engines that compete for one lease; none is left."""
    made: list[LeaderProcess] = []

    def make(name: str) -> LeaderProcess:
        made.append(LeaderProcess(world, tmp_path, name))
        return made[-1]

    yield make
    for process in made:
        await process.kill()
