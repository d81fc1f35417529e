"""Artifacts of other repositories in the one of a GitRepository, with real repositories on both sides."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.gitrepository import GitRepository
from headrace.model.errors import Retry, Waiting
from headrace.model.objects import LiveObject
from headrace.model.read import ABSENT
from headrace.model.reference import Reference
from tests.servers.git_http import Repository
from tests.servers.sources import INTERVAL, REQUESTED, Sources, sources

GROUP = "source.toolkit.fluxcd.io"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        yield made


@pytest.fixture
def shared(world: Sources) -> Repository:
    world.repo.commit({"app.yaml": "app"})
    repository = Repository(world.directory / "git", "shared.git")
    repository.commit({"base/x.yaml": "x", "base/deep/y.sh": "y", "other": "o"})
    (repository.work / "base/deep/y.sh").chmod(0o755)
    repository.commit({})
    return repository


def place(world: Sources, obj: GitRepository) -> None:
    """Have the object read by others."""
    reference = Reference(GROUP, "GitRepository", obj.metadata.namespace, obj.metadata.name)
    world.objects[reference] = LiveObject(reference, f"{GROUP}/v1", obj.metadata, msgspec.json.encode(obj))


async def deliver(world: Sources, name: str = "shared", **spec: Any) -> GitRepository:
    obj, _ = await world.run(world.object(name, url=world.server.url("shared.git"), **spec), REQUESTED)
    place(world, obj)
    return obj


def including(world: Sources, *entries: dict[str, Any], **spec: Any) -> GitRepository:
    return world.object(include=[{"repository": {"name": "shared"}, **entry} for entry in entries], **spec)


@pytest.mark.spec("SRC-GIT-32")
async def test_a_directory_of_another_repository_is_copied_to_a_path(world: Sources, shared: Repository) -> None:
    other = await deliver(world)
    entries = ({"fromPath": "base", "toPath": "vendored/base"}, {}, {"fromPath": "./base/deep/", "toPath": "/d"})
    obj, outcome = await world.run(including(world, *entries))
    assert obj.status.artifact is not None
    assert other.status.artifact is not None
    assert world.files(obj.status.artifact) == {
        "app.yaml": b"app", "vendored/base/x.yaml": b"x", "vendored/base/deep/y.sh": b"y", "shared/base/x.yaml": b"x",
        "shared/base/deep/y.sh": b"y", "shared/other": b"o", "d/y.sh": b"y",
    }  # fmt: skip
    archive = world.store.root / obj.status.artifact.path
    listed = subprocess.run(["tar", "tvzf", archive], capture_output=True, text=True, check=True)
    assert [line[:10] for line in listed.stdout.splitlines() if line.endswith(" d/y.sh")] == ["-rwx------"]
    assert obj.status.observed_include == obj.spec.include
    digests = [artifact.digest for artifact in obj.status.included_artifacts]
    assert digests == [other.status.artifact.digest] * 3
    assert outcome.status["observedInclude"] == [
        {"repository": {"name": "shared"}, "fromPath": "base", "toPath": "vendored/base"},
        {"repository": {"name": "shared"}},
        {"repository": {"name": "shared"}, "fromPath": "./base/deep/", "toPath": "/d"},
    ]


@pytest.mark.spec("SRC-GIT-33")
async def test_an_include_that_is_not_there_yet_is_waited_for(world: Sources, shared: Repository) -> None:
    obj = including(world, {})
    reference = Reference(GROUP, "GitRepository", "default", "shared")
    error = await world.failure(obj)
    assert isinstance(error, Waiting)
    assert (error.reason, error.condition, error.objects) == ("NotFound", "IncludeUnavailable", (reference,))
    assert error.message.startswith("could not get resource for include 'shared': ")
    assert world.scope is not None
    assert (reference, ABSENT) in [(read.reference, read.digest) for read in world.scope.reads]
    place(world, world.object("shared"))
    error = await world.failure(obj)
    assert isinstance(error, Waiting)
    assert (error.reason, error.condition, error.objects) == ("NoArtifact", "IncludeUnavailable", (reference,))
    assert error.message == "no artifact available for include 'shared'"
    await deliver(world)
    obj, _ = await world.run(obj)
    assert obj.status.artifact is not None


@pytest.mark.spec("SRC-GIT-34")
async def test_another_artifact_of_an_include_makes_another_artifact(world: Sources, shared: Repository) -> None:
    await deliver(world)
    obj, _ = await world.run(including(world, {"fromPath": "base"}))
    before = obj.status.artifact
    again, outcome = await world.run(obj, INTERVAL)
    assert (again.status.artifact, outcome.event) == (before, "")
    assert world.scope is not None
    reads = {read.digest for read in world.scope.reads if read.reference.kind == "GitRepository"}
    shared.commit({"base/x.yaml": "new"})
    await deliver(world)
    obj, outcome = await world.run(obj, INTERVAL)
    assert obj.status.artifact is not None
    assert before is not None
    assert world.files(obj.status.artifact)["shared/x.yaml"] == b"new"
    assert (obj.status.artifact.revision, outcome.event_reason) == (before.revision, "NewArtifact")
    assert obj.status.artifact.digest != before.digest
    assert world.scope is not None
    assert reads.isdisjoint(read.digest for read in world.scope.reads if read.reference.kind == "GitRepository")
    [(_, _, [outdated])] = world.scope.said
    assert (outdated.type, outdated.reason) == ("ArtifactOutdated", "IncludeChange")


@pytest.mark.spec("SRC-GIT-34")
async def test_a_changed_list_of_includes_makes_another_artifact(world: Sources, shared: Repository) -> None:
    await deliver(world)
    obj, _ = await world.run(including(world, {"fromPath": "base"}))
    plain = world.object()
    plain = world.with_status(plain, msgspec.to_builtins(obj.status))
    plain, _ = await world.run(plain, INTERVAL)
    assert plain.status.artifact is not None
    assert world.files(plain.status.artifact) == {"app.yaml": b"app"}
    assert (plain.status.observed_include, plain.status.included_artifacts) == ((), ())


@pytest.mark.spec("SRC-GIT-35")
@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        pytest.param([{"toPath": "dir"}], "the destination exists and is not empty", id="of the repository"),
        pytest.param([{"toPath": "."}], "the destination exists and is not empty", id="root"),
        pytest.param([{}, {"toPath": "shared/base"}], "the destination exists and is not empty", id="twice"),
        pytest.param([{"toPath": "dir/file"}], "a file is in the way", id="file"),
        pytest.param([{"toPath": "dir/file/x"}], "a file is in the way", id="below a file"),
        pytest.param([{"fromPath": "missing"}], "no such directory", id="missing"),
        pytest.param([{"fromPath": "other"}], "no such directory", id="from a file"),
    ],
)
async def test_an_include_never_overwrites(
    world: Sources, shared: Repository, entries: list[dict[str, Any]], problem: str
) -> None:
    world.repo.commit({"dir/file": "mine"})
    await deliver(world)
    error = await world.failure(including(world, *entries))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("CopyFailure", "StorageOperationFailed")
    assert error.message.startswith("failed to copy 'shared' include from ")
    assert error.message.endswith(problem)


@pytest.mark.spec("SRC-GIT-36")
async def test_dots_in_the_paths_lead_nowhere_else(world: Sources, shared: Repository) -> None:
    await deliver(world)
    obj, _ = await world.run(including(world, {"fromPath": "../../../base", "toPath": "a/../../../../b"}))
    assert obj.status.artifact is not None
    assert set(world.files(obj.status.artifact)) == {"app.yaml", "b/x.yaml", "b/deep/y.sh"}
    obj, _ = await world.run(including(world, {"toPath": ".git/hooks"}))
    assert obj.status.artifact is not None
    assert set(world.files(obj.status.artifact)) == {"app.yaml"}


async def test_what_is_ignored_is_ignored_in_includes_too(world: Sources, shared: Repository) -> None:
    await deliver(world)
    obj, _ = await world.run(including(world, {}, ignore="deep/\n/shared/other"))
    assert obj.status.artifact is not None
    assert set(world.files(obj.status.artifact)) == {"app.yaml", "shared/base/x.yaml"}


async def test_an_include_whose_file_is_lost_is_not_left_out(world: Sources, shared: Repository) -> None:
    other = await deliver(world)
    assert other.status.artifact is not None
    (world.store.root / other.status.artifact.path).unlink()
    await world.trees.collect()
    for tree in world.store.trees.iterdir():
        subprocess.run(["rm", "-rf", tree], check=True)
    error = await world.failure(including(world, {}))
    assert (error.reason, error.condition) == ("CopyFailure", "StorageOperationFailed")
    assert world.lost != []
