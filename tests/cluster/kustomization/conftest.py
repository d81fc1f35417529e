"""Fixtures: the CRDs on the control plane, a world with a repository, and an engine that serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import yaml

import headrace
from headrace.kube.client import Client
from headrace.kube.discovery import Discovery
from headrace.kube.resource import Resource
from tests.cluster.kustomization.world import RunningEngine, World, running_engine
from tests.servers.control_plane import ControlPlane
from tests.servers.git_http import GitServer, Repository

CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False)


_installed: set[str] = set()
"""API servers that have our CRDs: each application of one has the API server build its schemas anew."""


async def install_crds(client: Client) -> None:
    """Apply our CRDs, once for an API server, and wait until their kinds are served."""
    if client.config.server in _installed:
        return
    discovery = Discovery(client)
    for path in sorted((Path(headrace.__file__).parent / "api" / "crds").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            body, name = msgspec.json.encode(document), document["metadata"]["name"]
            await client.apply(CRDS, "", name, body, field_manager="tests")
            await discovery.wait(document["spec"]["group"], document["spec"]["names"]["kind"])
    _installed.add(client.config.server)


@pytest.fixture
async def world(client: Client, namespace: str, tmp_path: Path) -> AsyncIterator[World]:
    await install_crds(client)
    git = GitServer(tmp_path)
    await git.start()
    yield World(client, Discovery(client), namespace, git, Repository(tmp_path, "app.git"))
    await git.stop()


@pytest.fixture
async def engine(cluster: ControlPlane, world: World, tmp_path: Path) -> AsyncIterator[RunningEngine]:
    async with running_engine(cluster.config, tmp_path / "state", world.namespace) as running:
        yield running
