"""Fixtures for every test: a real control plane, a client of it, and a namespace of one's own.

cluster    one embedded control plane for the whole run, whatever the number of workers (`cluster.kubeconfig`,
`cluster.config`)
client     an administrator's Client of it, closed after the test
namespace  the name of a fresh namespace; see `own_namespace` for what goes afterwards
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from headrace.kube.client import Client
from tests.own_namespace import own_namespace
from tests.servers.control_plane import ControlPlane, shared_control_plane

pytest_plugins = ("tests.conformance_plugin",)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "spec(*ids): rows of docs/conformance that the test proves")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[ControlPlane]:
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    with shared_control_plane(shared / "control-plane") as running:
        yield running


@pytest.fixture
async def client(cluster: ControlPlane) -> AsyncIterator[Client]:
    async with Client(cluster.config) as client:
        yield client


@pytest.fixture
async def namespace(client: Client) -> AsyncIterator[str]:
    async with own_namespace(client) as name:
        yield name
