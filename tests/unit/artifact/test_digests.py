"""Digests of artifacts: every algorithm is written, found again, fetched from others; what was tampered with is not."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.artifact.fetch import Fetcher
from headrace.artifact.server import artifact_application
from headrace.artifact.store import Integrity, Place, Store
from headrace.artifact.trees import Trees
from headrace.core.clock import SystemClock
from headrace.core.digests import ALGORITHMS, digest_of, matches
from headrace.core.egress import Egress, EgressPolicy
from headrace.edge.listen import serve
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry
from headrace.settings import SettingsError, load
from headrace.source.bucket.index import Index
from headrace.source.bucket.storage import Listed
from tests.servers.sources import REQUESTED, sources

APP = Place("gitrepository", "default", "app")
HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128, "blake3": 64}

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


async def stored(store: Store) -> Artifact:
    async def produce(directory: Path) -> None:
        (directory / "app.yaml").write_text("a: 1\n")

    return await store.publish(APP, "r1.tar.gz", await store.content("key", produce), "r1")


@contextlib.asynccontextmanager
async def foreign(store: Store, directory: Path) -> AsyncIterator[tuple[Trees, str]]:
    """The trees of another engine, and the address at which it finds what `store` serves."""
    egress = Egress(EgressPolicy(allow_loopback=True))
    clock = SystemClock()
    try:
        async with serve(artifact_application(store), "127.0.0.1:0") as address:
            yield Trees(Store(directory, "other:1", clock), clock, fetcher=Fetcher(egress)), f"http://{address}"
    finally:
        await egress.close()


def test_the_algorithms_are_those_that_consumers_of_flux_artifacts_accept() -> None:
    assert set(ALGORITHMS) == set(HEX_DIGITS)


def test_blake3_is_the_published_function_with_32_bytes() -> None:
    empty = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_of(io.BytesIO(), "blake3") == empty
    assert matches(io.BytesIO(), empty)


@pytest.mark.spec("SEC-33")
@pytest.mark.parametrize(
    "digest",
    [
        *("", ":", "blake3", "blake3:", "blake3:é"),
        "BLAKE3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        *("sha1:" + hashlib.sha1(b"").hexdigest(), "md5:" + hashlib.md5(b"").hexdigest()),
    ],
)
def test_nothing_matches_a_digest_that_is_none_or_of_another_algorithm(digest: str) -> None:
    assert not matches(io.BytesIO(), digest)


@every_algorithm
async def test_a_stored_artifact_is_found_sound_by_an_engine_that_reads_it_anew(tmp_path: Path, algorithm: str) -> None:
    artifact = await stored(Store(tmp_path, "here:1", SystemClock(), algorithm=algorithm))
    assert len(artifact.digest) == len(algorithm) + 1 + HEX_DIGITS[algorithm]
    with (tmp_path / artifact.path).open("rb") as file:
        assert digest_of(file, algorithm) == artifact.digest
    later = Store(tmp_path, "here:1", SystemClock())
    assert await later.verify(artifact) is Integrity.SOUND
    async with Trees(later, SystemClock()).open(artifact) as tree:
        assert (tree.directory / "app.yaml").read_text() == "a: 1\n"


@every_algorithm
async def test_a_stored_artifact_that_was_tampered_with_is_refused(tmp_path: Path, algorithm: str) -> None:
    artifact = await stored(Store(tmp_path, "here:1", SystemClock(), algorithm=algorithm))
    path = tmp_path / artifact.path
    path.write_bytes(path.read_bytes() + b"x")
    assert await Store(tmp_path, "here:1", SystemClock()).verify(artifact) is Integrity.TAMPERED


@every_algorithm
async def test_an_artifact_of_another_engine_is_taken_by_its_digest(tmp_path: Path, algorithm: str) -> None:
    store = Store(tmp_path / "theirs", "here:1", SystemClock(), algorithm=algorithm)
    artifact = await stored(store)
    async with foreign(store, tmp_path / "ours") as (trees, url):
        artifact = msgspec.structs.replace(artifact, url=f"{url}/{artifact.path}")
        async with trees.open(artifact) as tree:
            assert (tree.directory / "app.yaml").read_text() == "a: 1\n"


@pytest.mark.spec("SEC-33")
@every_algorithm
async def test_an_artifact_of_another_engine_with_another_digest_is_refused(tmp_path: Path, algorithm: str) -> None:
    store = Store(tmp_path / "theirs", "here:1", SystemClock(), algorithm=algorithm)
    artifact = await stored(store)
    async with foreign(store, tmp_path / "ours") as (trees, url):
        wrong = f"{algorithm}:{'0' * HEX_DIGITS[algorithm]}"
        artifact = msgspec.structs.replace(artifact, url=f"{url}/{artifact.path}", digest=wrong)
        with pytest.raises(Retry, match="computed digest doesn't match"):
            async with trees.open(artifact):
                raise AssertionError("it was opened")


@every_algorithm
async def test_a_source_makes_artifacts_of_the_algorithm_and_keeps_those_of_another(
    tmp_path: Path, algorithm: str
) -> None:
    async with sources(tmp_path) as world:
        world.repo.commit({"app.yaml": "a: 1\n"})
        old, _ = await world.run(world.object())
        world.store.algorithm = algorithm
        same, _ = await world.run(old, REQUESTED)
        assert same.status.artifact == old.status.artifact, "only a new revision is written with the new algorithm"
        world.repo.commit({"app.yaml": "a: 2\n"})
        new, _ = await world.run(same, REQUESTED)
        assert new.status.artifact is not None
        assert new.status.artifact.digest.startswith(f"{algorithm}:")


@every_algorithm
def test_the_revision_of_a_bucket_is_known_again_whatever_it_was_written_with(algorithm: str) -> None:
    index = Index({"a": Listed("a", "etag", 1)})
    assert index.is_revision(index.revision(algorithm))
    assert not Index({"a": Listed("a", "other", 1)}).is_revision(index.revision(algorithm))


@every_algorithm
def test_operators_choose_the_algorithm(algorithm: str) -> None:
    assert load({"artifact-digest-algo": algorithm}, env={}).storage.artifact_digest_algo == algorithm


@pytest.mark.parametrize("algorithm", ["sha1", "md5", ""])
def test_another_algorithm_is_a_mistake_that_is_told_at_the_start(algorithm: str) -> None:
    with pytest.raises(SettingsError, match="artifact-digest-algo must be one of sha256, sha384, sha512, blake3"):
        load({"artifact-digest-algo": algorithm}, env={})
