"""Attacks on keys and credentials: those of others, those of the process, and those of a hundred runs at once."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.engine.engine import Engine
from headrace.kube.client import Client
from tests.attack.strict import CONFIG_MAPS, SECRETS, account, grant, put, strict_engine
from tests.cluster.kustomization.world import World, condition, config_map
from tests.servers.control_plane import ControlPlane

SOPS = Path(__file__).parents[1] / "golden" / "sops"
KEY = (SOPS / "keys" / "one.agekey").read_text()
PLAIN = "AGE-SECRET-KEY"
WHOLE = (SOPS / "whole.yaml").read_text()


async def deliver(world: World, **spec: Any) -> None:
    await grant(world, "default", CONFIG_MAPS, SECRETS)
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, **spec)


async def keys(world: World, namespace: str | None = None) -> None:
    await put(world, "v1", "Secret", "keys", {"stringData": {"one.agekey": KEY}}, namespace=namespace)


# -- keys of others, and of the process --------------------------------------------------------------------------------


@pytest.mark.spec("SEC-48")
async def test_the_key_of_another_tenant_opens_nothing(world: World, strict: Engine, neighbour: str) -> None:
    await keys(world, neighbour)
    world.commit({"a.yaml": WHOLE})
    await deliver(world, decryption={"provider": "sops", "secretRef": {"name": "keys"}})

    ks = await world.failed(reason="BuildFailed")

    assert f"cannot get sops decryption Secret '{world.namespace}/keys'" in condition(ks, "Ready")["message"]
    await keys(world)
    await world.ready()


@pytest.mark.spec("SEC-48")
async def test_keys_of_the_process_open_nothing(
    world: World, cluster: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither from the environment and the home of the engine, nor from the repository."""
    for variable in ("SOPS_AGE_KEY", "AWS_ACCESS_KEY_ID", "VAULT_TOKEN"):
        monkeypatch.setenv(variable, KEY)
    home = tmp_path / "home"
    (home / "sops" / "age").mkdir(parents=True)
    (home / "sops" / "age" / "keys.txt").write_text(KEY)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(home / "sops" / "age" / "keys.txt"))
    rules = "creation_rules: [{age: x}]\n"
    world.commit({"a.yaml": WHOLE, ".sops.yaml": rules, "keys.txt": KEY, "one.agekey": KEY,
                  "kustomization.yaml": "resources: [a.yaml]\n"})
    await put(world, "v1", "Secret", "empty", {"stringData": {"note": "nothing"}})

    async with strict_engine(cluster.config, tmp_path / "state", world.namespace):
        await deliver(world, decryption={"provider": "sops", "secretRef": {"name": "empty"}})
        ks = await world.failed(reason="BuildFailed")

    assert PLAIN not in str(ks["status"])


@pytest.mark.spec("SEC-48", "SEC-35")
async def test_plain_text_and_keys_are_in_memory_only(world: World, strict: Engine, tmp_path: Path) -> None:
    await keys(world)
    world.commit({"a.yaml": WHOLE})
    await deliver(world, decryption={"provider": "sops", "secretRef": {"name": "keys"}})

    await world.ready()

    resource = await world.resource("v1", "Secret")
    live = await world.client.list(resource, world.namespace)
    values = [value for item in live.items for value in (item.content().get("data") or {}).values()
              if item.reference.name != "keys" and len(value) > 7]
    assert values, "something was decrypted"
    canaries = [base64.b64decode(value) for value in values] + [KEY.strip().splitlines()[-1].encode()]
    for folder, _, names in os.walk(tmp_path / "state"):
        for name in names:
            path = Path(folder) / name
            content = path.read_bytes() if path.is_file() else b""
            assert not any(canary in content for canary in canaries), path
    told = str(await world.events()) + str(strict.traces(world.reference()))
    assert not any(canary.decode() in told for canary in canaries)


# -- a hundred at once -------------------------------------------------------------------------------------------------

REVIEW = msgspec.json.encode({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})


@pytest.mark.spec("SEC-50")
async def test_a_hundred_identities_at_once_stay_apart(client: Client) -> None:
    async def who(number: int) -> str:
        tenant = client.impersonate_service_account("default", f"tenant-{number}")
        for _ in range(3):
            answer = await tenant.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=REVIEW,
                                          content_type="application/json")
            name: str = msgspec.json.decode(answer)["status"]["userInfo"]["username"]
            if name != f"system:serviceaccount:default:tenant-{number}":
                return name
        return ""

    mixed_up = [found for found in await asyncio.gather(*map(who, range(100))) if found]

    assert mixed_up == []
    assert client.config.impersonation is None


@pytest.mark.spec("SEC-50", "SEC-49")
async def test_tenants_that_run_at_once_see_each_their_own_secret(world: World, strict: Engine) -> None:
    """One repository, one variable, twelve accounts of which each may read one Secret only."""
    world.commit({"a.yaml": config_map("made", k="${x}")})
    await world.source()
    for number in range(12):
        name = f"tenant-{number}"
        await account(world, name)
        await put(world, "v1", "Secret", name, {"stringData": {"x": f"value-{number}"}})
        only = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": ["get"]}
        await grant(world, name, CONFIG_MAPS, only)
    for number in range(12):
        own, others = f"tenant-{number}", f"tenant-{(number + 1) % 12}"
        for kind, secret in (("own", own), ("theirs", others)):
            await world.kustomization(
                f"{kind}-{number}", targetNamespace=world.namespace, serviceAccountName=own, retryInterval="1h",
                nameSuffix=f"-{kind}-{number}", postBuild={"substituteFrom": [{"kind": "Secret", "name": secret}]})

    for number in range(12):
        await world.ready(f"own-{number}")
        await world.failed(f"theirs-{number}", text="cannot get resource")
        live = await world.get("v1", "ConfigMap", f"made-own-{number}")
        assert live is not None
        assert live["data"] == {"k": f"value-{number}"}
        assert await world.get("v1", "ConfigMap", f"made-theirs-{number}") is None
