"""SEC-04, SEC-05, SEC-11, SEC-29, SEC-30 and SEC-35 where object storage is the attacker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from headrace.core.egress import EgressPolicy
from headrace.core.limits import UnpackLimits
from headrace.core.xml import XmlRefused, parse_xml
from headrace.source.bucket import index
from headrace.source.bucket.errors import BucketError
from headrace.source.bucket.index import Index, download, jailed
from headrace.source.bucket.storage import Listed, Opened
from tests.servers.buckets import Buckets, buckets

SECRET = {"accesskey": b"access", "secretkey": b"canary-secret-key"}
Answer = Callable[[web.Request], web.StreamResponse]


@contextlib.asynccontextmanager
async def hostile(answer: Answer, directory: Path, **spec: Any) -> AsyncIterator[Buckets]:
    """Buckets at an S3 server that answers as the attacker likes."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"127.0.0.1:{runner.addresses[0][1]}"
    base: dict[str, Any] = {"endpoint": endpoint, "bucketName": "things", "insecure": True}
    base["secretRef"] = {"name": "keys"}
    try:
        async with buckets(directory, **(base | spec)) as made:
            made.secret("keys", SECRET)
            yield made
    finally:
        await runner.cleanup()


def listing(keys: Mapping[str, bytes] | list[str]) -> web.Response:
    contents = "".join(f"<Contents><Key>{quote(key)}</Key><ETag>&quot;e&quot;</ETag></Contents>" for key in keys)
    text = f"<ListBucketResult><EncodingType>url</EncodingType>{contents}</ListBucketResult>"
    return web.Response(body=text.encode(), content_type="application/xml")


def serving(keys: list[str]) -> Answer:
    def answer(request: web.Request) -> web.StreamResponse:
        return listing(keys) if "list-type" in request.query_string else web.Response(body=b"content")

    return answer


@pytest.mark.spec("SRC-BKT-07", "SEC-11")
@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("../escaped", "escaped"), ("../../../../etc/passwd", "etc/passwd"), ("/absolute/x", "absolute/x"),
        ("a/../../b", "b"), ("a/./b", "a/b"), ("a//b", "a/b"), ("..", ""), ("a/..", ""),
    ],
)  # fmt: skip
def test_no_key_names_a_path_outside_of_the_tree(key: str, path: str) -> None:
    assert jailed(key) == path


@pytest.mark.spec("SRC-BKT-07", "SEC-11")
async def test_keys_with_dots_stay_inside(tmp_path: Path) -> None:
    async with hostile(serving(["../../../escaped", "/absolute", "ok/a"]), tmp_path / "engine") as made:
        obj, _ = await made.run(made.object())
        assert sorted(made.files(obj.status.artifact)) == ["absolute", "escaped", "ok/a"]
    assert not list(tmp_path.glob("escaped"))
    assert not Path("/absolute").exists()


@pytest.mark.spec("SEC-11", "SEC-08")
@pytest.mark.parametrize("keys", [["a", "../a"], ["a", "a/b"], ["x/.git/config"], ["a\\b"], ["a\tb"], ["..", "../.."],
                                  ["/".join("d" * 100)]])  # fmt: skip
async def test_keys_that_fit_no_tree_fail_and_nothing_is_stored(tmp_path: Path, keys: list[str]) -> None:
    async with hostile(serving(keys), tmp_path) as made:
        error = await made.failure(made.object())
        assert error.reason == "BucketOperationFailed"
        assert not list(made.store.root.glob("bucket/**/*.tar.gz"))


@pytest.mark.spec("SEC-05")
@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><ListBucketResult>&b;</ListBucketResult>',
        b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><ListBucketResult>&f;</ListBucketResult>',
        b'<!DOCTYPE x SYSTEM "http://169.254.169.254/">\n<ListBucketResult/>', b"no xml", b"<Other/>",
        b"<a>" * 100,
    ],
)  # fmt: skip
async def test_xml_that_refers_to_something_else_is_refused(tmp_path: Path, body: bytes) -> None:
    async with hostile(lambda _: web.Response(body=body, content_type="application/xml"), tmp_path) as made:
        error = await made.failure(made.object())
        assert (error.reason, "root:" in error.message) == ("BucketOperationFailed", False)
        assert "is not that of an S3 server" in error.message


def test_a_document_type_is_refused_before_its_entities_are_read() -> None:
    bomb = b"<!DOCTYPE l [" + b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 30))
    with pytest.raises(XmlRefused, match="document type"):
        parse_xml(bomb + b"]><l>&l29;</l>")


@pytest.mark.spec("SEC-30")
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_gets_neither_keys_nor_a_visit(tmp_path: Path, status: int) -> None:
    seen: list[str] = []

    def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        location = f"http://localhost:{request.url.port}/stolen"
        return web.Response(status=status, headers={"Location": location})

    async with hostile(answer, tmp_path) as made:
        error = await made.failure(made.object())
        assert error.reason == "BucketOperationFailed"
    assert "/stolen" not in seen


async def test_a_region_that_the_server_names_is_followed_once_and_only_if_it_is_one(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["Authorization"].split("/")[2])
        return web.Response(status=400, headers={"x-amz-bucket-region": f"region-{len(asked)}"})

    async with hostile(answer, tmp_path) as made:
        await made.failure(made.object())
    assert asked == ["us-east-1", "region-1"]


@pytest.mark.spec("SEC-29")
@pytest.mark.parametrize("provider", ["generic", "gcp", "azure"])
async def test_inner_addresses_are_closed_to_buckets(tmp_path: Path, provider: str) -> None:
    spec: dict[str, Any] = {"provider": provider, "bucketName": "things", "insecure": True}
    async with buckets(tmp_path, policy=EgressPolicy(), **spec) as made:
        for host in ("127.0.0.1:80", "169.254.169.254"):
            if provider == "azure":
                made.secret("keys", {"sasKey": b"sig=canary-signature"})
            elif provider == "generic":
                made.secret("keys", SECRET)
            else:
                token_uri = f'"token_uri": "http://{host}/token"'
                made.secret("keys", {"serviceaccount": b'{"type": "service_account", "private_key": "", %s}'
                                     % token_uri.encode()})  # fmt: skip
            endpoint = f"http://{host}" if provider == "azure" else host
            error = await made.failure(made.object(endpoint=endpoint, secretRef={"name": "keys"}))
            denied = "is a loopback address" in error.message or "is a cloud metadata address" in error.message
            assert denied or provider == "gcp"


@pytest.mark.spec("SEC-35")
async def test_what_a_server_says_is_shown_without_queries_and_cut(tmp_path: Path) -> None:
    said = "see https://x.example/a?X-Amz-Signature=canary-signature " + "x" * 5000
    body = f"<Error><Code>Odd</Code><Message>{said}</Message></Error>".encode()
    async with hostile(lambda _: web.Response(status=403, body=body), tmp_path) as made:
        error = await made.failure(made.object())
        assert "canary" not in error.message
        assert len(error.message) < 1200


class Endless:
    """A bucket whose objects do not end."""

    async def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        yield []

    @contextlib.asynccontextmanager
    async def open(self, listed: Listed) -> AsyncIterator[Opened]:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 4096

        yield Opened("e", chunks())


@pytest.mark.spec("SEC-04")
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (UnpackLimits(file_bytes=65536), "is larger than 65536 bytes"),
        (UnpackLimits(total_bytes=65536), "more than 65536 bytes"),
    ],
)
async def test_objects_without_an_end_are_cut_off(tmp_path: Path, limits: UnpackLimits, message: str) -> None:
    (tmp_path / "tree").mkdir()
    content = Index({key: Listed(key, "e") for key in ("a", "b", "c")})
    with pytest.raises(BucketError, match=message):
        await download(Endless(), content, tmp_path / "tree", scratch=tmp_path, limits=limits)


@pytest.mark.spec("SEC-04")
async def test_a_bucket_with_too_many_objects_is_refused() -> None:
    class Counted(Endless):
        async def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
            for page in range(100):
                yield [Listed(f"{page}-{number}", "e") for number in range(60)]

    with pytest.raises(BucketError, match="more than 100 objects"):
        await index.read_index(Counted(), "things", prefix="", ignore=None, limits=UnpackLimits(files=100))
