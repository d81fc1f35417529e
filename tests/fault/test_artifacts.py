"""REL rows on artifacts: full disks, power cuts, kills, clocks that jump. The old artifact is there or the new one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from headrace.artifact import files
from headrace.artifact.store import Integrity, Place, Store
from headrace.core.clock import SystemClock
from headrace.model.artifact import Artifact
from tests.manual_clock import ManualClock
from tests.servers.sources import REQUESTED, Sources, sources


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        yield made


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Every write beyond `size` fails, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    """A file system of its own at `directory`; skips where this process may not mount one."""
    directory.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


@pytest.mark.spec("REL-18")
async def test_a_write_that_fails_leaves_the_artifact_that_was_there(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    world.repo.commit({"a": os.urandom(300_000)})
    with files_no_larger_than(200_000):
        error = await world.failure(obj, REQUESTED)
    assert error.status == {}
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"a": b"1"}
    assert list(world.store.scratch.iterdir()) == []
    obj, _ = await world.run(obj, REQUESTED)
    assert obj.status.artifact is not None
    assert await world.store.verify(obj.status.artifact) is Integrity.SOUND


@pytest.mark.spec("REL-18")
async def test_a_full_disk_is_told_and_overcome(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", "2m"):
        async with sources(tmp_path) as world:
            world.repo.commit({"a": "1"})
            obj, _ = await world.run(world.object())
            commit = world.repo.commit({"a": "2" * 400_000})
            filler = tmp_path / "data" / "filler"
            remote = world.remotes.remote(*_identity(world))
            await remote.refs("refs/heads/main", max_age=0, timeout=10)
            await remote.commit(_target(commit), 10)
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(65536))
            error = await world.failure(obj, REQUESTED)
            assert (error.reason, error.condition) == ("ArchiveOperationFailed", "StorageOperationFailed")
            assert error.message == "unable to archive artifact to storage: No space left on device"
            assert obj.status.artifact is not None
            assert world.files(obj.status.artifact) == {"a": b"1"}
            filler.unlink()
            obj, _ = await world.run(obj, REQUESTED)
            assert obj.status.artifact is not None
            assert world.files(obj.status.artifact) == {"a": b"2" * 400_000}


def _identity(world: Sources):  # type: ignore[no-untyped-def]
    from headrace.core.egress import parse_url
    from headrace.source.git.credentials import Credentials

    return parse_url(world.server.url("app.git")), Credentials()


def _target(commit: str):  # type: ignore[no-untyped-def]
    from headrace.source.git.refs import Resolved

    return Resolved(commit, commit, f"main@sha1:{commit}", "refs/heads/main")


PROGRAM = """
import asyncio, sys
from pathlib import Path
from headrace.artifact.store import Place, Store
from headrace.core.clock import SystemClock

async def main(root, text):
    store = Store(Path(root), "x:1", SystemClock())
    async def produce(directory):
        (directory / "a").write_text(text)
    content = await store.content(text, produce)
    artifact = await store.publish(Place("gitrepository", "default", "app"), "latest.tar.gz", content, text)
    print(artifact.digest)

asyncio.run(main(*sys.argv[1:]))
"""


def publish(root: Path, text: str, fail: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": "src", "HEADRACE_FAIL": fail}
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(root), text], env=environment, capture_output=True,
                          text=True, check=not fail)  # fmt: skip
    assert done.returncode == (-9 if fail else 0)
    return done.stdout.strip()


@pytest.mark.spec("REL-29", "SEC-54")
@pytest.mark.parametrize("point", ["artifact.packed", "artifact.link", "artifact.linked"])
async def test_a_kill_at_any_moment_leaves_the_old_artifact_or_the_new_one(tmp_path: Path, point: str) -> None:
    old = publish(tmp_path, "old")
    publish(tmp_path, "new", f"{point}:kill")
    store = Store(tmp_path, "x:1", SystemClock())
    assert list(store.scratch.iterdir()) == []
    path = "gitrepository/default/app/latest.tar.gz"
    found = Artifact(path=path, url=store.url(path), revision="r", digest=old)
    if point == "artifact.linked":
        new = publish(tmp_path, "new")
        found = Artifact(path=path, url=store.url(path), revision="r", digest=new)
    assert await store.verify(found) is Integrity.SOUND
    assert publish(tmp_path, "new") != old


@pytest.mark.spec("REL-29")
async def test_files_and_directories_are_synced_before_an_artifact_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        calls.append("sync " + os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))
        real_sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        calls.append(f"rename to {str(target).removeprefix(str(tmp_path))}")
        return real_replace(self, target)

    monkeypatch.setattr(files.os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    store = Store(tmp_path, "x:1", SystemClock())

    async def produce(directory: Path) -> None:
        (directory / "a").write_text("1")

    content = await store.content("k", produce)
    await store.publish(Place("gitrepository", "default", "app"), "r.tar.gz", content, "r")
    kept = "/.headrace/content/" + content.digest.replace(":", "-") + ".tar.gz"
    assert calls[0].startswith("sync /.headrace/tmp/new-")
    assert calls[1:] == [
        f"rename to {kept}", "sync /.headrace/content",
        "rename to /gitrepository/default/app/r.tar.gz", "sync /gitrepository/default/app",
    ]  # fmt: skip


@pytest.mark.spec("REL-30")
@pytest.mark.parametrize("jump", [365 * 86400.0, -86400.0])
async def test_a_clock_that_jumps_collects_nothing_that_is_current(tmp_path: Path, jump: float) -> None:
    class Jumping(ManualClock):
        wall = 0.0

        def now(self) -> float:
            return self.time + self.wall

    clock = Jumping()
    store = Store(tmp_path, "x:1", clock)
    place = Place("gitrepository", "default", "app")
    made = []
    for number in range(2):

        async def produce(directory: Path, number: int = number) -> None:
            (directory / "a").write_text(str(number))

        content = await store.content(str(number), produce)
        made.append(await store.publish(place, f"r{number}.tar.gz", content, "r"))
        await store.collect(place, made[-1])
        clock.wall += jump
    assert await store.collect(place, made[-1]) == []
    assert [await store.verify(artifact) for artifact in made] == [Integrity.SOUND, Integrity.SOUND]


@pytest.mark.spec("REL-31")
async def test_files_of_equal_time_are_not_taken_for_one_another(tmp_path: Path) -> None:
    clock = ManualClock()
    store = Store(tmp_path, "x:1", clock)
    place = Place("gitrepository", "default", "app")
    made = []
    for number in range(4):

        async def produce(directory: Path, number: int = number) -> None:
            (directory / "a").write_text(str(number))

        content = await store.content(str(number), produce)
        made.append(await store.publish(place, f"r{number}.tar.gz", content, "r"))
    for artifact in made:
        os.utime(store.root / artifact.path, (1, 1))
    await store.collect(place, made[1])
    left = {path.name for path in (tmp_path / str(place)).iterdir()}
    assert "r1.tar.gz" in left
    assert len(left) == 2


async def test_one_repository_that_fails_hurts_no_other(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    objects = [world.object(f"app-{n}", **({"ref": {"branch": "missing"}} if n % 2 else {})) for n in range(20)]
    results = await asyncio.gather(*(world.run(obj) for obj in objects), return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [n % 2 == 1 for n in range(20)]
