"""Deleting a Kustomization whose account cannot be looked up: only a definite 404 may leave objects behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from tests.cluster.kustomization.test_spec_fields import ACCOUNTS, ROLE_BINDINGS, ROLES, create
from tests.cluster.kustomization.world import RunningEngine, World, config_map, inventory, running_engine
from tests.fault.killable import delivered
from tests.servers.fault_proxy import Fault, FaultProxy

LOOKUP = r"/serviceaccounts/tenant$"
PATIENCE = 2.0
"""Seconds that the engine of these tests waits for an answer."""


@pytest.fixture
async def engine(proxy: FaultProxy, world: World, tmp_path: Path) -> AsyncIterator[RunningEngine]:
    config = msgspec.structs.replace(proxy.config, timeout=PATIENCE)
    async with running_engine(config, tmp_path / "state", world.namespace) as running:
        yield running


async def tenancy(world: World) -> None:
    """An account that may do everything with ConfigMaps, and a Kustomization that delivers in its name."""
    await create(world, ACCOUNTS, "tenant")
    await create(world, ROLES, "tenant", rules=[{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}])
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": world.namespace}
    await create(world, ROLE_BINDINGS, "tenant", subjects=[subject],
                 roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"})
    world.commit({"a.yaml": config_map("a", k="1"), "b.yaml": config_map("b", k="1")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, serviceAccountName="tenant", retryInterval="1s")
    await world.ready()


def status(code: int, reason: str) -> bytes:
    return msgspec.json.encode({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                                "reason": reason, "message": f"the lookup was answered with {reason}"})


FAULTS: dict[str, Callable[[FaultProxy], Fault]] = {
    "500": lambda proxy: proxy.fail(500, body=status(500, "InternalError"), path=LOOKUP),
    "503": lambda proxy: proxy.fail(503, path=LOOKUP),
    "403": lambda proxy: proxy.fail(403, body=status(403, "Forbidden"), path=LOOKUP),
    "404 of something else": lambda proxy: proxy.fail(404, body=b"404 page not found\n", path=LOOKUP),
    "reset": lambda proxy: proxy.reset(path=LOOKUP),
    "no answer": lambda proxy: proxy.delay(60.0, path=LOOKUP),
}


@pytest.mark.spec("REL-07")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_lookup_of_the_account_that_fails_leaves_nothing_behind(
    world: World, engine: RunningEngine, proxy: FaultProxy, fault: Callable[[FaultProxy], Fault]
) -> None:
    await tenancy(world)
    failing = fault(proxy)
    await world.delete(KUSTOMIZATION, "app")
    await failing.happened()
    ks = await world.failed(reason="ReconciliationFailed")
    assert "deletionTimestamp" in ks["metadata"]
    assert inventory(ks) == {f"{world.namespace}_a__ConfigMap", f"{world.namespace}_b__ConfigMap"}
    assert await delivered(world) == {"a": "1", "b": "1"}
    proxy.remove(failing)
    await world.until_gone(KUSTOMIZATION, "app")
    assert await delivered(world) == {}


@pytest.mark.spec("REL-07")
async def test_an_account_that_does_not_exist_leaves_the_objects_and_says_so(
    world: World, engine: RunningEngine
) -> None:
    await tenancy(world)
    await world.client.delete(ACCOUNTS, world.namespace, "tenant")
    await world.delete(KUSTOMIZATION, "app")
    await world.until_event("the service account to impersonate does not exist")
    await world.until_gone(KUSTOMIZATION, "app")
    assert await delivered(world) == {"a": "1", "b": "1"}


@pytest.mark.spec("REL-07")
async def test_deletions_that_fail_hold_the_kustomization_until_they_do_not(
    world: World, engine: RunningEngine, proxy: FaultProxy
) -> None:
    await tenancy(world)
    fault = proxy.fail(500, body=status(500, "InternalError"), method="DELETE", path=r"/configmaps/b$")
    await world.delete(KUSTOMIZATION, "app")
    ks = await world.failed(reason="PruneFailed", text=f"ConfigMap/{world.namespace}/b delete failed")
    assert inventory(ks) == {f"{world.namespace}_b__ConfigMap"}
    assert await delivered(world) == {"b": "1"}
    proxy.remove(fault)
    await world.until_gone(KUSTOMIZATION, "app")
    assert await delivered(world) == {}
