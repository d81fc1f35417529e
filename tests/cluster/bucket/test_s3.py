"""Bucket against a real S3 server: index, revision, files, and what a run costs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from headrace.controllers.bucket import bucket as controller
from headrace.model.errors import Retry, Stalled
from headrace.source.bucket.index import download
from tests.servers.buckets import Buckets, buckets
from tests.servers.certificates import Authority
from tests.servers.forward_proxy import ForwardProxy
from tests.servers.s3 import REGION, S3Server, s3_server
from tests.servers.sources import CREATED, INTERVAL

from .conftest import SECRET


def index_of(files: dict[str, bytes]) -> str:
    """The revision of a bucket whose objects were uploaded in one part: ETags are MD5 then."""
    lines = "".join(f"{key} {hashlib.md5(files[key]).hexdigest()}\n" for key in sorted(files))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


async def filled(server: S3Server, bucket: str, files: dict[str, bytes]) -> None:
    for key, content in files.items():
        await server.put(bucket, key, content)


FILES = {"a.yaml": b"a: 1", "dir/b.yaml": b"b: 2", "dir/deep/c d+e%.yaml": b"c: 3", "caf\u00e9/\u2603": b"\0\1"}


@pytest.mark.spec("SRC-BKT-01", "SRC-BKT-05")
async def test_all_objects_become_the_artifact_and_their_etags_the_revision(
    made: Buckets, server: S3Server, bucket: str
) -> None:
    files = FILES | {".gitignore": b"x", "logo.png": b"png", "bundle.tar.gz": b"tar", ".github/w.yml": b"w"}
    await filled(server, bucket, files)
    obj, outcome = await made.run(made.object())
    artifact = obj.status.artifact
    assert artifact is not None
    assert artifact.revision == index_of(files)
    assert artifact.path == f"bucket/default/app/{artifact.revision.removeprefix('sha256:')}.tar.gz"
    assert made.files(artifact) == files
    assert obj.status.url == "http://source.example:9090/bucket/default/app/latest.tar.gz"
    latest = made.store.root / "bucket/default/app/latest.tar.gz"
    assert latest.read_bytes() == (made.store.root / artifact.path).read_bytes()
    assert outcome.message == f"stored artifact: revision '{artifact.revision}'"
    assert (outcome.event, outcome.event_reason) == (
        f"stored artifact with {len(files)} fetched files from '{bucket}' bucket", "NewArtifact",
    )  # fmt: skip


class Calls:
    """How often the controller lists and downloads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        for name in ("read_index", "download"):
            monkeypatch.setattr(controller, name, self._counted(name, getattr(controller, name)))

    def _counted(self, name: str, function: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            self.made.append(name)
            return function(*arguments, **more)

        return call


@pytest.mark.spec("SRC-BKT-02")
async def test_an_equal_index_downloads_nothing(
    made: Buckets, server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    await filled(server, bucket, FILES)
    obj, _ = await made.run(made.object())
    assert calls.made == ["read_index", "download"]
    made.store._contents.clear()  # as in an engine that was started anew
    again, outcome = await made.run(obj)
    assert again.status.artifact == obj.status.artifact
    assert outcome.event_reason == "ArtifactUpToDate"
    assert calls.made == ["read_index", "download", "read_index"]
    _, outcome = await made.run(obj, INTERVAL)
    assert outcome.event == ""
    await server.put(bucket, "a.yaml", b"a: 2")
    changed, _ = await made.run(again)
    assert made.files(changed.status.artifact)["a.yaml"] == b"a: 2"


async def test_a_bucket_is_reached_by_the_proxy_of_its_secret(made: Buckets, server: S3Server, bucket: str) -> None:
    await filled(server, bucket, {"a": b"1"})
    proxy = ForwardProxy(basic=("me", "proxy-password"))
    await proxy.start()
    made.secret("proxy", {"address": proxy.address, "username": b"me", "password": b"proxy-password"})
    obj, _ = await made.run(made.object(proxySecretRef={"name": "proxy"}))
    assert made.files(obj.status.artifact) == {"a": b"1"}
    assert any(bucket in line for line in proxy.requests)
    await proxy.stop()


@pytest.mark.spec("SRC-BKT-03")
async def test_a_prefix_filters_and_stays_in_the_paths(made: Buckets, server: S3Server, bucket: str) -> None:
    await filled(server, bucket, {"apps/a": b"1", "apps-more/b": b"2", "other/c": b"3"})
    obj, _ = await made.run(made.object(prefix="apps/"))
    assert made.files(obj.status.artifact) == {"apps/a": b"1"}
    obj, _ = await made.run(made.object("wide", prefix="apps"))
    assert sorted(made.files(obj.status.artifact)) == ["apps-more/b", "apps/a"]


@pytest.mark.spec("SRC-BKT-04")
@pytest.mark.parametrize("prefix", ["", "k"])
async def test_the_ignore_file_and_the_spec_decide_together(
    made: Buckets, server: S3Server, bucket: str, prefix: str
) -> None:
    files = {".sourceignore": b"*.md\n!/k/keep.md\n", "k/a.yaml": b"1", "k/b.md": b"2", "k/keep.md": b"3"}
    await filled(server, bucket, files | {"k/c.txt": b"4", "k/sub/.sourceignore": b"*.yaml"})
    obj, _ = await made.run(made.object(ignore="*.txt", prefix=prefix))
    assert sorted(made.files(obj.status.artifact)) == [".sourceignore", "k/a.yaml", "k/keep.md", "k/sub/.sourceignore"]
    assert obj.status.observed_ignore == "*.txt"
    revision = index_of({"k/a.yaml": b"1", "k/keep.md": b"3", "k/sub/.sourceignore": b"*.yaml"})
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == revision, "the ignore file is archived, and is no part of the index"


@pytest.mark.spec("SRC-BKT-06")
async def test_keys_of_directories_are_skipped(made: Buckets, server: S3Server, bucket: str) -> None:
    await filled(server, bucket, {"dir/": b"", "dir/a": b"1"})
    obj, _ = await made.run(made.object())
    assert made.files(obj.status.artifact) == {"dir/a": b"1"}


async def test_an_empty_bucket_is_an_artifact_too(made: Buckets) -> None:
    obj, _ = await made.run(made.object())
    assert made.files(obj.status.artifact) == {}
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == index_of({})


async def test_listings_are_read_to_their_end(made: Buckets, server: S3Server, bucket: str) -> None:
    files = {f"many/{number:04}": b"x" for number in range(1030)}
    folder = next((Path(made.store.root).parents[1] / "s3" / "objects").iterdir()) / "many"
    folder.mkdir()
    for key in files:
        (folder / key.partition("/")[2]).write_bytes(b"x")
    obj, outcome = await made.run(made.object(timeout="5m"))
    assert len(made.files(obj.status.artifact)) == len(files)
    assert "1030 fetched files" in outcome.event


@pytest.mark.spec("SRC-BKT-08")
async def test_a_bucket_that_is_not_there_is_told(made: Buckets) -> None:
    error = await made.failure(made.object(bucketName="no-such-bucket"))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("BucketOperationFailed", "FetchFailed")
    assert "bucket 'no-such-bucket' not found" in error.message


@pytest.mark.spec("SRC-BKT-09")
@pytest.mark.parametrize("data", [{}, {"accesskey": b"only"}, {"secretkey": b"only"}])
async def test_half_of_the_keys_fail(made: Buckets, data: dict[str, bytes]) -> None:
    made.secret("keys", data)
    error = await made.failure(made.object())
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")
    assert "required fields 'accesskey' and 'secretkey'" in error.message


async def test_wrong_keys_and_none_are_refused_by_the_server(made: Buckets, server: S3Server, bucket: str) -> None:
    await filled(server, bucket, {"a": b"1"})
    made.secret("keys", SECRET | {"secretkey": b"canary-of-a-secret-key"})
    error = await made.failure(made.object())
    assert (error.reason, "canary" in error.message) == ("BucketOperationFailed", False)
    assert "SignatureDoesNotMatch" in error.message
    error = await made.failure(made.object(secretRef=None))
    assert "AccessDenied" in error.message


async def test_a_region_that_nobody_names_is_the_default_one_and_told_when_wrong(
    made: Buckets, server: S3Server, bucket: str
) -> None:
    error = await made.failure(made.object(region="us-east-1"))
    assert error.reason == "BucketOperationFailed"


@pytest.mark.parametrize("endpoint", ["http://s3.example.com", "s3.example.com/path", "user@s3.example.com", "a b"])
async def test_an_endpoint_that_is_no_host_is_refused(made: Buckets, endpoint: str) -> None:
    error = await made.failure(made.object(endpoint=endpoint))
    assert error.reason in ("AuthenticationFailed", "URLInvalid")


async def test_tls_is_verified_with_the_given_authority(tmp_path: Path) -> None:
    authority = Authority()
    pair = b"".join(authority.issue("s3", hosts=("127.0.0.1",)))
    async with s3_server(tmp_path / "tls", certificate=pair) as server:
        await server.make_bucket("over-tls")
        await server.put("over-tls", "a", b"1")
        async with buckets(
            tmp_path / "engine", endpoint=server.endpoint, bucketName="over-tls", region=REGION,
            secretRef={"name": "keys"},
        ) as made:  # fmt: skip
            made.secret("keys", SECRET)
            made.secret("ca", {"ca.crt": authority.certificate})
            assert (await made.failure(made.object())).reason == "BucketOperationFailed"
            obj, _ = await made.run(made.object(certSecretRef={"name": "ca"}))
            assert made.files(obj.status.artifact) == {"a": b"1"}


@pytest.mark.spec("SRC-OPS-02")
async def test_another_digest_algorithm_counts_from_the_next_change_on(
    made: Buckets, server: S3Server, bucket: str, tmp_path: Path
) -> None:
    await filled(server, bucket, {"a": b"1"})
    obj, _ = await made.run(made.object())
    made.store.algorithm = "sha512"
    same, _ = await made.run(obj)
    assert same.status.artifact == obj.status.artifact
    await server.put(bucket, "a", b"2")
    changed, _ = await made.run(same)
    assert changed.status.artifact is not None
    assert changed.status.artifact.revision.startswith("sha512:")
    assert changed.status.artifact.digest.startswith("sha512:")


async def test_those_who_name_the_same_bucket_share_a_listing(
    made: Buckets, server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    await filled(server, bucket, {"a": b"1"})
    for name in ("first", "second", "third"):
        await made.run(made.object(name), CREATED)
    assert calls.made == ["read_index", "download"]
    made.secret("same-keys", SECRET)
    await made.run(made.object("fourth", secretRef={"name": "same-keys"}), CREATED)
    assert calls.made.count("read_index") == 1, "the identity counts, not where it is written"
    await made.run(made.object("other", prefix="x"), CREATED)
    await made.run(made.object("asked"))
    assert calls.made.count("read_index") == 3


async def test_what_changed_while_it_was_fetched_and_changed_back_is_fetched_again(
    made: Buckets, server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.put(bucket, "a.yaml", b"a: 1")

    async def changed_meanwhile(*args: Any, **named: Any) -> Any:
        await server.put(bucket, "a.yaml", b"a: 2")
        return await download(*args, **named)

    monkeypatch.setattr(controller, "download", changed_meanwhile)
    obj, _ = await made.run(made.object())
    assert made.files(obj.status.artifact) == {"a.yaml": b"a: 2"}
    monkeypatch.undo()
    await server.put(bucket, "a.yaml", b"a: 1")
    again, _ = await made.run(obj)
    assert made.files(again.status.artifact) == {"a.yaml": b"a: 1"}
    assert obj.status.artifact is not None
    assert again.status.artifact is not None
    assert again.status.artifact.revision != obj.status.artifact.revision


async def test_objects_of_one_bucket_with_one_identity_share_their_content(
    made: Buckets, server: S3Server, bucket: str
) -> None:
    await filled(server, bucket, {"a": b"1"})
    first, _ = await made.run(made.object("first"))
    second, _ = await made.run(made.object("second"))
    assert first.status.artifact is not None
    assert second.status.artifact is not None
    paths = [made.store.root / each.status.artifact.path for each in (first, second) if each.status.artifact]
    assert paths[0].stat().st_ino == paths[1].stat().st_ino
    await made.controller.finalize(first, made.scope)  # type: ignore[arg-type]
    assert [path.exists() for path in paths] == [False, True]


@pytest.mark.spec("SRC-BKT-10")
@pytest.mark.parametrize(
    ("provider", "sts", "message"),
    [
        ("generic", {"provider": "aws"}, "STS provider 'aws' is not supported for 'generic' bucket provider"),
        ("aws", {"provider": "ldap"}, "STS provider 'ldap' is not supported for 'aws' bucket provider"),
        ("aws", {"provider": "aws", "secretRef": {"name": "x"}}, "spec.sts.secretRef is not required"),
        ("aws", {"provider": "aws", "certSecretRef": {"name": "x"}}, "spec.sts.certSecretRef is not required"),
    ],
)
async def test_an_sts_that_does_not_fit_stalls(made: Buckets, provider: str, sts: Any, message: str) -> None:
    error = await made.failure(made.object(provider=provider, sts={"endpoint": "https://sts.example.com"} | sts))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("InvalidSTSConfiguration", "FetchFailed")
    assert message in error.message
