"""The store: packed the same every time, linked, served, opened, collected."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from headrace.artifact.pack import Packed, pack
from headrace.artifact.server import artifact_application
from headrace.artifact.store import Integrity, Place, Store, stored_reference
from headrace.artifact.trees import Trees
from headrace.core.clock import SystemClock
from headrace.core.unpack import unpack
from headrace.edge.listen import serve
from headrace.model.artifact import Artifact
from headrace.model.errors import StepError, Waiting
from tests.manual_clock import ManualClock

APP = Place("gitrepository", "default", "app")


def write(directory: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def packed(directory: Path) -> bytes:
    stream = io.BytesIO()
    pack(directory, stream)
    return stream.getvalue()


async def stored(store: Store, files: dict[str, str], *, place: Place = APP, revision: str = "r1") -> Artifact:
    async def produce(directory: Path) -> None:
        write(directory, files)

    content = await store.content(repr(files), produce)
    return await store.publish(place, f"{revision}.tar.gz", content, revision)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Store:
    return Store(tmp_path / "data", "source.example:9090", clock)


# -- packing ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-ART-01", "SRC-ART-02")
def test_the_same_files_give_the_same_bytes_whatever_their_times_modes_and_order(tmp_path: Path) -> None:
    files = {"b/x": "1", "a": "2", "b.txt": "3", "b-c/y": "4", "é": "5"}
    for name, order in (("one", files), ("two", dict(reversed(files.items())))):
        (tmp_path / name).mkdir()
        write(tmp_path / name, order)
    os.utime(tmp_path / "two" / "a", (1, 1))
    (tmp_path / "two" / "a").chmod(0o444)
    assert packed(tmp_path / "one") == packed(tmp_path / "two")


@pytest.mark.spec("SRC-ART-02", "SRC-ART-03")
def test_an_archive_is_as_consumers_of_flux_sources_expect_it(tmp_path: Path) -> None:
    write(tmp_path, {"b/x": "1", "a": "2", "run": "3"})
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path))) as tar:
        members = {member.name: member for member in tar}
    assert list(members) == [".", "a", "b", "b/x", "empty", "run"]
    modes = {name: member.mode for name, member in members.items()}
    assert modes == {".": 0o750, "a": 0o600, "b": 0o750, "b/x": 0o600, "empty": 0o750, "run": 0o700}
    for member in members.values():
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0)


@pytest.mark.parametrize(
    "name", ["x" * 100, "x" * 101, f"{'d' * 150}/{'f' * 99}", f"{'d' * 200}/{'f' * 200}", "ü" * 60]
)
def test_long_and_foreign_names_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    write(source, {name: "content"})
    data = packed(source)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert name in tar.getnames()
    unpack(io.BytesIO(data), target)
    assert (target / name).read_text() == "content"


@pytest.mark.spec("SRC-ART-01")
def test_identity_is_that_of_the_tar_and_not_of_its_compression(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    write(source, {"a": "1" * 5000})
    stream = io.BytesIO()
    ours = pack(source, stream)
    again = gzip.compress(gzip.decompress(stream.getvalue()), 9)
    assert unpack(io.BytesIO(again), target).digest == ours.tar_digest
    assert again != stream.getvalue()


# -- storing ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-ART-04")
async def test_digest_and_size_are_those_of_the_file(store: Store) -> None:
    artifact = await stored(store, {"a": "1"})
    data = (store.root / artifact.path).read_bytes()
    assert artifact.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert artifact.size == len(data)
    assert artifact.path == "gitrepository/default/app/r1.tar.gz"
    assert artifact.url == "http://source.example:9090/gitrepository/default/app/r1.tar.gz"


async def test_the_same_content_is_packed_once_and_linked_for_each_object(store: Store) -> None:
    made = 0

    async def produce(directory: Path) -> None:
        nonlocal made
        made += 1
        write(directory, {"a": "1"})

    contents = await asyncio.gather(*(store.content("key", produce) for _ in range(50)))
    artifacts = [
        await store.publish(Place("gitrepository", "default", f"app-{n}"), "r.tar.gz", content, "r")
        for n, content in enumerate(contents)
    ]
    assert made == 1
    assert len({(store.root / artifact.path).stat().st_ino for artifact in artifacts}) == 1


async def test_another_algorithm_is_another_digest(tmp_path: Path, clock: ManualClock) -> None:
    store = Store(tmp_path, "x:1", clock, algorithm="sha512")
    artifact = await stored(store, {"a": "1"})
    assert artifact.digest.startswith("sha512:")
    assert await store.verify(artifact) is Integrity.SOUND


async def test_a_new_engine_knows_what_an_old_one_has_stored(store: Store, clock: ManualClock) -> None:
    artifact = await stored(store, {"a": "1"})
    again = Store(store.root, store.address, clock)
    assert await again.verify(artifact) is Integrity.SOUND
    assert await again.tar_digest(artifact) == await store.tar_digest(artifact) != ""
    assert again.installation_key() == store.installation_key()
    assert len(store.installation_key()) == 32


# -- collecting -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-ART-06")
async def test_old_artifacts_go_by_age_and_then_by_number_and_the_current_one_stays(
    store: Store, clock: ManualClock
) -> None:
    made = []
    for number in range(4):
        made.append(await stored(store, {"a": str(number)}, revision=f"r{number}"))
        await store.collect(APP, made[-1])
        clock.time += 1
    assert sorted(path.name for path in (store.root / str(APP)).iterdir()) == ["r2.tar.gz", "r3.tar.gz"]
    clock.time += 61
    assert await store.collect(APP, made[-1]) == [made[2].path]
    clock.time += 10**9
    assert await store.collect(APP, made[-1]) == []
    assert await store.verify(made[-1]) is Integrity.SOUND


async def test_content_that_nobody_links_goes_too_and_what_is_linked_stays(store: Store, clock: ManualClock) -> None:
    kept = await stored(store, {"a": "1"})
    gone = await stored(store, {"a": "2"}, place=Place("gitrepository", "default", "gone"))
    clock.time += 100
    await store.remove(Place("gitrepository", "default", "gone"))
    contents = {path.name for path in (store.root / ".headrace" / "content").iterdir()}
    assert contents == {kept.digest.replace(":", "-") + ".tar.gz"}
    assert await store.verify(gone) is Integrity.LOST
    assert await store.verify(kept) is Integrity.SOUND


async def test_many_objects_can_be_removed_at_once(store: Store, clock: ManualClock) -> None:
    places = [Place("gitrepository", "default", f"app-{number}") for number in range(100)]
    for place in places:
        await stored(store, {"a": place.name}, place=place)
    clock.time += 100
    await asyncio.gather(*map(store.remove, places))
    assert list((store.root / ".headrace" / "content").iterdir()) == []


async def test_nothing_is_remembered_of_revisions_that_are_gone(store: Store, clock: ManualClock) -> None:
    trees = Trees(store, clock)
    for number in range(20):
        artifact = await stored(store, {"a": str(number)}, revision=f"r{number}")
        async with trees.open(artifact):
            pass
        clock.time += 1000
        await store.collect(APP, artifact)
        await trees.collect()
    assert max(map(len, (store._verified, store._tars, trees._known, trees._opening))) <= 4
    await store.remove(APP)
    assert not [path for path in store._verified if path.parent == store.root / str(APP)]


# -- opening ----------------------------------------------------------------------------------------------------------


async def test_readers_share_one_tree_and_it_stays_while_one_reads(store: Store, clock: ManualClock) -> None:
    artifact = await stored(store, {"a": "1"})
    other = await stored(store, {"a": "1"}, place=Place("gitrepository", "default", "other"))
    trees = Trees(store, clock)
    async with trees.open(artifact) as one, trees.open(other) as two:
        assert one == two
        assert one.digest == await store.tar_digest(artifact)
        clock.time += 10**6
        await trees.collect()
        clock.time += 10**6
        await trees.collect()
        assert (one.directory / "a").read_text() == "1"
    await trees.collect()
    assert one.directory.is_dir(), "just read"
    clock.time += 601
    await trees.collect()
    assert not one.directory.exists()
    async with trees.open(artifact) as again:
        assert (again.directory / "a").read_text() == "1"


async def test_a_tree_is_the_same_whether_it_was_packed_or_unpacked(store: Store, clock: ManualClock) -> None:
    artifact = await stored(store, {"a": "1", "b/c": "2"})
    packed_here = await store.tar_digest(artifact)
    later = Store(store.root, store.address, clock)
    async with Trees(later, clock).open(artifact) as tree:
        assert tree.digest == packed_here
        assert packed(tree.directory) == (store.root / artifact.path).read_bytes()


@pytest.mark.spec("REL-17")
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
async def test_a_damaged_artifact_is_never_opened_and_its_source_is_told(
    store: Store, clock: ManualClock, damage: str
) -> None:
    artifact = await stored(store, {"a": "1"})
    path = store.root / artifact.path
    data = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(data[:-5] if damage == "truncate" else data[:20] + bytes([data[20] ^ 1]) + data[21:])
    lost: list[Artifact] = []
    later = Store(store.root, store.address, clock)
    with pytest.raises(Waiting, match="is missing in storage or damaged") as caught:
        async with Trees(later, clock, lost=lost.append).open(artifact):
            raise AssertionError("it was opened")
    assert caught.value.reason == "ArtifactFailed"
    assert caught.value.objects == (stored_reference(artifact.path),)
    assert lost == [artifact]
    assert await later.verify(artifact) is not Integrity.SOUND


@pytest.mark.spec("SEC-25")
@pytest.mark.parametrize("ours", [True, False])
async def test_what_is_said_elsewhere_of_a_stored_file_does_not_delete_it(
    store: Store, clock: ManualClock, ours: bool
) -> None:
    """An ExternalArtifact, or a status that a tenant has written, may name any path with any digest."""
    artifact = await stored(store, {"a": "1"})
    url = store.url(artifact.path) if ours else "http://elsewhere.example/x.tar.gz"
    said = Artifact(path=artifact.path, url=url, revision="r", digest="sha256:" + "0" * 64)
    with pytest.raises(StepError):
        async with Trees(store, clock).open(said):
            raise AssertionError("it was opened")
    assert await store.verify(artifact) is Integrity.SOUND


# -- serving ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def listening(store: Store) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    async with serve(artifact_application(store), "127.0.0.1:0") as address, aiohttp.ClientSession() as session:
        yield session, f"http://{address}"


@pytest.mark.spec("SRC-ART-07", "SRC-ART-04")
async def test_the_server_gives_files_their_heads_and_ranges(store: Store) -> None:
    artifact = await stored(store, {"a": "1"})
    data = (store.root / artifact.path).read_bytes()
    async with listening(store) as (session, url):
        async with session.get(f"{url}/{artifact.path}", auto_decompress=False) as answer:
            assert (answer.status, await answer.read()) == (200, data)
        async with session.head(f"{url}/{artifact.path}") as answer:
            assert (answer.status, answer.content_length) == (200, len(data))
        async with session.get(
            f"{url}/{artifact.path}", headers={"Range": "bytes=2-5"}, auto_decompress=False
        ) as answer:
            assert (answer.status, await answer.read()) == (206, data[2:6])
        async with session.get(url + "/") as answer:
            assert answer.status == 200
        async with session.post(f"{url}/{artifact.path}") as answer:
            assert answer.status == 405


@pytest.mark.spec("SRC-ART-07", "SEC-47")
async def test_the_server_gives_nothing_else(store: Store, tmp_path: Path) -> None:
    artifact = await stored(store, {"a": "1"})
    (tmp_path / "outside.tar.gz").write_text("canary")
    store.installation_key()
    folder = store.root / str(APP)
    (folder / "link.tar.gz").symlink_to(tmp_path / "outside.tar.gz")
    (store.root / "gitrepository" / "linked").symlink_to(tmp_path)
    asked = [
        "gitrepository", "gitrepository/default/app", "gitrepository/default/app/", "missing",
        "../outside.tar.gz", "%2e%2e/outside.tar.gz", "gitrepository/../../outside.tar.gz",
        "gitrepository/%2e%2e/%2e%2e/outside.tar.gz", "gitrepository%2f..%2f..%2foutside.tar.gz",
        "..%5coutside.tar.gz", ".headrace/key", "./.headrace/key", "gitrepository/default/app/link.tar.gz",
        "gitrepository/linked/outside.tar.gz", f"/{artifact.path}", artifact.path.upper(), f"{artifact.path}%00",
    ]  # fmt: skip
    async with listening(store) as (_, url):
        port = int(url.rpartition(":")[2])
        for path in asked:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET /{path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            assert answer.split()[1] in (b"404", b"400"), path
            assert b"canary" not in answer


@pytest.mark.spec("SEC-11", "SEC-47")
@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden", "a\\b", "-x", "a\n"])
def test_a_place_has_plain_names(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a path"):
        Place("gitrepository", "default", name)


@pytest.mark.spec("SRC-ART-05", "REL-31")
async def test_a_reader_gets_one_whole_file_while_it_is_replaced_and_collected(
    store: Store, clock: ManualClock
) -> None:
    expected: dict[str, int] = {}
    stop = asyncio.Event()

    async def replace() -> None:
        for number in range(40):
            artifact = await stored(store, {"a": str(number) * 20_000}, revision="latest")
            expected[artifact.digest] = number
            clock.time += 100
            await store.collect(APP, artifact)
        stop.set()

    first = await stored(store, {"a": "x"}, revision="latest")
    expected[first.digest] = -1
    async with listening(store) as (session, url), asyncio.TaskGroup() as group:
        group.create_task(replace())
        seen = set()
        while not stop.is_set():
            async with session.get(f"{url}/{first.path}", auto_decompress=False) as answer:
                assert answer.status == 200
                seen.add("sha256:" + hashlib.sha256(await answer.read()).hexdigest())
    assert seen <= expected.keys()


async def test_a_packed_content_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path / "t", {"a": "1"})
    stream = io.BytesIO()
    result = await asyncio.to_thread(pack, tmp_path / "t", stream)
    tar = gzip.decompress(stream.getvalue())
    assert result == Packed(
        "sha256:" + hashlib.sha256(stream.getvalue()).hexdigest(),
        len(stream.getvalue()),
        "sha256:" + hashlib.sha256(tar).hexdigest(),
    )
    assert len(tar) % 10240 == 0


def test_leftovers_of_an_earlier_process_are_swept(store: Store) -> None:
    (store.scratch / "new-leftover").mkdir()
    (store.trees / "sha256-x").mkdir()
    again = Store(store.root, store.address, SystemClock())
    assert list(again.scratch.iterdir()) == []
    assert list(again.trees.iterdir()) == []
    assert (store.root / ".headrace").stat().st_mode & 0o777 == 0o700
    shutil.rmtree(store.root)
