"""Fixtures: a toolbox for a whole module, and a world of Helm repositories for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from headrace.toolbox import Toolbox
from tests.servers.helm_world import HelmWorld, helm_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox() -> AsyncIterator[Toolbox]:
    async with Toolbox(size=1) as pool:
        yield pool


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path, toolbox: Toolbox) -> AsyncIterator[HelmWorld]:
    async with helm_world(tmp_path, toolbox) as made:
        yield made
