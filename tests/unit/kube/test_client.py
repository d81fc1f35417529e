"""The client on the wire: headers, faults of the connection, deadlines. What answers mean is
tests/cluster/kube's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from headrace import __version__
from headrace.core.clock import SystemClock
from headrace.core.random import Random
from headrace.kube import wire
from headrace.kube.client import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, Client
from headrace.kube.config import ClientConfig, Credentials, Impersonation
from headrace.kube.errors import (
    ApiError,
    ConfigError,
    ResponseTooLarge,
    ServerError,
    Timeout,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from headrace.kube.wire import Wire as HttpWire
from tests.manual_clock import ManualClock
from tests.servers.certificates import Authority
from tests.servers.peer import Peer, Request, Wire, peer

Step = Callable[[Request, Wire], Awaitable[None]]


async def ok(request: Request, wire: Wire) -> None:
    await wire.answer(200, b"{}")


async def reset(request: Request, wire: Wire) -> None:
    wire.reset()


async def hang(request: Request, wire: Wire) -> None:
    await asyncio.sleep(30)


def status(code: int, **headers: str) -> Step:
    async def step(request: Request, wire: Wire) -> None:
        await wire.answer(code, b"", {key.replace("_", "-"): value for key, value in headers.items()})

    return step


async def truncated(request: Request, wire: Wire) -> None:
    await wire.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":')
    wire.close()


@contextlib.asynccontextmanager
async def talking(
    *steps: Step, clock: ManualClock | None = None, **config: object
) -> AsyncIterator[tuple[Client, Peer]]:
    """A client and a peer that does one step for each request, the last one again and again."""
    todo = itertools.chain(steps, itertools.repeat(steps[-1]))

    async def handler(request: Request, wire: Wire) -> None:
        await next(todo)(request, wire)

    async with peer(handler) as server:
        made = ClientConfig(server=server.url, **config)  # type: ignore[arg-type]
        async with Client(made, clock=clock or SystemClock(), random=Random(1)) as client:
            yield client, server


async def test_every_request_says_who_is_asking() -> None:
    async with talking(ok, credentials=Credentials(token="t")) as (client, server):
        await client.request("GET", "/version")
        await client.request("POST", "/api/v1/x", body=b"{}")
    assert [request.header("user-agent") for request in server.requests] == [f"headrace/{__version__}"] * 2
    assert [request.header("authorization") for request in server.requests] == ["Bearer t"] * 2
    assert [request.header("accept") for request in server.requests] == ["application/json"] * 2
    assert [request.header("content-type") for request in server.requests] == ["", "application/json"]


@pytest.mark.spec("SEC-23")
async def test_impersonation_headers_are_on_the_wire_of_that_identity_alone() -> None:
    async with talking(ok) as (client, server):
        tenant = client.impersonate_service_account("team", "deployer")
        await tenant.request("GET", "/version")
        await client.impersonate("alice", ["a", "b"]).request("GET", "/version")
        await client.request("GET", "/version")
    first, second, third = server.requests
    assert first.all("impersonate-user") == ["system:serviceaccount:team:deployer"]
    assert first.all("impersonate-group") == []
    assert second.all("impersonate-user") == ["alice"]
    assert second.all("impersonate-group") == ["a", "b"]
    assert [name for name, _ in third.headers if name.startswith("impersonate")] == []
    assert server.connections == 1


async def test_the_operators_impersonation_is_sent_whole() -> None:
    given = Impersonation(user="u", uid="7", groups=("g",), extra=(("example.com/x", ("1", "2")),))
    async with talking(ok, impersonation=given) as (client, server):
        await client.request("GET", "/version")
    request = server.requests[0]
    assert request.header("impersonate-uid") == "7"
    assert request.all("impersonate-extra-example.com%2fx") == ["1", "2"]


@pytest.mark.spec("SEC-30")
async def test_a_redirect_is_never_followed_and_takes_no_credentials_along() -> None:
    async with peer(ok) as elsewhere:
        for code in (301, 302, 303, 307, 308):
            async with talking(status(code, Location=elsewhere.url), credentials=Credentials(token="t")) as (client, _):
                with pytest.raises(ApiError) as caught:
                    await client.request("GET", "/api/v1/x")
            assert caught.value.status == code
        assert elsewhere.connections == 0


@pytest.mark.spec("REL-20")
async def test_retry_after_is_obeyed_before_the_request_goes_out_again() -> None:
    clock = ManualClock()
    async with talking(status(429, Retry_After="3"), status(503, Retry_After="2"), ok, clock=clock) as (client, server):
        await client.request("POST", "/api/v1/x", body=b"{}")
    assert len(server.requests) == 3
    assert 3.0 <= clock.slept[0] <= 3.75
    assert 2.0 <= clock.slept[1] <= 2.5


@pytest.mark.spec("REL-20")
async def test_a_time_beyond_the_deadline_is_not_waited_for() -> None:
    clock = ManualClock()
    async with talking(status(429, Retry_After="600"), clock=clock) as (client, server):
        with pytest.raises(TooManyRequests) as caught:
            await client.request("GET", "/api/v1/x")
    assert caught.value.retry_after == 600
    assert clock.slept == []
    assert len(server.requests) == 1


async def test_errors_of_the_server_are_told_at_once() -> None:
    async with talking(status(500)) as (client, server):
        with pytest.raises(ServerError):
            await client.request("GET", "/api/v1/x")
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [reset, truncated])
@pytest.mark.parametrize(
    ("method", "content_type", "query"),
    [
        ("GET", None, {}),
        ("PATCH", APPLY_PATCH, {}),
        ("PATCH", MERGE_PATCH, {}),
        ("PATCH", JSON_PATCH, {"dryRun": "All"}),
        ("POST", None, {"dryRun": "All"}),
    ],
)
async def test_what_may_be_sent_twice_survives_a_broken_connection(
    fault: Step, method: str, content_type: str | None, query: dict[str, str]
) -> None:
    clock = ManualClock()
    async with talking(fault, fault, ok, clock=clock) as (client, server):
        body = None if method == "GET" else b"{}"
        await client.request(method, "/api/v1/x", body=body, content_type=content_type, query=query)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("method", "content_type"), [("POST", None), ("PUT", None), ("PATCH", JSON_PATCH), ("DELETE", None)]
)
async def test_what_must_not_be_sent_twice_is_not(method: str, content_type: str | None) -> None:
    async with talking(truncated, ok) as (client, server):
        with pytest.raises(Unreachable) as caught:
            await client.request(method, "/api/v1/x", body=b"{}", content_type=content_type)
    assert caught.value.sent
    assert len(server.requests) == 1


async def test_a_peer_that_always_breaks_off_is_given_up() -> None:
    async with talking(truncated, clock=ManualClock()) as (client, server):
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
            await client.request("GET", "/api/v1/x")
    assert len(server.requests) == 4


async def test_a_refused_connection_is_told_at_once() -> None:
    async with peer(ok) as server:
        url = server.url
    async with Client(ClientConfig(server=url)) as client:
        with pytest.raises(Unreachable) as caught:
            await client.request("GET", "/api/v1/x")
    assert not caught.value.sent
    assert isinstance(caught.value, ConnectionError)


async def test_no_answer_ends_with_the_deadline() -> None:
    async with talking(hang) as (client, _):
        with pytest.raises(Timeout, match=r"GET /api/v1/x: no answer within 0\.\d+s"):
            await client.request("GET", "/api/v1/x", timeout=0.1)


@pytest.mark.spec("REL-21")
async def test_after_a_401_new_credentials_are_tried_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    async def rotate(request: Request, wire: Wire) -> None:
        token.write_text("new")
        await wire.answer(401)

    async with talking(rotate, ok, credentials=Credentials(token_file=str(token))) as (client, server):
        await client.request("GET", "/version")
    assert [request.header("authorization") for request in server.requests] == ["Bearer old", "Bearer new"]
    async with talking(status(401), credentials=Credentials(token_file=str(token))) as (client, server):
        with pytest.raises(Unauthorized):
            await client.request("GET", "/version")
    assert len(server.requests) == 1


async def test_an_answer_without_end_is_cut_off() -> None:
    async def endless(request: Request, wire: Wire) -> None:
        await wire.begin()
        while True:
            await wire.chunk(b"x" * 65536)

    async with peer(endless) as server:
        config = ClientConfig(server=server.url)
        wire = HttpWire(config, SystemClock(), response_limit=1024 * 1024)
        async with Client(config, wire=wire) as client:
            with pytest.raises(ResponseTooLarge):
                await client.request("GET", "/api/v1/x")


async def test_a_packed_answer_counts_unpacked() -> None:
    import gzip

    body = gzip.compress(b"0" * 4 * 1024 * 1024)

    async def bomb(request: Request, wire: Wire) -> None:
        await wire.answer(200, body, {"Content-Encoding": "gzip"})

    async with peer(bomb) as server:
        config = ClientConfig(server=server.url)
        wire = HttpWire(config, SystemClock(), response_limit=1024 * 1024)
        async with Client(config, wire=wire) as client:
            with pytest.raises(ResponseTooLarge):
                await client.request("GET", "/api/v1/x")


async def test_a_proxy_is_used_when_one_is_named() -> None:
    async with peer(ok) as proxy:
        config = ClientConfig(server="http://kube.invalid:6443", proxy_url=proxy.url)
        async with Client(config) as client:
            await client.request("GET", "/version")
    assert proxy.requests[0].target == "http://kube.invalid:6443/version"


async def test_the_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with talking(ok) as (client, server):
        await client.request("GET", "/version")
    assert len(server.requests) == 1


async def test_a_path_prefix_of_the_server_is_kept() -> None:
    async with peer(ok) as server, Client(ClientConfig(server=f"{server.url}/k8s/clusters/c-1")) as client:
        await client.request("GET", "/api", query={"a": "b c"})
    assert server.requests[0].target == "/k8s/clusters/c-1/api?a=b%20c"


class TestTls:
    """Who the server is, and who we are to it."""

    async def ask(self, config: ClientConfig) -> None:
        async with Client(config) as client:
            await client.request("GET", "/version")

    async def test_a_server_of_the_given_ca_is_trusted(self, tmp_path: Path) -> None:
        authority = Authority()
        async with peer(ok, tls=authority.server_context(tmp_path, "127.0.0.1")) as server:
            await self.ask(ClientConfig(server=server.url, ca=authority.certificate))
            with pytest.raises(Unreachable, match="certificate"):
                await self.ask(ClientConfig(server=server.url, ca=Authority().certificate))
            with pytest.raises(Unreachable, match="certificate"):
                await self.ask(ClientConfig(server=server.url))
            await self.ask(ClientConfig(server=server.url, insecure_skip_tls_verify=True))

    async def test_the_name_in_the_certificate_must_be_the_one_expected(self, tmp_path: Path) -> None:
        authority = Authority()
        async with peer(ok, tls=authority.server_context(tmp_path, "kube.internal")) as server:
            config = ClientConfig(server=server.url, ca=authority.certificate)
            with pytest.raises(Unreachable, match="certificate"):
                await self.ask(config)
            await self.ask(msgspec.structs.replace(config, tls_server_name="kube.internal"))

    async def test_a_client_certificate_opens_the_door_and_leaves_no_file(self, tmp_path: Path) -> None:
        authority = Authority()
        certificate, key = authority.issue("admin")
        tls = authority.server_context(tmp_path, "127.0.0.1", client_ca=authority.certificate)
        before = sorted(tmp_path.iterdir())
        async with peer(ok, tls=tls) as server:
            credentials = Credentials(client_certificate=certificate, client_key=key)
            await self.ask(ClientConfig(server=server.url, ca=authority.certificate, credentials=credentials))
            with pytest.raises(Unreachable):
                await self.ask(ClientConfig(server=server.url, ca=authority.certificate))
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.spec("REL-21")
    async def test_a_rotated_client_certificate_is_used_for_new_connections(self, tmp_path: Path) -> None:
        (tmp_path / "tls").mkdir()
        authority, other = Authority(), Authority()
        tls = authority.server_context(tmp_path / "tls", "127.0.0.1", client_ca=authority.certificate)
        cert_file, key_file = tmp_path / "cert", tmp_path / "key"
        clock = ManualClock()

        def write(issuer: Authority) -> None:
            for file, data in zip((cert_file, key_file), issuer.issue("admin"), strict=True):
                file.write_bytes(data)

        write(other)
        credentials = Credentials(client_certificate_file=str(cert_file), client_key_file=str(key_file))
        async with peer(ok, tls=tls) as server:
            config = ClientConfig(server=server.url, ca=authority.certificate, credentials=credentials)
            async with Client(config, clock=clock) as client:
                with pytest.raises(Unreachable):
                    await client.request("GET", "/version")
                write(authority)
                clock.time += 61
                await client.request("GET", "/version")

    @pytest.mark.parametrize(
        ("ca", "certificate"), [(b"no pem", b""), (b"", b"no pem")], ids=["authority", "client certificate"]
    )
    async def test_pem_that_is_none_is_not_quoted(self, ca: bytes, certificate: bytes) -> None:
        credentials = Credentials(client_certificate=certificate, client_key=b"hunter2" if certificate else b"")
        with pytest.raises(ConfigError, match="PEM") as caught:
            await self.ask(ClientConfig(server="https://127.0.0.1:1", ca=ca, credentials=credentials))
        assert "hunter2" not in str(caught.value)


async def test_a_stream_comes_in_chunks_and_its_silence_ends_it() -> None:
    async def stall(request: Request, wire: Wire) -> None:
        await wire.begin()
        await wire.chunk(b"one\n")
        await asyncio.sleep(30)

    async with talking(stall) as (client, _):
        chunks: list[bytes] = []
        with pytest.raises(Timeout):
            async with client.stream("/api/v1/x", query={"watch": "true"}, accept="x", silence=0.2) as stream:
                chunks.extend([chunk async for chunk in stream])


async def test_a_stream_that_breaks_off_is_told() -> None:
    async def broken(request: Request, wire: Wire) -> None:
        await wire.begin()
        await wire.chunk(b"one\n")
        wire.close()

    async with talking(broken) as (client, _):
        with pytest.raises(Unreachable):
            async with client.stream("/api/v1/x", query={}, accept="x", silence=5) as stream:
                assert [chunk async for chunk in stream] == [b"one\n"]


async def test_watches_are_not_limited_in_number() -> None:
    async def open_end(request: Request, wire: Wire) -> None:
        await wire.begin()
        await wire.chunk(b"x\n")
        await asyncio.sleep(30)

    async with talking(open_end) as (client, server), contextlib.AsyncExitStack() as stack:
        for _ in range(120):
            stream = await stack.enter_async_context(client.stream("/x", query={}, accept="x", silence=30))
            await anext(stream)
        assert server.connections == 120


async def test_a_request_in_line_for_a_connection_has_the_time_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CONNECTIONS", 1)
    monkeypatch.setattr(wire, "CONNECT_TIMEOUT", 0.05)
    late = asyncio.Event()

    async def slow(request: Request, wire: Wire) -> None:
        await late.wait()
        await wire.answer(200, b"{}")

    async with talking(slow) as (client, _):
        requests = [asyncio.ensure_future(client.request("GET", "/x")) for _ in range(2)]
        await asyncio.wait(requests, timeout=0.3, return_when=asyncio.FIRST_COMPLETED)
        late.set()
        assert await asyncio.gather(*requests) == [b"{}", b"{}"]
