"""Registries that fail in the middle: nothing half done is published, and the next run finds its way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.artifact import store as stores
from headrace.model.errors import Retry
from tests.cluster.ocirepository.world import OciWorld, oci_world
from tests.servers.registry import Fault
from tests.servers.sources import REQUESTED


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[OciWorld]:
    async with oci_world(tmp_path) as made:
        yield made


@pytest.mark.spec("REL-17")
@pytest.mark.parametrize("operation", ["extract", "copy"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(Fault("truncate", "blobs", after=20), "connection to registry", id="truncated"),
        pytest.param(Fault("stall", "blobs", after=20), "did not answer in time", id="stalled"),
        pytest.param(Fault("corrupt", "blobs"), "does not match its digest", id="another content"),
        pytest.param(Fault("status", "blobs", status=500), "status 500", id="error"),
        pytest.param(Fault("truncate", "manifests", after=20), "connection to registry", id="truncated manifest"),
    ],
)
async def test_a_download_that_fails_leaves_the_old_artifact_and_is_made_good(
    world: OciWorld, fault: Fault, said: str, operation: str
) -> None:
    spec = {"layerSelector": {"operation": operation}, "timeout": "3s"}
    await world.pusher().push("latest", {"a": "1" * 500})
    obj, _ = await world.run(world.object(**spec))
    before = obj.status.artifact
    moved = await world.pusher().push("latest", {"a": "2" * 500})
    world.server.faults[:] = [fault]
    error = await world.failure(obj, REQUESTED)
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("OCIArtifactPullFailed", "FetchFailed")
    assert said in error.message
    assert before is not None
    assert (world.store.root / before.path).exists()
    assert not list(world.store.scratch.iterdir()), "nothing is left behind"
    world.server.faults.clear()
    obj, _ = await world.run(obj, REQUESTED)
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"latest@{moved.digest}"


@pytest.mark.spec("REL-28")
async def test_a_registry_that_dies_is_waited_for_and_found_again(world: OciWorld) -> None:
    await world.pusher().push("latest")
    obj, _ = await world.run(world.object(timeout="3s"))
    world.server.kill()
    error = await world.failure(obj, REQUESTED)
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("OCIArtifactPullFailed", "FetchFailed")
    port = world.server.port
    await world.server.stop()
    assert "cannot connect" in (await world.failure(obj, REQUESTED)).message
    world.server.port = port
    await world.server.start()
    obj, outcome = await world.run(obj, REQUESTED)
    assert outcome.reason == "Succeeded"


@pytest.mark.spec("REL-18")
async def test_a_full_disk_leaves_the_old_artifact(world: OciWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.pusher().push("latest")
    obj, _ = await world.run(world.object())
    await world.pusher().push("latest", {"b": "2"})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stores, "pack", full)
    error = await world.failure(obj, REQUESTED)
    assert (error.reason, error.condition) == ("ArchiveOperationFailed", "StorageOperationFailed")
    assert "No space left on device" in error.message
    assert obj.status.artifact is not None
    assert (world.store.root / obj.status.artifact.path).exists()


@pytest.mark.spec("REL-20")
async def test_a_registry_that_asks_for_patience_is_asked_again_when_it_said(world: OciWorld) -> None:
    await world.pusher().push("latest")
    busy = {"Retry-After": "120"}
    world.server.faults.append(Fault("status", "manifests", method="HEAD", status=429, headers=busy))
    error = await world.failure(world.object())
    assert isinstance(error, Retry)
    assert error.after == pytest.approx(120, abs=5)
