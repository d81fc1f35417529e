"""Charts of a real registry: exact versions, ranges, credentials and signatures."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from headrace.controllers.workload import WorkloadPolicy
from headrace.model.errors import Retry, Stalled
from headrace.source.oci.credentials import Access, Credential, Keychain
from headrace.source.oci.manifest import HELM_CHART, Manifest, encoded
from headrace.source.oci.reference import Repository
from headrace.source.oci.registry import Registry
from headrace.status.rules import SOURCES
from headrace.status.summary import failed
from headrace.toolbox import Toolbox
from tests.cluster.ocirepository.world import FakeCloud, Pusher
from tests.servers.helm_http import HELM_CONFIG, chart_files, package
from tests.servers.helm_world import HelmWorld, helm_world
from tests.servers.registry import PASSWORD, USER, RegistryServer, registry_server
from tests.servers.signing import keyed_annotations, new_key, public_pem, simple_signing
from tests.servers.sources import INTERVAL, REQUESTED


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[RegistryServer]:
    async with registry_server(tmp_path / "registry") as server:
        yield server


@pytest.fixture
async def world(tmp_path: Path, registry: RegistryServer) -> AsyncIterator[HelmWorld]:
    async with Toolbox(size=1) as toolbox, helm_world(tmp_path, toolbox) as made:
        made.put(made.charts.kind.reference("default", "unused"), {})
        await made_of(made, registry)
        yield made


async def made_of(world: HelmWorld, registry: RegistryServer, **spec: Any) -> None:
    """The HelmRepository `charts` of the registry: only data, nobody reconciles it."""
    repo = world.repository(url=registry.url("charts"), type="oci", insecure=True, **spec)
    world.put(world.repositories.kind.reference("default", "charts"), msgspec.to_builtins(repo))
    registry.requests.clear()


def pusher(world: HelmWorld, registry: RegistryServer, path: str = "charts/app") -> Pusher:
    from headrace.core.clock import SystemClock

    keychain = Keychain(((registry.address, Credential(USER, PASSWORD)),))
    client = Registry(world.egress, SystemClock())
    return Pusher(client, Repository(registry.address, path), Access(keychain=keychain, insecure=True))


async def push(world: HelmWorld, registry: RegistryServer, version: str, **more: str) -> tuple[bytes, str]:
    """A chart as `helm push` puts it; returns the archive and the digest of the manifest."""
    archive = package(chart_files("app", version, **more))
    to = pusher(world, registry)
    config = await to.blob(HELM_CONFIG, b'{"name":"app"}')
    layer = await to.blob(HELM_CHART, archive)
    made = await to.manifest(version.replace("+", "_"), encoded(Manifest(config=config, layers=(layer,))))
    registry.requests.clear()
    return archive, made.digest


@pytest.mark.spec("SRC-HCH-02", "SRC-HCH-12")
async def test_an_exact_version_that_is_stored_costs_no_request(world: HelmWorld, registry: RegistryServer) -> None:
    archive, _ = await push(world, registry, "1.2.3+build.4")
    done, outcome = await world.run(world.chart(version="1.2.3+build.4"))
    assert world.archive(done) == archive
    assert (outcome.reason, outcome.revision) == ("ChartPullSucceeded", "1.2.3+build.4")
    assert not [request for request in registry.requests if "tags" in request.path]
    registry.requests.clear()
    for causes in (INTERVAL, REQUESTED):
        done, _ = await world.run(done, causes)
    assert registry.requests == []


@pytest.mark.spec("SRC-HCH-01")
async def test_a_range_is_matched_by_the_tags(world: HelmWorld, registry: RegistryServer) -> None:
    for version in ("1.0.0", "1.4.0+a.1", "2.0.0-rc.1"):
        await push(world, registry, version)
    done, _ = await world.run(world.chart(version="1.x"))
    assert done.status.artifact is not None
    assert done.status.artifact.revision == "1.4.0+a.1"
    done, _ = await world.run(world.chart(version="*"))
    assert done.status.artifact is not None
    assert done.status.artifact.revision == "1.4.0+a.1"


@pytest.mark.spec("SRC-HCH-11")
@pytest.mark.parametrize("version", [">=3", "9.9.9"])
async def test_no_match_in_a_registry_is_tried_again(world: HelmWorld, registry: RegistryServer, version: str) -> None:
    await push(world, registry, "1.0.0")
    error = await world.failure(world.chart(version=version))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("ChartPullError", "FetchFailed")


@pytest.mark.spec("SRC-HCH-03")
async def test_values_files_are_merged_for_charts_of_registries_too(
    world: HelmWorld, registry: RegistryServer
) -> None:
    await push(world, registry, "1.0.0", **{"prod.yaml": "a: 1\n"})
    done, _ = await world.run(world.chart(version="1.0.0", generation=3, valuesFiles=["prod.yaml"]))
    assert yaml.safe_load(world.files(done)["app/values.yaml"]) == {"a": 1}
    assert done.status.artifact is not None
    assert done.status.artifact.revision == "1.0.0+3"


@pytest.mark.spec("SRC-HCH-13")
@pytest.mark.parametrize("form", ["basic", "docker"])
async def test_a_secret_opens_the_registry_and_without_it_access_is_denied(tmp_path: Path, form: str) -> None:
    async with registry_server(tmp_path / "locked", password=True) as registry, Toolbox(size=1) as toolbox:
        async with helm_world(tmp_path, toolbox) as world:
            archive, _ = await push(world, registry, "1.0.0")
            await made_of(world, registry)
            error = await world.failure(world.chart(version="1.0.0"))
            assert error.reason == "AuthenticationFailed"
            assert error.conditions[0].reason == "Unknown"
            if form == "basic":
                world.secret("creds", username=USER.encode(), password=PASSWORD.encode())
            else:
                auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                config = {"auths": {registry.address: {"auth": auth}}}
                data = {".dockerconfigjson": base64.b64encode(msgspec.json.encode(config)).decode()}
                from headrace.model.reference import Reference

                world.put(Reference("", "Secret", "default", "creds"), {"data": data})
            await made_of(world, registry, secretRef={"name": "creds"})
            done, _ = await world.run(world.chart(version="1.0.0"))
            assert world.archive(done) == archive


@pytest.mark.spec("SRC-HCH-20")
async def test_a_signature_is_needed_and_what_is_verified_is_what_is_pulled(
    world: HelmWorld, registry: RegistryServer
) -> None:
    archive, digest = await push(world, registry, "1.0.0")
    key = new_key()
    world.secret("keys", key__pub=public_pem(key))
    spec: dict[str, Any] = {"version": "1.0.0", "verify": {"provider": "cosign", "secretRef": {"name": "keys"}}}
    error = await world.failure(world.chart(**spec))
    verdict = failed(error, SOURCES, ())
    told = {condition.type: (condition.status, condition.reason) for condition in verdict.conditions}
    assert told["BuildFailed"] == ("True", "ChartVerificationError")
    assert told["SourceVerified"] == ("False", "VerificationError")
    assert told["Ready"] == ("False", "VerificationError")
    to = pusher(world, registry)
    payload = simple_signing(digest)
    layer = await to.blob("application/vnd.dev.cosign.simplesigning.v1+json", payload)
    signed = msgspec.structs.replace(layer, annotations=keyed_annotations(key, payload))
    config = await to.blob("application/vnd.oci.image.config.v1+json", b"{}")
    await to.manifest(f"{digest.replace(':', '-')}.sig", encoded(Manifest(config=config, layers=(signed,))))
    done, outcome = await world.run(world.chart(**spec))
    assert world.archive(done) == archive
    proof = {condition.type: condition for condition in outcome.conditions}["SourceVerified"]
    assert (proof.status, proof.message) == ("True", "verified signature of version 1.0.0")


async def test_the_identity_in_a_cloud_opens_the_registry(tmp_path: Path) -> None:
    cloud = FakeCloud(credentials=(USER, PASSWORD))
    async with registry_server(tmp_path / "locked", password=True) as registry, Toolbox(size=1) as toolbox:
        async with helm_world(tmp_path, toolbox, identities=cloud) as world:
            archive, _ = await push(world, registry, "1.0.0")
            await made_of(world, registry, provider="aws")
            done, _ = await world.run(world.chart(version="1.0.0"))
            assert world.archive(done) == archive
            assert cloud.asked == [("aws", registry.address, None)]
            cloud.credentials = None
            await made_of(world, registry, provider="gcp")
            error = await world.failure(world.chart("other", version="1.0.0"))
    assert (error.reason, error.message) == (
        "AuthenticationFailed", "failed to get credential from 'gcp': no identity here",
    )  # fmt: skip


@pytest.mark.parametrize("provider", ["aws", "azure", "gcp"])
async def test_the_engines_own_identity_is_nobodys_under_strict_tenancy(
    tmp_path: Path, provider: str
) -> None:
    strict = WorkloadPolicy(own_identity=False)
    async with Toolbox(size=1) as toolbox, helm_world(tmp_path, toolbox, workload=strict) as world:
        repository = world.repository(type="oci", url="oci://registry.example.com/charts", provider=provider)
        world.put(world.repositories.kind.reference("default", "charts"), msgspec.to_builtins(repository))
        error = await world.failure(world.chart(version="1.0.0"))
    assert (isinstance(error, Stalled), error.reason) == (True, "AccessDenied")
