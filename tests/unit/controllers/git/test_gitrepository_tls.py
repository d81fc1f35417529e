"""GitRepository over https and by way of proxies, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.core.egress import EgressPolicy
from headrace.model.errors import Retry, Stalled
from tests.servers.certificates import Authority
from tests.servers.forward_proxy import ForwardProxy
from tests.servers.git_http import GitServer
from tests.servers.sources import REQUESTED, Sources, sources

SERVERS, CLIENTS = Authority("servers"), Authority("clients")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    """A server that wants a client certificate."""
    folder = tmp_path / "tls"
    folder.mkdir()
    context = SERVERS.server_context(folder, "127.0.0.1", client_ca=CLIENTS.certificate)
    async with sources(tmp_path, server=GitServer(tmp_path, tls=context)) as made:
        made.repo.commit({"a": "1"})
        yield made


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        made.repo.commit({"a": "1"})
        yield made


def identity(**more: bytes) -> dict[str, bytes]:
    certificate, key = CLIENTS.issue("tester")
    return {"ca.crt": SERVERS.certificate, "tls.crt": certificate, "tls.key": key, **more}


@pytest.mark.spec("SRC-GIT-21", "SRC-COM-30")
async def test_a_client_certificate_and_a_private_authority_open_the_repository(world: Sources) -> None:
    world.secret("creds", identity())
    obj, _ = await world.run(world.object(secretRef={"name": "creds"}))
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"a": b"1"}
    assert [request.what for request in world.server.requests][-1] == "fetch"


@pytest.mark.spec("SRC-GIT-21")
@pytest.mark.parametrize("case", ["no client certificate", "no authority", "wrong authority", "wrong client authority"])
async def test_without_the_right_certificates_nothing_is_fetched(world: Sources, case: str) -> None:
    data = identity()
    if case == "no client certificate":
        del data["tls.crt"], data["tls.key"]
    elif case == "no authority":
        del data["ca.crt"]
    elif case == "wrong authority":
        data["ca.crt"] = CLIENTS.certificate
    else:
        data["tls.crt"], data["tls.key"] = SERVERS.issue("tester")
    world.secret("creds", data)
    error = await world.failure(world.object(secretRef={"name": "creds"}))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    assert world.server.requests == []


@pytest.mark.spec("SRC-COM-28", "SRC-COM-29")
async def test_half_a_pair_fails_and_old_names_of_the_keys_work(world: Sources) -> None:
    data = identity()
    world.secret("creds", {"ca.crt": data["ca.crt"], "tls.crt": data["tls.crt"]})
    error = await world.failure(world.object(secretRef={"name": "creds"}))
    assert error.reason == "AuthenticationFailed"
    assert "'tls.crt' and 'tls.key' must be given together" in error.message
    old = {"caFile": data["ca.crt"], "certFile": data["tls.crt"], "keyFile": data["tls.key"]}
    world.secret("creds", old)
    obj, _ = await world.run(world.object(secretRef={"name": "creds"}))
    assert obj.status.artifact is not None
    world.secret("creds", {**old, "caFile": CLIENTS.certificate, "ca.crt": data["ca.crt"]})
    obj, _ = await world.run(world.object(secretRef={"name": "creds"}), REQUESTED)
    assert obj.status.artifact is not None


@pytest.mark.spec("SRC-COM-31")
async def test_https_goes_through_the_proxy_of_the_secret(
    world: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    proxy = ForwardProxy(basic=("user", "canary/p@ss"))
    await proxy.start()
    world.secret("creds", identity())
    world.secret("proxy", {"address": proxy.address, "username": b"user", "password": b"canary/p@ss"})
    spec = {"secretRef": {"name": "creds"}, "proxySecretRef": {"name": "proxy"}}
    obj, _ = await world.run(world.object(**spec))
    assert obj.status.artifact is not None
    # The poll's connection stays open, the git program opens its own.
    assert set(proxy.requests) == {f"CONNECT 127.0.0.1:{world.server.port}"}
    assert len(proxy.requests) >= 2
    world.secret("proxy", {"address": proxy.address, "username": b"user", "password": b"canary-wrong"})
    error = await world.failure(world.object(**spec), REQUESTED)
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    assert "canary" not in error.message
    await proxy.stop()


@pytest.mark.spec("SRC-COM-31")
async def test_http_goes_through_the_proxy_of_the_secret(plain: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    proxy = ForwardProxy(basic=("user", "proxy-password"))
    await proxy.start()
    plain.server.basic = ("git", "server-password")
    plain.secret("proxy", {"address": proxy.address, "username": b"user", "password": b"proxy-password"})
    plain.secret("creds", {"username": b"git", "password": b"server-password"})
    obj, _ = await plain.run(plain.object(secretRef={"name": "creds"}, proxySecretRef={"name": "proxy"}))
    assert obj.status.artifact is not None
    assert {request.split("?")[0] for request in proxy.requests} >= {f"GET {plain.server.url('app.git')}/info/refs"}
    await proxy.stop()
    await asyncio.sleep(0)


@pytest.mark.spec("SRC-COM-31")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "key 'address' is missing"),
        ({"address": b"ftp://host"}, "scheme 'ftp' is none of http://, https://, socks5://"),
        ({"address": b"http://" + b"h" * 2048}, "'address' is longer than 2048 characters"),
        ({"address": b"http://host:1/\n-x"}, "contains control characters"),
    ],
)
async def test_a_bad_proxy_secret_fails(plain: Sources, data: dict[str, bytes], message: str) -> None:
    plain.secret("proxy", data)
    error = await plain.failure(plain.object(proxySecretRef={"name": "proxy"}))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")
    assert message in error.message
    assert plain.server.requests == []


@pytest.mark.spec("SRC-COM-31")
async def test_a_proxy_secret_that_is_missing_fails(plain: Sources) -> None:
    error = await plain.failure(plain.object(proxySecretRef={"name": "proxy"}))
    assert isinstance(error, Retry)
    assert error.reason == "AuthenticationFailed"
    assert error.message == "failed to get secret 'default/proxy': secrets \"proxy\" not found"


async def test_a_proxy_that_is_not_served_stalls_and_is_never_left_out(plain: Sources) -> None:
    plain.secret("proxy", {"address": b"https://127.0.0.1:1"})
    plain.secret("key", {"identity": b"x", "known_hosts": b"x"})
    spec = {"url": "ssh://git@host/x", "secretRef": {"name": "key"}, "proxySecretRef": {"name": "proxy"}}
    error = await plain.failure(plain.object(**spec))
    assert isinstance(error, Stalled)
    assert error.message == "a proxy of scheme https is not supported for ssh URLs"
    assert plain.server.requests == []


@pytest.mark.spec("SEC-29")
async def test_the_address_of_a_proxy_is_checked_like_that_of_a_server(tmp_path: Path) -> None:
    async with sources(tmp_path, policy=EgressPolicy()) as closed:
        proxy = ForwardProxy()
        await proxy.start()
        closed.secret("proxy", {"address": proxy.address})
        error = await closed.failure(closed.object(url="http://git.example/x", proxySecretRef={"name": "proxy"}))
        assert "is a loopback address" in error.message
        assert proxy.requests == []
        await proxy.stop()
