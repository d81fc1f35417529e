"""The store beside others: what a run that finds nothing new looks at, and processes that read while one writes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.artifact import store as store_module
from headrace.artifact.store import Integrity, Place, Store
from headrace.artifact.trees import Trees
from headrace.model.artifact import Artifact
from tests.manual_clock import ManualClock

APP = Place("gitrepository", "default", "app")
_READER = """
import hashlib, sys
for line in sys.stdin:
    with open(sys.argv[1], "rb") as file:
        print(hashlib.sha256(file.read()).hexdigest(), flush=True)
"""


async def publish(store: Store, text: str, name: str, *, alias: str = "") -> Artifact:
    async def produce(directory: Path) -> None:
        (directory / "a").write_text(text)

    return await store.publish(APP, name, await store.content(text, produce), "r", alias=alias)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Store:
    return Store(tmp_path, "source.example:9090", clock)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are listed."""
    listed: list[str] = []
    others, listdir = store_module._others, os.listdir

    def listing(folder: Path, current: Artifact | None) -> list[Path]:
        listed.append(folder.name)
        return others(folder, current)

    def naming(folder: Path) -> list[str]:
        listed.extend(["trees"] if folder.name == "trees" else [])
        return listdir(folder)

    monkeypatch.setattr(store_module, "_others", listing)
    monkeypatch.setattr("headrace.artifact.trees.os.listdir", naming)
    return listed


async def test_the_folder_of_an_object_is_listed_only_after_something_was_published(
    store: Store, clock: ManualClock, looks: list[str]
) -> None:
    first = await publish(store, "1", "r1.tar.gz")
    for _ in range(5):
        assert await store.collect(APP, first) == []
    assert looks == ["app"]
    second = await publish(store, "2", "r2.tar.gz")
    assert await store.collect(APP, second) == []
    clock.time += 61
    assert await store.collect(APP, second) == [first.path]
    assert looks == ["app"] * 3
    for _ in range(5):
        assert await store.collect(APP, second) == []
    assert looks == ["app"] * 3
    assert await store.verify(second) is Integrity.SOUND


async def test_what_an_earlier_process_left_is_found(tmp_path: Path, clock: ManualClock) -> None:
    before = Store(tmp_path, "source.example:9090", clock)
    await publish(before, "1", "r1.tar.gz")
    current = await publish(before, "2", "r2.tar.gz")
    again = Store(tmp_path, "source.example:9090", clock)
    await again.collect(APP, current)
    clock.time += 61
    assert await again.collect(APP, current) == [f"{APP}/r1.tar.gz"]


async def test_trees_are_listed_now_and_then_however_often_they_are_collected(
    store: Store, clock: ManualClock, looks: list[str]
) -> None:
    trees = Trees(store, clock)
    artifact = await publish(store, "1", "r1.tar.gz")
    async with trees.open(artifact) as tree:
        pass
    for _ in range(600):
        await trees.collect()
        clock.time += 1
    assert looks == ["trees"] * 10
    assert tree.directory.is_dir()
    clock.time += 61
    await trees.collect()
    assert not tree.directory.exists()


async def test_a_file_that_is_as_it_was_is_not_read_again(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = await publish(store, "1", "r1.tar.gz")
    read: list[str] = []
    verify = store._verify

    def reading(one: Artifact, delete: bool) -> Integrity:
        read.append(one.path)
        return verify(one, delete)

    monkeypatch.setattr(store, "_verify", reading)
    assert await store.verify(artifact) is Integrity.SOUND
    assert read == []
    (store.root / artifact.path).write_bytes(b"changed")
    assert await store.verify(artifact) is Integrity.TAMPERED
    assert read == [artifact.path]


@pytest.mark.spec("SRC-ART-05")
async def test_other_processes_read_whole_files_while_this_one_writes(store: Store, clock: ManualClock) -> None:
    first = await publish(store, "first", "r0.tar.gz", alias="latest.tar.gz")
    latest = store.root / str(APP) / "latest.tar.gz"
    readers = [
        subprocess.Popen([sys.executable, "-c", _READER, str(latest)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    digests = [first.digest]
    for number in range(10):
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write(b"read\n" * 20)
            reader.stdin.flush()
        made = await publish(store, str(number) * 100_000, f"r{number}.tar.gz", alias="latest.tar.gz")
        digests.append(made.digest)
        clock.time += 100
        await store.collect(APP, made)
    for reader in readers:
        out, _ = await asyncio.to_thread(reader.communicate)
        seen = {f"sha256:{line}" for line in out.decode().split()}
        assert reader.returncode == 0
        assert seen
        assert seen <= set(digests)
