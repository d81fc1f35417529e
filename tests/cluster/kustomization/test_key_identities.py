"""SOPS files that a key service of a cloud opens for an identity: the engine's own, or that of an account."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.controllers.kustomize.decryption import DecryptionPolicy
from headrace.controllers.kustomize.key_identities import STRICT
from headrace.controllers.kustomize.kustomization import KustomizationOptions
from headrace.toolbox import KeyServices
from tests.cluster.kustomization.test_workload_identity import ACCOUNTS, SECRET, password
from tests.cluster.kustomization.world import World, running_engine
from tests.servers.clouds import ISSUED, Clouds, clouds
from tests.servers.control_plane import ControlPlane
from tests.servers.key_services import AwsKms, serving
from tests.sops_encryption import encrypted_secret, new_data_key

ARN = "arn:aws:kms:eu-west-1:123456789012:key/612d5f0a-0000-45e6-aca6-a5b005693a48"
OWN = ("AKIDENV", "environment-secret")


class Kms:
    """A running AWS KMS that knows the engine's own keys and those of accounts, and how to call it."""

    def __init__(self, service: AwsKms, port: int, cloud: Clouds) -> None:
        self.service = service
        self.cloud = cloud
        self.services = KeyServices(aws_kms_endpoint=f"http://127.0.0.1:{port}", allow_hosts=[f"127.0.0.1:{port}"])


@pytest.fixture
async def kms(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kms]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    service = AwsKms({OWN[0]: (OWN[1], ""), ISSUED[0]: ISSUED[1:]})
    async with clouds() as cloud, serving(service) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"{cloud.url}/sts/")
        yield Kms(service, port, cloud)


@pytest.fixture
def own_keys(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine has an identity, in its environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWN[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWN[1])


async def deliver(world: World, kms: Kms, **decryption: Any) -> None:
    key = new_data_key()
    entry = {"arn": ARN, "enc": kms.service.encrypt(ARN, key)}
    world.commit({"app/s.yaml": encrypted_secret(key, "s", {"password": SECRET}, kms=[entry])})
    await world.source()
    await world.kustomization(path="app", targetNamespace=world.namespace, decryption={"provider": "sops"} | decryption)


@pytest.mark.usefixtures("own_keys")
async def test_without_keys_of_its_own_an_object_is_decrypted_with_the_identity_of_the_engine(
    world: World, kms: Kms, cluster: ControlPlane, tmp_path: Path
) -> None:
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, key_services=kms.services) as engine:
        await deliver(world, kms)
        await world.ready()
        assert await password(world) == SECRET
        assert kms.service.asked == [OWN[0]]
        revision = await world.push({"README.md": "nothing that is delivered"})
        await world.ready(revision=revision)
        assert kms.service.asked == [OWN[0]], "a commit that changes nothing decrypts nothing"
        assert engine.writes()["patch secrets"] == 1


async def test_an_account_is_shown_by_its_role_and_the_engine_is_not(
    world: World, kms: Kms, cluster: ControlPlane, tmp_path: Path, own_keys: None
) -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/decrypter"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "decrypter", "annotations": role}}
    await world.client.create(ACCOUNTS, world.namespace, msgspec.json.encode(account))
    options = KustomizationOptions(decryption=DecryptionPolicy(workload_identity=True, own_identity=False))
    async with running_engine(
        cluster.config, tmp_path / "state", world.namespace, options, key_services=kms.services
    ):
        await deliver(world, kms, serviceAccountName="decrypter")
        await world.ready()
        assert await password(world) == SECRET
    assert kms.service.asked == [ISSUED[0]]
    (_, asked, _), = kms.cloud.asked
    assert asked["RoleArn"] == role["eks.amazonaws.com/role-arn"]
    claims = msgspec.json.decode(base64.urlsafe_b64decode(asked["WebIdentityToken"].split(".")[1] + "=="))
    assert claims["sub"] == f"system:serviceaccount:{world.namespace}:decrypter"
    assert claims["aud"] == ["sts.amazonaws.com"]


async def test_an_engine_without_an_identity_says_so_beside_what_has_failed(
    world: World, kms: Kms, cluster: ControlPlane, tmp_path: Path
) -> None:
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, key_services=kms.services):
        await deliver(world, kms)
        failed = await world.failed(reason="BuildFailed", text="no AWS credentials are found in the environment")
        assert "cannot get sops data key" in failed["status"]["conditions"][0]["message"]


@pytest.mark.usefixtures("own_keys")
async def test_strict_tenancy_lends_the_identity_of_the_engine_to_nobody(
    world: World, kms: Kms, cluster: ControlPlane, tmp_path: Path
) -> None:
    options = KustomizationOptions(decryption=DecryptionPolicy(own_identity=False))
    async with running_engine(
        cluster.config, tmp_path / "state", world.namespace, options, key_services=kms.services
    ):
        await deliver(world, kms)
        await world.failed(reason="BuildFailed", text=STRICT)
    assert not kms.service.asked
