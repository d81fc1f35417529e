"""REL-17, REL-27: buckets whose server fails in the middle, is slow, or loses what it listed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers.buckets import Buckets, buckets
from tests.servers.peer import Request, Wire, peer

Handler = Callable[[Request, Wire], Awaitable[None]]
BODY = b"content of an object"


def listing(*keys: str, etag: str = "e") -> bytes:
    contents = "".join(f"<Contents><Key>{key}</Key><ETag>{etag}</ETag></Contents>" for key in keys)
    return f"<ListBucketResult>{contents}</ListBucketResult>".encode()


@contextlib.asynccontextmanager
async def at(handler: Handler, directory: Path, **spec: Any) -> AsyncIterator[Buckets]:
    async with peer(handler) as served:
        endpoint = served.url.removeprefix("http://")
        async with buckets(directory, endpoint=endpoint, bucketName="things", insecure=True, **spec) as made:
            yield made


def is_listing(request: Request) -> bool:
    return "list-type=2" in request.target


class Server:
    """Two objects; `fault` is what happens to the second one."""

    def __init__(self) -> None:
        self.fault: Callable[[Wire], Awaitable[None]] | None = None
        self.etag = "e1"
        self.reads = 0

    async def handle(self, request: Request, wire: Wire) -> None:
        if is_listing(request):
            await wire.answer(200, listing("a", "b", etag=self.etag))
        elif request.target.endswith("/b") and self.fault is not None:
            await self.fault(wire)
        else:
            self.reads += 1
            await wire.answer(200, BODY, {"ETag": f'"{self.etag}"'})


async def truncated(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: x\r\n\r\n" + BODY)
    wire.close()


async def reset(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + BODY)
    wire.reset()


async def broken(wire: Wire) -> None:
    await wire.answer(500, b"<Error><Code>InternalError</Code><Message>We broke</Message></Error>")


@pytest.mark.spec("REL-17")
@pytest.mark.parametrize("fault", [truncated, reset, broken])
async def test_a_download_that_breaks_off_leaves_the_artifact_as_it_was(
    tmp_path: Path, fault: Callable[[Wire], Awaitable[None]]
) -> None:
    server = Server()
    async with at(server.handle, tmp_path) as made:
        obj, _ = await made.run(made.object())
        server.fault, server.etag = fault, "e2"
        error = await made.failure(obj)
        assert (error.reason, error.condition) == ("BucketOperationFailed", "FetchFailed")
        assert "artifact" not in error.status
        assert made.files(obj.status.artifact) == {"a": BODY, "b": BODY}
        assert not list(made.store.scratch.iterdir())
        server.fault = None
        healed, _ = await made.run(obj)
        assert healed.status.artifact is not None
        assert obj.status.artifact is not None
        assert healed.status.artifact.revision != obj.status.artifact.revision


@pytest.mark.spec("SRC-BKT-06")
async def test_an_object_that_vanishes_between_listing_and_download_is_left_out(tmp_path: Path) -> None:
    server = Server()

    async def vanished(wire: Wire) -> None:
        await wire.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    server.fault = vanished
    async with at(server.handle, tmp_path) as made:
        obj, outcome = await made.run(made.object())
        assert made.files(obj.status.artifact) == {"a": BODY}
        assert "with 1 fetched files" in outcome.event


@pytest.mark.spec("REL-27")
@pytest.mark.parametrize("part", ["listing", "object"])
async def test_a_server_that_does_not_answer_in_time_is_given_up(tmp_path: Path, part: str) -> None:
    held = asyncio.Event()

    async def handle(request: Request, wire: Wire) -> None:
        if is_listing(request) and part == "object":
            await wire.answer(200, listing("a"))
        elif is_listing(request):
            await held.wait()
        else:
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
            await held.wait()

    async with at(handle, tmp_path) as made:
        error = await made.failure(made.object(timeout="300ms"))
        assert error.reason == "BucketOperationFailed"
        assert "context deadline exceeded" in error.message
        held.set()


async def test_a_listing_that_never_ends_is_given_up(tmp_path: Path) -> None:
    async def handle(request: Request, wire: Wire) -> None:
        page = listing("a").replace(
            b"<ListBucketResult>", b"<ListBucketResult><IsTruncated>true</IsTruncated>"
            b"<NextContinuationToken>again</NextContinuationToken>"
        )  # fmt: skip
        await wire.answer(200, page)

    async with at(handle, tmp_path) as made:
        error = await made.failure(made.object(timeout="300ms"))
        assert "context deadline exceeded" in error.message


@pytest.mark.spec("REL-17")
async def test_a_lost_file_is_fetched_again_though_the_index_is_the_same(tmp_path: Path) -> None:
    server = Server()
    async with at(server.handle, tmp_path) as made:
        obj, _ = await made.run(made.object())
        assert obj.status.artifact is not None
        (made.store.root / obj.status.artifact.path).unlink()
        again, _ = await made.run(obj)
        assert made.files(again.status.artifact) == {"a": BODY, "b": BODY}
