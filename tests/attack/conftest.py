"""Fixtures of the attacks on a running engine: a tenant's world, a neighbour's namespace, and the strict engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.engine.engine import Engine
from headrace.kube.client import Client
from tests.attack.strict import strict_engine
from tests.cluster.kustomization.conftest import world
from tests.cluster.kustomization.world import World
from tests.own_namespace import own_namespace
from tests.servers.control_plane import ControlPlane

__all__ = ["world"]


@pytest.fixture
async def neighbour(client: Client) -> AsyncIterator[str]:
    """The namespace of another tenant."""
    async with own_namespace(client, "neighbour") as name:
        yield name


@pytest.fixture
async def strict(cluster: ControlPlane, world: World, tmp_path: Path) -> AsyncIterator[Engine]:
    async with strict_engine(cluster.config, tmp_path / "state", world.namespace) as engine:
        yield engine
