"""With which credentials an OCIRepository is polled, and what happens when there are none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.controllers.workload import WorkloadPolicy
from headrace.identity import ServiceAccount
from headrace.model.errors import Retry, Stalled
from tests.cluster.ocirepository.world import OciWorld, docker_config, oci_world
from tests.servers.certificates import Authority
from tests.servers.forward_proxy import ForwardProxy
from tests.servers.registry import PASSWORD, USER, TokenServer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[OciWorld]:
    async with oci_world(tmp_path, password=True) as made:
        await made.pusher(password=True).push("latest")
        yield made


@pytest.mark.spec("SRC-OCI-16")
async def test_a_pull_secret_opens_the_registry(world: OciWorld) -> None:
    world.secret("login", docker_config(world.server.address))
    obj, _ = await world.run(world.object(secretRef={"name": "login"}))
    assert obj.status.artifact is not None


@pytest.mark.spec("SRC-OCI-16")
async def test_the_pull_secrets_of_a_service_account_open_the_registry(world: OciWorld) -> None:
    world.secret("other", docker_config("other.example"))
    world.secret("login", docker_config(world.server.address))
    world.service_account("robot", "other", "login")
    obj, _ = await world.run(world.object(serviceAccountName="robot"))
    assert obj.status.artifact is not None


async def test_without_credentials_the_registry_stays_closed(world: OciWorld) -> None:
    error = await world.failure(world.object())
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("OCIArtifactPullFailed", "FetchFailed")
    assert "denies access" in error.message


@pytest.mark.spec("SRC-OCI-18")
async def test_a_missing_account_or_secret_fails_and_its_creation_wakes(world: OciWorld) -> None:
    world.service_account("lonely", "missing")
    for spec, named in (
        ({"secretRef": {"name": "missing"}}, "secrets"),
        ({"serviceAccountName": "missing"}, "serviceaccounts"),
        ({"serviceAccountName": "lonely"}, "secrets"),
    ):
        error = await world.failure(world.object(**spec))
        assert isinstance(error, Retry)
        assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")
        assert f'{named} "missing" not found' in error.message
        assert world.scope is not None
        assert "missing" in {read.reference.name for read in world.scope.reads}


async def test_a_secret_of_another_form_fails_without_a_word_of_it(world: OciWorld) -> None:
    world.secret("login", {".dockerconfigjson": b"hunter2-is-no-json"})
    error = await world.failure(world.object(secretRef={"name": "login"}))
    assert error.reason == "AuthenticationFailed"
    assert "hunter2" not in error.message


@pytest.mark.spec("SRC-OCI-17")
async def test_a_secret_goes_before_the_identity_in_a_cloud(world: OciWorld) -> None:
    world.secret("login", docker_config(world.server.address))
    world.cloud.credentials = ("somebody", "else")
    obj, _ = await world.run(world.object(secretRef={"name": "login"}, provider="aws"))
    assert obj.status.artifact is not None
    assert not world.cloud.asked


async def test_the_identity_in_a_cloud_opens_the_registry(world: OciWorld) -> None:
    world.cloud.credentials = (USER, PASSWORD)
    obj, _ = await world.run(world.object(provider="aws"))
    assert obj.status.artifact is not None
    assert world.cloud.asked == [("aws", world.server.address, None)]
    world.cloud.credentials = None
    error = await world.failure(world.object(provider="gcp"))
    assert (error.reason, error.message) == (
        "AuthenticationFailed", "failed to get credential from gcp: no identity here",
    )  # fmt: skip


@pytest.mark.spec("SRC-COM-32")
async def test_an_account_with_a_provider_needs_the_gate_unless_it_brings_pull_secrets(world: OciWorld) -> None:
    world.cloud.credentials = (USER, PASSWORD)
    world.service_account("robot")
    world.service_account("puller", "login")
    world.secret("login", docker_config(world.server.address))
    error = await world.failure(world.object(provider="aws", serviceAccountName="robot"))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("FeatureGateDisabled", "FetchFailed")
    await world.run(world.object(provider="aws", serviceAccountName="puller"))
    assert not world.cloud.asked
    world.policy = WorkloadPolicy(object_level=True)
    await world.run(world.object(provider="aws", serviceAccountName="robot"))
    assert world.cloud.asked == [("aws", world.server.address, ServiceAccount("default", "robot"))]


@pytest.mark.spec("SEC-49")
async def test_an_answer_for_one_identity_serves_no_other(world: OciWorld) -> None:
    world.secret("login", docker_config(world.server.address))
    await world.run(world.object("one", secretRef={"name": "login"}))
    error = await world.failure(world.object("two"))
    assert "denies access" in error.message


async def test_a_token_server_is_asked_for_tokens(tmp_path: Path) -> None:
    tokens = TokenServer()
    async with oci_world(tmp_path, tokens=tokens) as world:
        await world.pusher(password=True).push("latest")
        world.secret("login", docker_config(world.server.address))
        obj, _ = await world.run(world.object(secretRef={"name": "login"}))
        assert obj.status.artifact is not None


@pytest.mark.spec("SRC-OCI-19", "SRC-OCI-20")
async def test_a_certificate_is_verified_unless_the_spec_is_insecure_and_names_no_authority(tmp_path: Path) -> None:
    authority, tls = Authority(), tmp_path / "tls"
    tls.mkdir()
    async with oci_world(tmp_path, tls=authority.server_context(tls, "127.0.0.1")) as world:
        await world.pusher().push("latest")
        world.secret("ours", {"ca.crt": authority.certificate})
        world.secret("other", {"ca.crt": Authority().certificate})
        for spec, works in (
            ({}, False),
            ({"insecure": True}, True),
            ({"certSecretRef": {"name": "ours"}}, True),
            ({"certSecretRef": {"name": "ours"}, "insecure": True}, True),
            ({"certSecretRef": {"name": "other"}, "insecure": True}, False),
        ):
            if works:
                assert (await world.run(world.object(**spec)))[0].status.artifact is not None
            else:
                assert "certificate" in (await world.failure(world.object(**spec))).message


@pytest.mark.spec("SEC-31")
async def test_the_operator_may_refuse_insecure_registries(world: OciWorld) -> None:
    world.allow_insecure = False
    error = await world.failure(world.object(insecure=True))
    assert isinstance(error, Stalled)
    assert error.reason == "InsecureRegistry"


async def test_a_proxy_is_used_for_the_registry(world: OciWorld) -> None:
    proxy = ForwardProxy()
    await proxy.start()
    try:
        world.secret("proxy", {"address": proxy.address})
        world.secret("login", docker_config(world.server.address))
        await world.run(world.object(secretRef={"name": "login"}, proxySecretRef={"name": "proxy"}))
        assert proxy.requests
    finally:
        await proxy.stop()
