"""Attacks that read through the engine under `--tenancy=strict`: Secrets by name, health checks, expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from headrace.engine.engine import Engine
from headrace.kube.errors import Invalid
from headrace.model.reference import Reference
from tests.attack.strict import CONFIG_MAPS, SECRETS, account, grant, put, rule, strict_engine
from tests.cluster.kustomization.world import World, condition, config_map
from tests.eventually import eventually
from tests.servers.control_plane import ControlPlane

CANARY = "c4n4ry-9f2e7b6a"


async def secret(world: World, name: str, namespace: str | None = None, **data: str) -> None:
    await put(world, "v1", "Secret", name, {"stringData": data}, namespace=namespace)


async def told(world: World, engine: Engine, name: str = "app") -> str:
    """Everything that a tenant, or whoever may look into the engine, gets to read of a Kustomization."""
    status = await world.get(KUSTOMIZATION.api_version, "Kustomization", name)
    traces = [str(msgspec.to_builtins(trace)) for trace in engine.traces(world.reference(name))]
    return "\n".join([str((status or {}).get("status")), str(await world.events(name)), *traces])


# -- Secrets and ConfigMaps that specifications name -------------------------------------------------------------------

NAMED: dict[str, dict[str, Any]] = {
    "a variable of a Secret": {"postBuild": {"substituteFrom": [{"kind": "Secret", "name": "s"}]}},
    "a variable of a ConfigMap": {"postBuild": {"substituteFrom": [{"kind": "ConfigMap", "name": "s"}]}},
    "a kubeconfig": {"kubeConfig": {"secretRef": {"name": "s"}}},
    "a key": {"decryption": {"provider": "sops", "secretRef": {"name": "s"}}},
}


@pytest.mark.spec("SEC-24", "SEC-52")
@pytest.mark.parametrize("named", sorted(NAMED))
async def test_what_a_specification_names_is_read_as_the_tenant(world: World, strict: Engine, named: str) -> None:
    await account(world, "deployer")
    await put(world, "v1", "ConfigMap", "s", {"data": {"x": CANARY}})
    await secret(world, "s", x=CANARY)
    world.commit({"a.yaml": config_map("a", k="${x}")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="deployer", **NAMED[named])

    ks = await world.failed(text="system:serviceaccount")

    message = condition(ks, "Ready")["message"]
    assert f'User "system:serviceaccount:{world.namespace}:deployer" cannot get resource' in message
    assert CANARY not in await told(world, strict)


async def test_rights_that_come_later_are_noticed(world: World, strict: Engine) -> None:
    await account(world, "deployer")
    await secret(world, "s", x="value")
    world.commit({"a.yaml": config_map("a", k="${x}")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="deployer",
                              **NAMED["a variable of a Secret"])
    await world.failed(text="cannot get resource")

    await grant(world, "deployer", CONFIG_MAPS, SECRETS)

    await world.ready()
    live = await world.get("v1", "ConfigMap", "a")
    assert live is not None
    assert live["data"] == {"k": "value"}


@pytest.mark.spec("SEC-52")
async def test_the_credentials_of_a_source_are_read_as_the_default_account(world: World, strict: Engine) -> None:
    await secret(world, "s", username="u", password=CANARY)
    world.commit({"a.yaml": config_map("a")})
    await world.source(secretRef={"name": "s"})

    repo = await world.until(GIT_REPOSITORY, "app", lambda o: condition(o, "Ready").get("status") == "False")

    assert f'"system:serviceaccount:{world.namespace}:default" cannot get' in condition(repo, "Ready")["message"]
    await grant(world, "default", SECRETS)
    await world.until(GIT_REPOSITORY, "app", lambda o: condition(o, "Ready").get("status") == "True")


# -- health ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-52")
async def test_the_health_of_others_secrets_is_not_told(
    world: World, strict: Engine, neighbour: str
) -> None:
    await secret(world, "theirs", neighbour, password=CANARY)
    await grant(world, "default", CONFIG_MAPS)
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    rules = [{"apiVersion": "v1", "kind": "Secret", "current": "int(string(base64.decode(data.password))) > 0",
              "failed": f"data.password.startsWith('{CANARY[:2]}')"}]
    checks = [{"apiVersion": "v1", "kind": "Secret", "name": name, "namespace": neighbour}
              for name in ("theirs", "missing")]
    await world.kustomization(targetNamespace=world.namespace, healthChecks=checks, healthCheckExprs=rules,
                              timeout="1s")

    ks = await world.failed(reason="HealthCheckFailed")

    message = condition(ks, "Ready")["message"]
    for name in ("theirs", "missing"):
        assert f"Secret/{neighbour}/{name} status: 'Unknown'" in message, "both the same, whether it exists or not"
    assert CANARY not in await told(world, strict)


@pytest.mark.spec("SEC-52")
async def test_an_expression_over_ones_own_secret_echoes_no_value(world: World, strict: Engine) -> None:
    await secret(world, "mine", password=CANARY)
    await grant(world, "default", CONFIG_MAPS, SECRETS)
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    rules = [{"apiVersion": "v1", "kind": "Secret", "current": "int(string(base64.decode(data.password))) > 0"}]
    checks = [{"apiVersion": "v1", "kind": "Secret", "name": "mine", "namespace": world.namespace}]
    await world.kustomization(targetNamespace=world.namespace, healthChecks=checks, healthCheckExprs=rules,
                              timeout="1s")

    await world.failed(reason="HealthCheckFailed")

    assert CANARY not in await told(world, strict)


@pytest.mark.spec("SEC-52")
async def test_a_ready_expression_sees_no_dependency_of_another_namespace(
    world: World, strict: Engine, neighbour: str
) -> None:
    source = {"kind": "GitRepository", "name": "none"}
    spec = {"interval": "1h", "prune": True, "sourceRef": source, "path": CANARY}
    await put(world, KUSTOMIZATION.api_version, "Kustomization", "dep", {"spec": spec}, namespace=neighbour)
    await grant(world, "default", CONFIG_MAPS)
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    depends = [{"name": "dep", "namespace": neighbour, "readyExpr": "int(dep.spec.path) > 0"}]
    await world.kustomization(targetNamespace=world.namespace, dependsOn=depends)

    await world.failed(reason="AccessDenied")

    assert CANARY not in await told(world, strict)


# -- what the operator has relaxed -------------------------------------------------------------------------------------


async def test_a_point_that_is_relaxed_shows_in_every_status(
    cluster: ControlPlane, world: World, tmp_path: Path, neighbour: str
) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source()
    await grant(world, "default", CONFIG_MAPS, rule([""], ["secrets"], "get"))
    await world.kustomization(targetNamespace=world.namespace)
    state = tmp_path / "state"

    async with strict_engine(cluster.config, state, world.namespace, relax=("references", "intervals")):
        ks = await world.ready()
        relaxed = condition(ks, "TenancyRelaxed")
        assert relaxed["status"] == "True"
        assert relaxed["message"] == "turned off by the operator: references, intervals"
        await world.until(GIT_REPOSITORY, "app", lambda o: condition(o, "TenancyRelaxed"))

    async with strict_engine(cluster.config, state, world.namespace):
        await world.request(KUSTOMIZATION, "app")
        await world.until(KUSTOMIZATION, "app", lambda o: not condition(o, "TenancyRelaxed"))


def next_run(engine: Engine, reference: Reference) -> float:
    """Seconds until the timer of an object, 0 while it has none."""
    state = engine.state(reference)
    return (state.next_in or 0.0) if state is not None else 0.0


# -- how often ---------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-38")
@pytest.mark.parametrize("interval", ["1ms", "0s", "0.001ms"])
async def test_an_interval_that_is_none_is_followed_no_faster_than_the_floor(
    world: World, strict: Engine, interval: str
) -> None:
    await grant(world, "default", CONFIG_MAPS)
    world.commit({"a.yaml": config_map("a")})
    await world.source(interval=interval)
    await world.kustomization(targetNamespace=world.namespace, interval=interval, retryInterval=interval)

    await world.ready()

    for reference in (world.reference(), GIT_REPOSITORY.reference(world.namespace, "app")):
        await eventually(lambda about=reference: next_run(strict, about))  # type: ignore[misc]
        assert next_run(strict, reference) > 25


@pytest.mark.spec("SEC-38", "SEC-39")
async def test_an_interval_of_a_hundred_thousand_years_is_the_objects_own_problem(
    world: World, strict: Engine
) -> None:
    world.commit({"a.yaml": config_map("a")})
    await world.source(interval="1000000000h")

    repo = await world.until(GIT_REPOSITORY, "app", lambda o: condition(o, "Stalled"))

    assert condition(repo, "Ready")["reason"] == "ValidationFailed"
    assert "is too long" in condition(repo, "Ready")["message"]


@pytest.mark.spec("SEC-38")
@pytest.mark.parametrize("interval", ["1ns", "-5s", "1e9h", ""])
async def test_an_interval_that_is_no_duration_is_not_admitted(world: World, interval: str) -> None:
    with pytest.raises(Invalid):
        await world.source(interval=interval)
    with pytest.raises(Invalid):
        await world.kustomization(interval=interval)
