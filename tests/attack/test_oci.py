"""Registries that want more than they should get, and artifacts that are not what they say."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.source.oci.credentials import Access, Credential, Keychain
from headrace.source.oci.errors import Denied, OciError
from headrace.source.oci.manifest import FLUX_CONTENT, MANIFEST, Manifest, encoded
from headrace.source.oci.reference import Repository, digest_of
from headrace.source.oci.registry import Registry
from tests.cluster.ocirepository.world import OciWorld, docker_config, layer, oci_world
from tests.servers.registry import Fault, Request, registry_server

USER, PASSWORD = "robot", "canary-in-a-mine"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[OciWorld]:
    async with oci_world(tmp_path) as made:
        yield made


@dataclass
class Listener:
    """A server of somebody else; it keeps what it is sent."""

    host: str = "127.0.0.2"
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Listener]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self.host, 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        self.requests.append(Request(request.method, request.path, request.query_string, dict(request.headers)))
        return web.json_response({"token": "given-by-somebody-else"})


def login(host: str) -> Access:
    return Access(keychain=Keychain(((host, Credential(USER, PASSWORD)),)))


def challenge(realm: str) -> dict[str, str]:
    return {"WWW-Authenticate": f'Bearer realm="{realm}",service="x",scope="repository:org/app:pull"'}


# -- credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-30")
async def test_credentials_are_not_sent_to_a_token_server_of_another_domain(world: OciWorld) -> None:
    async with Listener().running() as thief:
        answer = Fault("status", "manifests", method="HEAD", status=401, headers=challenge(f"{thief.url}/token"))
        world.server.faults.append(answer)
        world.secret("login", docker_config(world.server.address, USER, PASSWORD))
        error = await world.failure(world.object(secretRef={"name": "login"}))
        assert error.reason == "AuthenticationFailed"
        assert "not given the credentials" in error.message
        assert not thief.requests


@pytest.mark.spec("SEC-30", "SRC-OCI-16")
async def test_a_token_server_may_be_trusted_by_the_operator_and_asked_by_nobody_in_particular(
    world: OciWorld,
) -> None:
    async with Listener().running() as other:
        answer = Fault("status", "manifests", method="HEAD", status=401, headers=challenge(f"{other.url}/token"))
        world.server.faults.append(answer)
        repository = Repository(world.server.address, "org/app")
        with pytest.raises(Denied):
            await world.registry.resolve(repository, "v1", Access(), timeout=10)
        assert "Authorization" not in other.requests[0].headers
        egress = Egress(EgressPolicy(allow_loopback=True))
        trusting = Registry(egress, SystemClock(), trusted_token_hosts=frozenset({other.host}))
        with pytest.raises(Denied):
            await trusting.resolve(repository, "v1", login(world.server.address), timeout=10)
        assert other.requests[-1].headers["Authorization"].startswith("Basic ")
        await egress.close()


@pytest.mark.spec("SEC-30")
@pytest.mark.parametrize("what", ["blobs", "manifests"])
async def test_a_redirect_to_another_origin_takes_no_credentials_along(tmp_path: Path, what: str) -> None:
    async with oci_world(tmp_path, password=True) as world, Listener().running() as thief:
        pusher = world.pusher(password=True)
        await pusher.push("latest")
        world.server.faults.append(Fault("redirect", f"/{what}/", location=f"{thief.url}/"))
        world.secret("login", docker_config(world.server.address))
        await world.failure(world.object(secretRef={"name": "login"}))
        assert thief.requests
        assert all("Authorization" not in request.headers for request in thief.requests)


@pytest.mark.spec("SEC-30")
async def test_an_upload_to_another_origin_takes_no_credentials_along(tmp_path: Path) -> None:
    async with oci_world(tmp_path, password=True) as world, Listener().running() as thief:
        location = {"Location": f"{thief.url}/upload"}
        world.server.faults.append(Fault("status", "uploads", method="POST", status=202, headers=location, times=1))
        with pytest.raises(OciError):
            await world.pusher(password=True).push("latest")
        assert thief.requests
        assert all("Authorization" not in request.headers for request in thief.requests)


@pytest.mark.spec("SEC-35")
async def test_no_message_holds_a_password(tmp_path: Path) -> None:
    async with oci_world(tmp_path, password=True) as world:
        world.secret("login", docker_config(world.server.address, USER, PASSWORD))
        error = await world.failure(world.object(secretRef={"name": "login"}))
        assert PASSWORD not in f"{error} {error.__cause__!r} {world.scope}"


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-29")
@pytest.mark.parametrize("target", ["169.254.169.254", "[::ffff:169.254.169.254]", "100.100.100.200"])
async def test_no_way_leads_to_addresses_that_are_closed(world: OciWorld, target: str) -> None:
    await world.pusher().push("latest")
    repository = Repository(world.server.address, "org/app")
    faults = (
        Fault("status", "manifests", method="HEAD", status=401, headers=challenge(f"http://{target}/token"), times=1),
        Fault("redirect", "manifests", method="HEAD", location=f"http://{target}/x", times=1),
    )
    for fault in faults:
        world.server.faults[:] = [fault]
        with pytest.raises(OciError, match="denied: .* is a (cloud metadata|link-local) address"):
            await world.registry.resolve(repository, "latest", Access(), timeout=10)
    with pytest.raises(OciError):
        await world.registry.resolve(Repository(target, "org/app"), "latest", Access(), timeout=10)


@pytest.mark.spec("SEC-29")
async def test_a_loopback_registry_is_closed_unless_the_operator_opens_it(tmp_path: Path) -> None:
    async with registry_server(tmp_path / "registry") as server:
        egress = Egress(EgressPolicy())
        with pytest.raises(OciError, match="is a loopback address"):
            await Registry(egress, SystemClock()).resolve(Repository(server.address, "a"), "b", Access(), timeout=10)
        assert not server.requests
        await egress.close()


@pytest.mark.spec("SEC-29")
async def test_a_list_of_tags_that_goes_on_elsewhere_or_for_ever_is_not_followed(world: OciWorld) -> None:
    await world.pusher().push("latest")
    repository = Repository(world.server.address, "org/app")
    for link in ("<http://169.254.169.254/v2/org/app/tags/list?n=1>", "</v2/other/tags/list?n=1>", "<//evil/x>"):
        world.server.faults[:] = [Fault("headers", "tags", headers={"Link": f'{link}; rel="next"'})]
        with pytest.raises(OciError, match="goes on elsewhere"):
            await world.registry.tags(repository, Access(), timeout=10)
    again = {"Link": '</v2/org/app/tags/list?n=1>; rel="next"'}
    world.server.faults[:] = [Fault("headers", "tags", headers=again)]
    with pytest.raises(OciError, match="more than 5 tags"):
        await world.registry.tags(repository, Access(), timeout=30, limit=5)


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-46")
async def test_a_tag_that_moves_between_resolving_and_pulling_changes_nothing(world: OciWorld) -> None:
    good = await world.pusher().push("latest", {"good": "1"})
    world.server.requests.clear()
    obj, _ = await world.run(world.object())
    pulled = [request.path for request in world.server.requests if request.method == "GET"]
    assert pulled
    assert not any(path.endswith("/manifests/latest") for path in pulled), "the tag is asked for once"
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"latest@{good.digest}"
    # Whoever answers for the digest with something else is not believed.
    evil = encoded(Manifest(layers=()))
    world.server.faults.append(Fault("corrupt", "manifests", body=evil))
    error = await world.failure(world.object("other"))
    assert "does not match its digest" in error.message


@pytest.mark.spec("SEC-33")
@pytest.mark.parametrize("digest", ["", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:", "sha1:" + "a" * 40])
async def test_a_layer_without_a_proper_digest_is_refused(world: OciWorld, digest: str) -> None:
    body = b'{"schemaVersion":2,"layers":[{"mediaType":"a/b","digest":"%b","size":1}]}' % digest.encode()
    await world.pusher().push("latest")
    headers = Fault("headers", "manifests", method="HEAD", headers={"Docker-Content-Digest": digest_of(body)})
    world.server.faults += [headers, Fault("corrupt", "manifests", body=body)]
    error = await world.failure(world.object())
    assert "is no digest" in error.message


@pytest.mark.spec("SEC-33")
async def test_a_registry_that_names_weak_digests_is_asked_for_the_content(world: OciWorld) -> None:
    pushed = await world.pusher().push("latest")
    weak = {"Docker-Content-Digest": "md5:d41d8cd98f00b204e9800998ecf8427e"}
    world.server.faults.append(Fault("headers", "manifests", method="HEAD", headers=weak))
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"latest@{pushed.digest}"


@pytest.mark.spec("SEC-05")
async def test_a_blob_that_does_not_end_is_cut_at_its_size(world: OciWorld) -> None:
    await world.pusher().push("latest")
    world.server.faults.append(Fault("grow", "blobs"))
    error = await world.failure(world.object())
    assert error.reason == "OCIArtifactPullFailed"
    assert "larger than" in error.message


@pytest.mark.spec("SEC-05")
async def test_a_manifest_that_does_not_end_is_cut(world: OciWorld) -> None:
    await world.pusher().push("latest")
    world.server.faults.append(Fault("grow", "manifests"))
    assert "is larger than" in (await world.failure(world.object())).message


@pytest.mark.spec("SEC-04")
async def test_a_layer_that_claims_to_be_huge_is_not_fetched(world: OciWorld) -> None:
    pusher = world.pusher()
    config = await pusher.blob("a/b", b"{}")
    real = await pusher.blob(FLUX_CONTENT, layer({"a": "1"}))
    body = encoded(Manifest(config=config, layers=(real,))).replace(
        f'"size":{real.size}'.encode(), b'"size":99999999999'
    )
    headers = Fault("headers", "manifests", method="HEAD", headers={"Docker-Content-Digest": digest_of(body)})
    world.server.faults += [headers, Fault("corrupt", "manifests", body=body)]
    await pusher.manifest("latest", encoded(Manifest(config=config, layers=(real,))), MANIFEST)
    world.server.requests.clear()
    assert "more than" in (await world.failure(world.object())).message
    assert not world.server.counts["GET blobs"]


@pytest.mark.spec("SEC-04")
async def test_a_bomb_of_zeros_is_refused(world: OciWorld) -> None:
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9, mtime=0) as packed:
        entry = tarfile.TarInfo("zeros")
        entry.size = 64 * 1024 * 1024
        packed.write(entry.tobuf())
        for _ in range(64):
            packed.write(bytes(1024 * 1024))
    await world.pusher().push("latest", layers=((FLUX_CONTENT, raw.getvalue()),))
    error = await world.failure(world.object())
    assert error.reason == "OCIArtifactLayerOperationFailed"
    assert "times its size" in error.message


@pytest.mark.spec("SEC-01", "SEC-02", "SRC-OCI-11")
@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "C:\\x"])
async def test_a_layer_that_writes_elsewhere_is_refused(world: OciWorld, name: str) -> None:
    await world.pusher().push("latest", layers=((FLUX_CONTENT, layer({"good": "1", name: "2"})),))
    error = await world.failure(world.object())
    assert error.reason == "OCIArtifactLayerOperationFailed"
    await world.pusher().push("link", layers=((FLUX_CONTENT, layer({"good": "1"}, links={"l": "/etc"})),))
    error = await world.failure(world.object(ref={"tag": "link"}))
    assert "leads out of the tree" in error.message


@pytest.mark.spec("SEC-43")
async def test_an_expression_that_would_take_for_ever_takes_no_time(world: OciWorld) -> None:
    for tag in ("1.0.0-" + "a" * 100, "1.0.0"):
        await world.pusher().push(tag)
    ref = {"semver": ">=1.0.0-0", "semverFilter": "^1.0.0-(a+)+$|^(a|aa)+$"}
    obj, _ = await world.run(world.object(ref=ref, timeout="10s"))
    assert obj.status.artifact is not None
