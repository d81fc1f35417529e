"""SEC-05 and SEC-29 to SEC-33: where connections go, who gets credentials, what is accepted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from headrace.artifact.fetch import Fetcher
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.core import tls
from headrace.core.clock import SystemClock
from headrace.core.egress import (
    BodyTooLarge,
    Egress,
    EgressDenied,
    EgressPolicy,
    Trust,
    UrlRefused,
    parse_url,
)  # fmt: skip
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry
from tests.servers.certificates import Authority
from tests.servers.git_http import Fault, GitServer
from tests.servers.sources import sources

OPEN = EgressPolicy(allow_loopback=True)


@contextlib.asynccontextmanager
async def served(handler: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL of a server that answers everything with `handler`."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def egress(policy: EgressPolicy = OPEN) -> AsyncIterator[Egress]:
    made = Egress(policy)
    try:
        yield made
    finally:
        await made.close()


async def ok(_: web.Request) -> web.Response:
    return web.Response(text="ok")


@pytest.mark.spec("SEC-29")
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("169.254.169.254", "a cloud metadata address"), ("fd00:ec2::254", "a cloud metadata address"),
        ("100.100.100.200", "a cloud metadata address"), ("::ffff:169.254.169.254", "a cloud metadata address"),
        ("64:ff9b::a9fe:a9fe", "a cloud metadata address"), ("2002:a9fe:a9fe::1", "a cloud metadata address"),
        ("169.254.1.1", "a link-local address"), ("fe80::1%eth0", "a link-local address"),
        ("127.0.0.1", "a loopback address"), ("127.8.8.8", "a loopback address"), ("::1", "a loopback address"),
        ("::ffff:127.0.0.1", "a loopback address"), ("0.0.0.0", "no address of a host"), ("::", "no address of a host"),
        ("224.0.0.1", "no address of a host"), ("255.255.255.255", "no address of a host"),
        ("10.96.0.1", "in a network closed by the operator"),
    ],
)  # fmt: skip
def test_addresses_inside_are_closed(address: str, why: str) -> None:
    policy = EgressPolicy(deny_networks=(ipaddress.ip_network("10.96.0.0/12"),))
    with pytest.raises(EgressDenied, match=f"connection to 'name' is denied: .* is {why}"):
        policy.check("name", 443, address)


@pytest.mark.spec("SEC-29")
def test_the_operator_opens_hosts_and_loopback() -> None:
    EgressPolicy(allow_loopback=True).check("localhost", 80, "127.0.0.1")
    for allowed in ("registry.local", "registry.local:5000"):
        EgressPolicy(allow_hosts=frozenset({allowed})).check("registry.local", 5000, "127.0.0.1")
    with pytest.raises(EgressDenied):
        EgressPolicy(allow_hosts=frozenset({"registry.local:5000"})).check("registry.local", 5001, "127.0.0.1")
    EgressPolicy().check("git.example.com", 443, "140.82.121.4")
    EgressPolicy().check("gitea.default.svc", 3000, "10.0.0.7")


@pytest.mark.spec("SEC-29")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "0x7f000001", "2130706433"])
async def test_no_way_of_writing_loopback_leads_there(host: str) -> None:
    async with served(ok) as url, egress(EgressPolicy()) as closed:
        port = url.rpartition(":")[2]
        with pytest.raises((EgressDenied, UrlRefused, aiohttp.ClientError)):
            await closed.request("GET", parse_url(f"http://{host}:{port}/"), timeout=10)


@pytest.mark.spec("SEC-29")
async def test_a_name_that_changes_its_address_is_checked_when_it_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter(["93.184.216.34", "127.0.0.1"])

    def rebind(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 80))]

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    async with egress(EgressPolicy()) as closed:
        assert await closed.resolve(parse_url("http://rebind.example/")) == "93.184.216.34"
        with pytest.raises(EgressDenied, match="127.0.0.1 is a loopback address"):
            await closed.request("GET", parse_url("http://rebind.example/"), timeout=10)


@pytest.mark.spec("SEC-29")
async def test_a_redirect_inside_is_denied() -> None:
    async with served(ok) as inside:

        async def away(_: web.Request) -> web.Response:
            raise web.HTTPFound(inside)

        async with served(away) as outside:
            policy = EgressPolicy(allow_hosts=frozenset({outside.removeprefix("http://")}))
            async with egress(policy) as closed:
                with pytest.raises(EgressDenied, match="is a loopback address"):
                    await closed.request("GET", parse_url(outside + "/"), timeout=10)


@pytest.mark.spec("SEC-29")
async def test_a_tenants_git_url_to_loopback_is_denied_and_says_so(tmp_path: Path) -> None:
    async with sources(tmp_path, policy=EgressPolicy()) as world:
        world.repo.commit({"a": "1"})
        error = await world.failure(world.object())
        assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
        assert "connection to '127.0.0.1' is denied: 127.0.0.1 is a loopback address" in error.message
        assert world.server.requests == []


@pytest.mark.spec("SEC-30")
async def test_credentials_stay_with_their_origin() -> None:
    seen: list[dict[str, str]] = []

    async def look(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(text="ok", headers={"Set-Cookie": "canary=1"})

    async with served(look) as second:

        async def away(request: web.Request) -> web.Response:
            seen.append(dict(request.headers))
            raise web.HTTPTemporaryRedirect(second + "/x", headers={"Set-Cookie": "canary=1"})

        async with served(away) as first, egress() as out:
            secret = {"Authorization": "Bearer canary", "Private-Token": "canary"}
            answer = await out.request("GET", parse_url(first + "/"), secret_headers=secret, timeout=10)
    assert answer.body == b"ok"
    assert seen[0]["Authorization"] == "Bearer canary"
    assert "canary" not in str(seen[1])


@pytest.mark.spec("SEC-30")
async def test_git_credentials_do_not_follow_a_redirect_to_another_server(tmp_path: Path) -> None:
    async with sources(tmp_path) as world:
        world.repo.commit({"a": "1"})
        world.secret("creds", {"username": b"user", "password": b"canary"})
        other = GitServer(world.server.root)
        await other.start()
        try:
            world.server.fault = Fault("redirect", "info", location=f"http://127.0.0.1:{other.port}")
            obj, _ = await world.run(world.object(secretRef={"name": "creds"}))
        finally:
            await other.stop()
        assert obj.status.artifact is not None
        assert {request.what for request in other.requests} == {"info", "ls-refs", "fetch"}
        assert not any("Authorization" in request.headers for request in other.requests)
        assert all("Authorization" in request.headers for request in world.server.requests)


@pytest.mark.spec("SEC-31")
async def test_https_never_becomes_http() -> None:
    authority = Authority()
    async with served(ok) as plain:

        async def away(_: web.Request) -> web.Response:
            raise web.HTTPFound(plain)

        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(_temporary()))
            context = authority.server_context(folder, "127.0.0.1")
            async with served(away, context) as secure, egress() as out:
                trust = tls.context(Trust(ca=authority.certificate))
                with pytest.raises(UrlRefused, match="redirect from https to http is refused"):
                    await out.request("GET", parse_url(secure + "/"), tls=trust, timeout=10)


@contextlib.contextmanager
def _temporary() -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield folder


@pytest.mark.spec("SEC-31")
async def test_certificates_are_verified(tmp_path: Path) -> None:
    good, other = Authority("good"), Authority("other")
    async with egress() as out:
        async with served(ok, good.server_context(tmp_path, "127.0.0.1")) as url:
            for trust in (Trust(), Trust(ca=other.certificate)):
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await out.request("GET", parse_url(url + "/"), tls=tls.context(trust), timeout=10)
            answer = await out.request(
                "GET", parse_url(url + "/"), tls=tls.context(Trust(ca=good.certificate)), timeout=10
            )
            assert answer.status == 200
        async with served(ok, good.server_context(tmp_path, "elsewhere.example")) as url:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await out.request("GET", parse_url(url + "/"), tls=tls.context(Trust(ca=good.certificate)), timeout=10)


@pytest.mark.spec("SEC-31")
async def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    authority = Authority()
    context = authority.server_context(tmp_path, "127.0.0.1")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1
    async with served(ok, context) as url, egress() as out:
        with pytest.raises(aiohttp.ClientError):
            await out.request("GET", parse_url(url + "/"), tls=tls.context(Trust(ca=authority.certificate)), timeout=10)


@pytest.mark.spec("SRC-GIT-21", "SRC-COM-29", "SRC-COM-30")
@pytest.mark.parametrize("keys", [("ca.crt", "tls.crt", "tls.key"), ("caFile", "certFile", "keyFile")])
async def test_git_over_https_uses_the_ca_and_the_client_certificate_of_the_secret(
    tmp_path: Path, keys: tuple[str, str, str]
) -> None:
    authority, clients = Authority("server"), Authority("clients")
    context = authority.server_context(tmp_path, "127.0.0.1", client_ca=clients.certificate)
    async with sources(tmp_path, server=GitServer(tmp_path, tls=context)) as world:
        world.repo.commit({"a": "1"})
        certificate, key = clients.issue("me")
        world.secret("tls", dict(zip(keys, (authority.certificate, certificate, key), strict=True)))
        obj, _ = await world.run(world.object(secretRef={"name": "tls"}))
        assert obj.status.artifact is not None
        world.secret("ca", {"ca.crt": authority.certificate})
        assert (await world.failure(world.object(secretRef={"name": "ca"}))).reason == "GitOperationFailed"
        assert "certificate" in (await world.failure(world.object())).message.lower()


@pytest.mark.spec("SRC-COM-28")
async def test_half_a_client_certificate_fails(tmp_path: Path) -> None:
    async with sources(tmp_path, server=GitServer(tmp_path)) as world:
        for key in ("tls.crt", "tls.key"):
            world.secret("tls", {key: b"x"})
            error = await world.failure(world.object(url="https://127.0.0.1:1/x", secretRef={"name": "tls"}))
            assert error.reason == "AuthenticationFailed"
            assert "'tls.crt' and 'tls.key' must be given together" in error.message


@pytest.mark.spec("SEC-05")
async def test_a_body_without_end_is_not_drained() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError, asyncio.CancelledError):
            while True:
                await response.write(bytes(65536))
                sent += 65536
        return response

    async with served(endless) as url, egress() as out:
        with pytest.raises(BodyTooLarge, match="is larger than 1000000 bytes"):
            await out.request("GET", parse_url(url + "/"), timeout=30, body_limit=1_000_000)
    assert sent < 32 * 1024 * 1024, "what the kernel's buffers took"


# -- artifacts of others ----------------------------------------------------------------------------------------------


async def opened(directory: Path, artifact: Artifact, out: Egress) -> str:
    """The message of the failure to open a foreign artifact."""
    return (await failure_to_open(directory, artifact, out)).message


async def failure_to_open(directory: Path, artifact: Artifact, out: Egress) -> Retry:
    store = Store(directory, "here:1", SystemClock())
    trees = Trees(store, SystemClock(), fetcher=Fetcher(out, timeout=10))
    with pytest.raises(Retry) as caught:
        async with trees.open(artifact):
            raise AssertionError("it was opened")
    assert caught.value.reason == "ArtifactFailed"
    assert list(store.trees.iterdir()) == []
    assert list(store.scratch.iterdir()) == []
    return caught.value


@pytest.mark.spec("SEC-33", "SRC-ART-09", "KS-SRC-06")
@pytest.mark.parametrize(
    ("digest", "message"),
    [
        ("", "is not acceptable"),
        ("md5:" + hashlib.md5(b"data").hexdigest(), "is not acceptable"),
        ("sha1:" + hashlib.sha1(b"data").hexdigest(), "is not acceptable"),
        ("sha256:", "is not acceptable"),
        ("sha256:" + "0" * 64, "computed digest doesn't match"),
        ("0" * 64, "computed digest doesn't match"),
        ("sha256:" + hashlib.sha256(b"data").hexdigest(), "failed to unpack artifact: the archive ends too early"),
    ],
)
async def test_an_artifact_is_accepted_by_its_digest_only(tmp_path: Path, digest: str, message: str) -> None:
    async def data(_: web.Request) -> web.Response:
        return web.Response(body=b"data")

    async with served(data) as url, egress() as out:
        artifact = Artifact(path="x/y/z/f.tar.gz", url=url + "/f", revision="r", digest=digest)
        assert message in await opened(tmp_path, artifact, out)


@pytest.mark.spec("SEC-05", "SEC-29")
async def test_an_artifact_by_url_is_bounded_and_may_not_lead_inside(tmp_path: Path) -> None:
    async def long(_: web.Request) -> web.Response:
        return web.Response(body=bytes(100_000))

    digest = "sha256:" + "0" * 64
    async with served(long) as url:
        artifact = Artifact(path="x/y/z/f", url=url + "/f", revision="r", digest=digest, size=1000)
        async with egress() as out:
            assert await opened(tmp_path, artifact, out) == "artifact is larger than 1000 bytes"
        async with egress(EgressPolicy()) as closed:
            assert "is a loopback address" in await opened(tmp_path, artifact, closed)


@pytest.mark.spec("KS-SRC-05")
@pytest.mark.parametrize(
    ("status", "message", "after"), [(404, "artifact not found at", 30.0), (503, "status 503", None)]
)
async def test_an_artifact_that_is_not_there_is_said_to_be_missing_and_looked_for_again_soon(
    tmp_path: Path, status: int, message: str, after: float | None
) -> None:
    async def gone(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with served(gone) as url, egress() as out:
        artifact = Artifact(path="x/y/z/f", url=url + "/f", revision="r", digest="sha256:" + "0" * 64)
        error = await failure_to_open(tmp_path, artifact, out)
    assert message in error.message
    assert error.after == after
