"""spec.decryption on a cluster: where the keys come from, and what follows when they change."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.controllers.kustomize.decryption import DecryptionPolicy
from headrace.controllers.kustomize.kustomization import KustomizationOptions
from headrace.kube.client import MERGE_PATCH
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, running_engine
from tests.servers.control_plane import ControlPlane

SOPS = Path(__file__).parents[2] / "golden" / "sops"
DECRYPTION = {"provider": "sops", "secretRef": {"name": "keys"}}
SECRET = "correct-horse-battery"


def sops(name: str) -> str:
    return (SOPS / name).read_text()


async def give_keys(world: World, *names: str, secret: str = "keys", **more: str) -> None:
    values = {name: sops(f"keys/{name}") for name in names} | {k.replace("_", "."): v for k, v in more.items()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": values}
    resource = await world.resource("v1", "Secret")
    await world.client.create(resource, world.namespace, msgspec.json.encode(body))


async def password(world: World) -> str:
    secret = await world.get("v1", "Secret", "whole")
    assert secret is not None
    return base64.b64decode(secret["data"]["password"]).decode()


async def deliver(world: World, files: dict[str, Any] | None = None, **spec: Any) -> None:
    world.commit(files or {"s.yaml": sops("whole.yaml")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, **({"decryption": DECRYPTION} | spec))


@pytest.mark.spec("KS-SOPS-04", "KS-SOPS-15")
async def test_an_encrypted_secret_is_delivered_and_new_ciphertext_of_it_changes_nothing(
    world: World, engine: RunningEngine
) -> None:
    await give_keys(world, "one.agekey")
    await deliver(world)
    await world.ready()
    assert await password(world) == SECRET
    before = await world.get("v1", "Secret", "whole")

    revision = await world.push({"s.yaml": sops("whole-again.yaml")})

    await world.ready(revision=revision)
    assert await world.get("v1", "Secret", "whole") == before
    assert not [e for e in await world.events() if "configured" in e["message"]]


@pytest.mark.spec("KS-SOPS-12")
async def test_a_missing_key_secret_fails_the_build_and_its_arrival_cures_it(
    world: World, engine: RunningEngine
) -> None:
    await deliver(world)
    await world.failed(reason="BuildFailed", text='secrets "keys" not found')
    await give_keys(world, "stranger.agekey")
    await world.failed(reason="BuildFailed", text="no age identity among the keys matches")
    patch = msgspec.json.encode({"stringData": {"one.agekey": sops("keys/one.agekey")}})
    secrets = await world.resource("v1", "Secret")
    await world.client.patch(secrets, world.namespace, "keys", patch, content_type=MERGE_PATCH)
    await world.ready()
    assert await password(world) == SECRET
    await engine.until_caused(world.reference(), f"Secret/{world.namespace}/keys changed (data)")

    withdrawn = msgspec.json.encode({"data": {"one.agekey": None}})
    await world.client.patch(secrets, world.namespace, "keys", withdrawn, content_type=MERGE_PATCH)
    await world.failed(reason="BuildFailed", text="no age identity among the keys matches")


@pytest.mark.spec("KS-SOPS-11")
async def test_the_operators_age_keys_serve_only_objects_that_name_no_secret(
    cluster: ControlPlane, world: World, tmp_path: Path
) -> None:
    policy = DecryptionPolicy(age_secret="global", namespace=world.namespace)
    options = KustomizationOptions(decryption=policy)
    await give_keys(world, "one.agekey", "test.asc", secret="global")
    await give_keys(world, "stranger.agekey")
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, options):
        await deliver(world)
        await world.failed(reason="BuildFailed", text="no age identity among the keys matches")
        await world.patch(KUSTOMIZATION, "app", {"spec": {"decryption": {"secretRef": None}}})
        await world.ready()
        assert await password(world) == SECRET
        revision = world.commit({"s.yaml": sops("whole-pgp.yaml")})
        await world.announce(revision)
        await world.failed(reason="BuildFailed", text="there is no OpenPGP key among the keys")


@pytest.mark.spec("KS-SOPS-10")
async def test_without_decryption_an_encrypted_secret_is_refused(world: World, engine: RunningEngine) -> None:
    await deliver(world, {"s.yaml": sops("whole.yaml"), "a.yaml": config_map("a")}, decryption=None)
    text = f"Secret/{world.namespace}/whole is SOPS encrypted, configuring decryption is required"
    await world.failed(reason="BuildFailed", text=text)
    assert await world.get("v1", "ConfigMap", "a") is None


@pytest.mark.spec("KS-SOPS-13")
async def test_what_the_api_server_refuses_of_a_decrypted_secret_is_not_quoted(
    world: World, engine: RunningEngine
) -> None:
    await give_keys(world, "one.agekey")
    kustomization = {"resources": ["t.yaml"], "patches": [{"path": "p.yaml"}]}
    target = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "target"},
              "type": "kubernetes.io/dockerconfigjson"}
    await deliver(world, {"kustomization.yaml": kustomization, "t.yaml": target, "p.yaml": sops("patch.yaml")})
    ks = await world.failed(reason="ReconciliationFailed", text="dry-run failed")
    told = f"{ks['status']} {await world.events()}"
    assert "swordfish" not in told
    assert base64.b64encode(b"swordfish-swordfish").decode() not in told


async def test_the_account_of_a_workload_is_refused(world: World, engine: RunningEngine) -> None:
    await deliver(world, decryption=DECRYPTION | {"serviceAccountName": "identity"})
    ks = await world.failed(reason="FeatureGateDisabled", text="ObjectLevelWorkloadIdentity")
    assert condition(ks, "Stalled")["reason"] == "FeatureGateDisabled"
