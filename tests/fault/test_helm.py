"""Servers of Helm repositories that fail half-way, and disks that are full: what was there stays (REL-17, REL-18)."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.model.errors import Retry
from headrace.toolbox import Toolbox
from tests.servers.helm_world import HelmWorld, helm_world
from tests.servers.sources import REQUESTED


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HelmWorld]:
    async with Toolbox(size=1) as toolbox, helm_world(tmp_path, toolbox) as made:
        yield made


@pytest.mark.spec("REL-17", "SRC-COM-09")
@pytest.mark.parametrize("kind", ["truncate", "stall"])
async def test_an_index_that_ends_half_way_leaves_the_one_that_was_there(world: HelmWorld, kind: str) -> None:
    world.server.add()
    done, _ = await world.run(world.repository(timeout="1s"))
    assert done.status.artifact is not None
    stored = (world.store.root / done.status.artifact.path).read_bytes()
    world.server.add("app", "2.0.0")
    world.server.fault = (kind, "index.yaml")
    error = await world.failure(done, REQUESTED)
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("Failed", "FetchFailed")
    assert (world.store.root / done.status.artifact.path).read_bytes() == stored
    assert list(world.store.scratch.iterdir()) == []
    world.server.fault = None
    again, _ = await world.run(done, REQUESTED)
    assert again.status.artifact is not None
    assert again.status.artifact.revision != done.status.artifact.revision


@pytest.mark.spec("REL-17")
@pytest.mark.parametrize("kind", ["truncate", "stall"])
@pytest.mark.parametrize("values", [[], ["values.yaml", "values.yaml"]], ids=["pulled", "packaged"])
async def test_a_chart_that_ends_half_way_is_never_stored(world: HelmWorld, kind: str, values: list[str]) -> None:
    archive = world.server.add()
    await world.indexed(timeout="1s")
    world.server.fault = (kind, "/charts/")
    error = await world.failure(world.chart(valuesFiles=values))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("ChartPullError", "FetchFailed")
    assert list(world.store.root.glob("helmchart/**/*")) == []
    assert list(world.store.scratch.iterdir()) == []
    world.server.fault = None
    done, _ = await world.run(world.chart(valuesFiles=values), REQUESTED)
    assert values or world.archive(done) == archive


@pytest.mark.spec("REL-18")
async def test_a_full_disk_leaves_the_chart_that_was_there(
    world: HelmWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.server.add()
    await world.indexed()
    done, _ = await world.run(world.chart())
    world.server.add("app", "2.0.0")
    await world.run(world.repository(), REQUESTED)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("headrace.controllers.helm.remote.shutil.copyfileobj", full)
        error = await world.failure(done, REQUESTED)
    assert (error.reason, error.condition) == ("ArchiveOperationFailed", "StorageOperationFailed")
    assert "No space left on device" in error.message
    assert done.status.artifact is not None
    assert (world.store.root / done.status.artifact.path).is_file()
    again, _ = await world.run(done, REQUESTED)
    assert again.status.artifact is not None
    assert again.status.artifact.revision == "2.0.0"
