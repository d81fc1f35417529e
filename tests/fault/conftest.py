"""Fixtures of faults: a world, and engines that can be killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.kube.client import Client
from headrace.kube.discovery import Discovery
from tests.cluster.kustomization.conftest import install_crds
from tests.cluster.kustomization.world import World
from tests.fault.killable import KillableEngines
from tests.servers.control_plane import ControlPlane
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
