"""GitRepository with identities of GitHub and the clouds, and by way of SOCKS proxies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest

from headrace.controllers.git.access import GitAccess
from headrace.controllers.workload import WorkloadPolicy
from headrace.core.clock import SystemClock
from headrace.core.egress import EgressPolicy
from headrace.identity.accounts import Accounts
from headrace.identity.cache import TokenCache
from headrace.identity.identities import Identities, operators_policy
from headrace.model.errors import Retry, Stalled
from tests.servers.clouds import Clouds, clouds
from tests.servers.forward_proxy import ForwardProxy
from tests.servers.git_ssh import SshServer
from tests.servers.socks_proxy import SocksProxy
from tests.servers.sources import REQUESTED, Sources, sources
from tests.unit.identity.test_identities import ENTRA, OneAccount

CLIENT = asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
async def cloud() -> AsyncIterator[Clouds]:
    async with clouds() as running:
        yield running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        made.repo.commit({"a": "1"})
        yield made


def identify(
    world: Sources, cloud: Clouds, annotations: Mapping[str, str] | None = None, *, object_level: bool = True
) -> None:
    """Have the controller ask the clouds for identities."""
    environment = {"AZURE_AUTHORITY_HOST": cloud.url}
    clock = SystemClock()
    accounts = cast("Accounts", OneAccount(annotations or {}))
    world.egress.policy = operators_policy(environment)
    issued = Identities(accounts, world.egress, world.egress, environment, clock, TokenCache(clock))
    world.controller._access = GitAccess(issued, WorkloadPolicy(object_level=object_level))


def app(cloud: Clouds, **more: bytes) -> dict[str, bytes]:
    return {
        "githubAppID": b"12", "githubAppPrivateKey": cloud.pem, "githubAppBaseURL": f"{cloud.url}/api".encode(),
    } | more  # fmt: skip


@pytest.mark.spec("SRC-GIT-25")
async def test_github_without_a_secret_stalls(world: Sources, cloud: Clouds) -> None:
    identify(world, cloud)
    error = await world.failure(world.object(provider="github"))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("InvalidProviderConfiguration", "FetchFailed")
    world.secret("creds", {"username": b"x", "password": b"y"})
    error = await world.failure(world.object(provider="github", secretRef={"name": "creds"}))
    assert isinstance(error, Retry)
    assert error.reason == "InvalidProviderConfiguration"


@pytest.mark.spec("SRC-GIT-26")
@pytest.mark.parametrize("provider", ["", "generic"])
async def test_data_of_an_app_without_the_provider_fails(world: Sources, cloud: Clouds, provider: str) -> None:
    world.secret("creds", app(cloud, githubAppInstallationID=b"5"))
    error = await world.failure(world.object(provider=provider, secretRef={"name": "creds"}))
    assert isinstance(error, Retry)
    assert error.reason == "InvalidProviderConfiguration"
    assert error.message == "secret has github app data but provider is not set to github"


@pytest.mark.spec("SRC-GIT-27")
@pytest.mark.parametrize(
    ("data", "token", "asked"),
    [
        ({"githubAppInstallationID": b"5"}, "ghs_12_5", ["/api/app/installations/5/access_tokens"]),
        ({"githubAppInstallationOwner": b"acme"}, "ghs_12_77",
         ["/api/orgs/acme/installation", "/api/app/installations/77/access_tokens"]),
        ({"githubAppInstallationOwner": b"somebody"}, "ghs_12_78",
         ["/api/orgs/somebody/installation", "/api/users/somebody/installation",
          "/api/app/installations/78/access_tokens"]),
    ],
)  # fmt: skip
async def test_an_installation_of_an_app_by_id_or_owner_fetches(
    world: Sources, cloud: Clouds, data: dict[str, bytes], token: str, asked: list[str]
) -> None:
    identify(world, cloud)
    world.server.basic = ("x-access-token", token)
    world.secret("creds", app(cloud, **data))
    obj, _ = await world.run(world.object(provider="github", secretRef={"name": "creds"}))
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"a": b"1"}
    assert cloud.paths() == asked
    await world.run(obj)
    assert cloud.paths() == asked, "the token is kept"


@pytest.mark.spec("SRC-GIT-27")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"githubAppInstallationID": b"5", "githubAppInstallationOwner": b"acme"}, "only one of app installation"),
        ({}, "app installation owner or ID must be provided"),
        ({"githubAppInstallationID": b"5", "githubAppID": b""}, "app ID must be provided"),
        ({"githubAppInstallationID": b"5", "githubAppPrivateKey": b""}, "private key must be provided"),
        ({"githubAppInstallationID": b"5", "githubAppPrivateKey": b"no key"}, "the private key cannot be read"),
        ({"githubAppInstallationID": b"5", "githubAppBaseURL": b"file:///etc"}, "invalid API URL"),
    ],
)
async def test_misused_data_of_an_app_fails(
    world: Sources, cloud: Clouds, data: dict[str, bytes], message: str
) -> None:
    identify(world, cloud)
    world.secret("creds", app(cloud) | data)
    error = await world.failure(world.object(provider="github", secretRef={"name": "creds"}))
    assert isinstance(error, Retry)
    assert error.reason == "InvalidProviderConfiguration"
    assert message in error.message
    assert cloud.asked == []


async def test_a_token_that_is_issued_anew_keeps_the_mirror(world: Sources, cloud: Clouds) -> None:
    identify(world, cloud, ENTRA)
    world.server.bearer = "azure of app-1"
    obj, _ = await world.run(world.object(provider="azure", serviceAccountName="reader"))
    world.server.bearer = "azure of app-2"
    identify(world, cloud, ENTRA | {"azure.workload.identity/client-id": "app-2"})
    commit = world.repo.commit({"a": "2"})
    obj, _ = await world.run(obj, REQUESTED)
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision.endswith(commit)
    assert len(list(world.store.mirrors.iterdir())) == 1


@pytest.mark.spec("SRC-COM-32")
@pytest.mark.parametrize("provider", ["azure", "aws"])
async def test_a_service_account_needs_the_gate(world: Sources, cloud: Clouds, provider: str) -> None:
    identify(world, cloud, object_level=False)
    error = await world.failure(world.object(provider=provider, serviceAccountName="reader"))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("FeatureGateDisabled", "FetchFailed")


@pytest.mark.spec("SRC-GIT-28", "SRC-GIT-26")
async def test_aws_refuses_a_server_that_is_not_code_commit(world: Sources, cloud: Clouds) -> None:
    identify(world, cloud)
    world.secret("creds", app(cloud))
    error = await world.failure(world.object(provider="aws", secretRef={"name": "creds"}))
    assert isinstance(error, Retry)
    assert error.reason == "AuthenticationFailed"
    assert "invalid AWS CodeCommit URL" in error.message
    assert world.server.requests == []


# -- SOCKS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def socks() -> AsyncIterator[SocksProxy]:
    proxy = SocksProxy(login=("me", "socks-password"))
    await proxy.start()
    yield proxy
    await proxy.stop()


def with_proxy(world: Sources, proxy: SocksProxy | ForwardProxy, **login: bytes) -> dict[str, Any]:
    world.secret("proxy", {"address": proxy.address, "username": b"me", "password": b"socks-password"} | login)
    return {"proxySecretRef": {"name": "proxy"}}


@pytest.mark.spec("SRC-COM-31")
async def test_polls_and_fetches_go_by_the_socks_proxy_which_finds_the_server(
    world: Sources, socks: SocksProxy
) -> None:
    socks.names = {"git.only-the-proxy-knows.example": "127.0.0.1"}
    url = world.server.url(world.repo.name).replace("127.0.0.1", "git.only-the-proxy-knows.example")
    obj, _ = await world.run(world.object(url=url, **with_proxy(world, socks)))
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"a": b"1"}
    assert len(socks.targets) >= 2
    assert {target.partition(":")[0] for target in socks.targets} == {"git.only-the-proxy-knows.example"}


@pytest.mark.spec("SRC-COM-31")
async def test_a_socks_proxy_that_refuses_is_told_and_never_gone_around(world: Sources, socks: SocksProxy) -> None:
    error = await world.failure(world.object(**with_proxy(world, socks, password=b"wrong-canary")))
    assert error.reason == "GitOperationFailed"
    assert "proxy '127.0.0.1' failed" in error.message
    assert "canary" not in error.message
    assert world.server.requests == []


@pytest.mark.spec("SEC-29", "SRC-COM-31")
async def test_the_address_of_a_socks_proxy_is_checked(tmp_path: Path, socks: SocksProxy) -> None:
    async with sources(tmp_path, policy=EgressPolicy()) as closed:
        spec = with_proxy(closed, socks)
        for url in ("http://git.example/x", "ssh://git@git.example/x"):
            key = {"identity": CLIENT.export_private_key(), "known_hosts": b"git.example " + CLIENT.export_public_key()}
            closed.secret("key", key if url.startswith("ssh") else {})
            error = await closed.failure(closed.object(url=url, secretRef={"name": "key"}, **spec))
            assert "is a loopback address" in error.message
        assert socks.targets == []


@pytest.mark.spec("SRC-COM-31")
@pytest.mark.parametrize("kind", ["socks5", "http"])
async def test_ssh_goes_by_a_proxy(world: Sources, socks: SocksProxy, kind: str) -> None:
    server = SshServer(world.server.root, [CLIENT])
    await server.start()
    forward = ForwardProxy(basic=("me", "socks-password"))
    await forward.start()
    world.secret("key", server.secret(CLIENT))
    spec = with_proxy(world, socks if kind == "socks5" else forward)
    obj, _ = await world.run(world.object(url=server.url(world.repo.name), secretRef={"name": "key"}, **spec))
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"a": b"1"}
    used = socks.targets if kind == "socks5" else forward.requests
    assert len(used) == 1, "one connection for polls and fetches"
    await world.egress.close()
    await server.stop()
    await forward.stop()


@pytest.mark.spec("SRC-COM-31")
async def test_an_http_proxy_that_refuses_ssh_is_told(world: Sources) -> None:
    server = SshServer(world.server.root, [CLIENT])
    await server.start()
    forward = ForwardProxy(basic=("me", "socks-password"))
    await forward.start()
    world.secret("key", server.secret(CLIENT))
    spec = with_proxy(world, forward, password=b"wrong-canary")
    error = await world.failure(world.object(url=server.url(world.repo.name), secretRef={"name": "key"}, **spec))
    assert "proxy '127.0.0.1' failed: it answered 407" in error.message
    assert server.accepted == 0
    await server.stop()
    await forward.stop()
