"""The registry client against a real registry: pulls, pushes, credentials, tokens."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy, Trust, parse_url
from headrace.source.oci import transport
from headrace.source.oci.credentials import PLAIN, Access, Credential, Keychain
from headrace.source.oci.errors import Denied, DigestMismatch, NotFound, OciError
from headrace.source.oci.manifest import (
    FLUX_CONFIG,
    FLUX_CONTENT,
    INDEX,
    MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Platform,
    encoded,
)
from headrace.source.oci.reference import Repository, digest_of
from headrace.source.oci.registry import Registry
from tests.servers.certificates import Authority
from tests.servers.registry import PASSWORD, USER, Fault, RegistryServer, TokenServer, registry_server


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    made = Egress(EgressPolicy(allow_loopback=True))
    yield made
    await made.close()


@pytest.fixture
def registry(egress: Egress) -> Registry:
    return Registry(egress, SystemClock())


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RegistryServer]:
    async with registry_server(tmp_path / "registry") as running:
        yield running


def login(server: RegistryServer, username: str = USER, password: str = PASSWORD, **more: object) -> Access:
    keychain = Keychain(((server.address, Credential(username, password)),))
    return Access(keychain=keychain, **more)  # type: ignore[arg-type]


async def push(
    registry: Registry, repository: Repository, tag: str, layer: bytes = b"content", access: Access = PLAIN
) -> Descriptor:
    config = await registry.push_blob(repository, b"{}", FLUX_CONFIG, access, timeout=10)
    pushed = await registry.push_blob(repository, layer, FLUX_CONTENT, access, timeout=10)
    body = encoded(Manifest(config=config, layers=(pushed,), annotations={"a": "b"}))
    return await registry.push_manifest(repository, tag, body, MANIFEST, access, timeout=10)


async def test_what_was_pushed_is_resolved_read_and_fetched(registry: Registry, server: RegistryServer) -> None:
    repository = Repository(server.address, "org/app")
    pushed = await push(registry, repository, "v1")
    found = await registry.resolve(repository, "v1", Access(), timeout=10)
    assert (found.digest, found.media_type, found.size) == (pushed.digest, MANIFEST, pushed.size)
    image = await registry.image(repository, found.digest, Access(), timeout=10)
    assert image.annotations == {"a": "b"}
    assert image.layers is not None
    file = io.BytesIO()
    await registry.blob(repository, image.layers[0], file, Access(), timeout=10)
    assert file.getvalue() == b"content"


async def test_a_blob_that_is_there_is_not_uploaded_again(registry: Registry, server: RegistryServer) -> None:
    repository = Repository(server.address, "org/app")
    await push(registry, repository, "v1")
    server.requests.clear()
    await push(registry, repository, "v2")
    assert not [request for request in server.requests if request.method == "POST"]


async def test_tags_are_read_page_by_page(
    registry: Registry, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.source.oci.registry._PAGE", 2)
    repository = Repository(server.address, "org/app")
    for number in range(5):
        await push(registry, repository, f"v{number}")
    assert await registry.tags(repository, Access(), timeout=10) == [f"v{number}" for number in range(5)]
    assert server.counts["GET tags"] == 3
    with pytest.raises(OciError, match="more than 3 tags"):
        await registry.tags(repository, Access(), timeout=10, limit=3)


async def test_an_index_leads_to_the_manifest_for_linux(registry: Registry, server: RegistryServer) -> None:
    repository = Repository(server.address, "org/app")
    arm, intel = await push(registry, repository, "arm", b"arm"), await push(registry, repository, "amd", b"amd")
    index = Index(manifests=(
        msgspec.structs.replace(arm, platform=Platform("arm64", "linux")),
        msgspec.structs.replace(intel, platform=Platform("amd64", "linux")),
    ))  # fmt: skip
    pushed = await registry.push_manifest(repository, "multi", encoded(index), INDEX, Access(), timeout=10)
    assert (await registry.resolve(repository, "multi", Access(), timeout=10)).digest == pushed.digest
    image = await registry.image(repository, "multi", Access(), timeout=10)
    assert image.layers is not None
    assert image.layers[0].digest == digest_of(b"amd")


async def test_what_is_not_there_is_told_with_the_words_of_the_registry(
    registry: Registry, server: RegistryServer
) -> None:
    repository = Repository(server.address, "org/app")
    await push(registry, repository, "v1")
    with pytest.raises(NotFound, match="MANIFEST_UNKNOWN"):
        await registry.resolve(repository, "v2", Access(), timeout=10)
    with pytest.raises(NotFound):
        await registry.tags(Repository(server.address, "org/other"), Access(), timeout=10)


async def test_a_registry_without_digests_in_its_headers_is_asked_by_get(
    registry: Registry, server: RegistryServer
) -> None:
    repository = Repository(server.address, "org/app")
    pushed = await push(registry, repository, "v1")
    for method in ("HEAD", "GET"):
        server.faults.append(Fault("headers", "manifests", method=method, headers={"Docker-Content-Digest": ""}))
    assert (await registry.resolve(repository, "v1", Access(), timeout=10)).digest == pushed.digest


async def test_a_password_opens_the_registry_and_a_wrong_one_does_not(registry: Registry, tmp_path: Path) -> None:
    async with registry_server(tmp_path / "registry", password=True) as server:
        repository = Repository(server.address, "org/app")
        await push(registry, repository, "v1", access=login(server))
        await registry.resolve(repository, "v1", login(server), timeout=10)
        for access in (Access(), login(server, password="wrong")):
            with pytest.raises(Denied):
                await registry.resolve(repository, "v1", access, timeout=10)


async def test_a_token_is_fetched_once_for_each_repository_and_identity(registry: Registry, tmp_path: Path) -> None:
    tokens = TokenServer(anonymous=True)
    async with registry_server(tmp_path / "registry", tokens=tokens) as server:
        repository = Repository(server.address, "org/app")
        await push(registry, repository, "v1", access=login(server))
        assert {request.query for request in tokens.requests} == {"service=registry&scope=repository:org/app:pull,push"}
        tokens.requests.clear()
        for access in (login(server), login(server), Access(), Access()):
            await registry.resolve(repository, "v1", access, timeout=10)
        assert [request.headers.get("Authorization", "")[:5] for request in tokens.requests] == ["Basic", ""]
        with pytest.raises(Denied):
            await push(registry, repository, "v2", b"other", access=Access())


async def test_a_token_is_fetched_again_when_its_life_ends(registry: Registry, tmp_path: Path) -> None:
    tokens = TokenServer(anonymous=True)
    async with registry_server(tmp_path / "registry", tokens=tokens) as server:
        repository = Repository(server.address, "org/app")
        await push(registry, repository, "v1", access=login(server))
        await registry.resolve(repository, "v1", Access(), timeout=10)
        # The registry is told of another key: what was given out is not taken any more.
        before = len(tokens.requests)
        refused = {"WWW-Authenticate": f'Bearer realm="{tokens.realm}",service="registry",error="invalid_token"'}
        server.faults.append(Fault("status", "manifests", method="HEAD", status=401, times=1, headers=refused))
        await registry.resolve(repository, "v1", Access(), timeout=10)
        assert len(tokens.requests) == before + 1


async def test_an_identity_token_is_exchanged(registry: Registry, tmp_path: Path) -> None:
    tokens = TokenServer(refresh_token="refresh-me-please")
    async with registry_server(tmp_path / "registry", tokens=tokens) as server:
        repository = Repository(server.address, "org/app")
        keychain = Keychain(((server.address, Credential(identity_token="refresh-me-please")),))
        await push(registry, repository, "v1", access=Access(keychain=keychain))
        assert {request.method for request in tokens.requests} == {"POST"}


@pytest.mark.spec("SRC-OCI-19", "SRC-OCI-20")
async def test_insecure_takes_http_and_any_certificate_unless_one_is_given(registry: Registry, tmp_path: Path) -> None:
    authority = Authority()
    async with registry_server(tmp_path / "tls", tls=authority.server_context(tmp_path, "127.0.0.1")) as secured:
        repository = Repository(secured.address, "org/app")
        trusting = Access(trust=Trust(ca=authority.certificate))
        pushed = await push(registry, repository, "v1", access=trusting)
        with pytest.raises(OciError, match="certificate"):
            await registry.resolve(repository, "v1", Access(), timeout=10)
        found = await registry.resolve(repository, "v1", Access(insecure=True), timeout=10)
        assert found.digest == pushed.digest
        other = Access(insecure=True, trust=Trust(ca=Authority().certificate))
        with pytest.raises(OciError, match="certificate"):
            await registry.resolve(repository, "v1", other, timeout=10)
    async with registry_server(tmp_path / "plain", host="127.0.0.2") as plain:
        repository = Repository(plain.address, "org/app")
        await push(registry, repository, "v1", access=Access(insecure=True))
        assert await registry.resolve(repository, "v1", Access(insecure=True), timeout=10)
        with pytest.raises(OciError):
            await registry.resolve(repository, "v1", Access(), timeout=10)


async def test_a_registry_may_ask_for_a_client_certificate(registry: Registry, tmp_path: Path) -> None:
    authority = Authority()
    context = authority.server_context(tmp_path, "127.0.0.1", client_ca=authority.certificate)
    async with registry_server(tmp_path / "registry", tls=context) as server:
        repository = Repository(server.address, "org/app")
        certificate, key = authority.issue("robot")
        trust = Trust(ca=authority.certificate, certificate=certificate, key=key)
        assert await push(registry, repository, "v1", access=Access(trust=trust))
        with pytest.raises(OciError):
            await registry.resolve(repository, "v1", Access(trust=Trust(ca=authority.certificate)), timeout=10)


async def test_a_busy_registry_gets_the_time_it_asks_for(registry: Registry, server: RegistryServer) -> None:
    repository = Repository(server.address, "org/app")
    await push(registry, repository, "v1")
    server.requests.clear()
    busy = {"Retry-After": "1"}
    server.faults.append(Fault("status", "manifests", method="HEAD", status=429, headers=busy, times=1))
    assert await registry.resolve(repository, "v1", Access(), timeout=10)
    assert server.counts["HEAD manifests"] == 2
    server.faults.append(Fault("status", "manifests", method="HEAD", status=429, headers={"Retry-After": "600"}))
    with pytest.raises(OciError) as caught:
        await registry.resolve(repository, "v1", Access(), timeout=10)
    assert caught.value.retry_after == pytest.approx(600, abs=5)
    server.requests.clear()
    with pytest.raises(OciError, match="fewer requests"):
        await registry.tags(repository, Access(), timeout=10)
    assert not server.requests, "the host is left alone by everybody"


async def test_what_was_found_on_the_way_to_a_registry_is_forgotten_for_those_of_later(
    egress: Egress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_WAYS", 1)
    registry = Registry(egress, SystemClock())
    async with (
        registry_server(tmp_path / "one", password=True) as one,
        registry_server(tmp_path / "other", password=True) as other,
    ):
        for server in (one, other):
            await push(registry, Repository(server.address, "org/app"), "v1", access=login(server))
        one.requests.clear()
        for server, asked in ((one, 2), (one, 3), (other, 3), (one, 5)):
            repository = Repository(server.address, "org/app")
            assert await registry.resolve(repository, "v1", login(server), timeout=10)
            assert one.counts["HEAD manifests"] == asked


@pytest.mark.spec("SEC-49", "SEC-50")
@pytest.mark.parametrize(
    "answer",
    [
        "429 Too Many Requests\r\nRetry-After: 900000",
        "401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/token\"",
    ],
)
async def test_what_a_proxy_says_in_the_name_of_a_registry_counts_for_those_who_use_it(
    registry: Registry, server: RegistryServer, answer: str
) -> None:
    repository = Repository(server.address, "org/app")
    await push(registry, repository, "v1")

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(lie, "127.0.0.1", 0) as proxy:
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        with pytest.raises(OciError):
            await registry.resolve(repository, "v1", login(server, proxy=parse_url(address)), timeout=10)
    assert await registry.resolve(repository, "v1", login(server), timeout=10)
    assert not server.counts.get("GET token")


async def test_referrers_are_found_by_the_tag_of_older_registries(registry: Registry, server: RegistryServer) -> None:
    repository = Repository(server.address, "org/app")
    subject = await push(registry, repository, "v1")
    assert await registry.referrers(repository, subject.digest, Access(), timeout=10) == ()
    one = Descriptor(MANIFEST, digest_of(b"1"), 1, artifact_type="a/b")
    other = Descriptor(MANIFEST, digest_of(b"2"), 1, artifact_type="c/d")
    pushed = [await push(registry, repository, name, name.encode()) for name in ("one", "other")]
    manifests = tuple(
        msgspec.structs.replace(descriptor, artifact_type=like.artifact_type)
        for descriptor, like in zip(pushed, (one, other), strict=True)
    )
    body = encoded(Index(manifests=manifests))
    tag = subject.digest.replace(":", "-")
    await registry.push_manifest(repository, tag, body, INDEX, Access(), timeout=10)
    found = await registry.referrers(repository, subject.digest, Access(), timeout=10, artifact_type="a/b")
    assert [one.digest for one in found] == [pushed[0].digest]


async def test_a_manifest_that_is_not_its_digest_is_refused(registry: Registry, server: RegistryServer) -> None:
    repository = Repository(server.address, "org/app")
    pushed = await push(registry, repository, "v1")
    server.faults.append(Fault("corrupt", "manifests"))
    for reference in ("v1", pushed.digest):
        with pytest.raises(DigestMismatch):
            await registry.manifest(repository, reference, Access(), timeout=10)
