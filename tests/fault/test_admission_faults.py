"""One object that admission refuses, or does not answer for: it is named with the reason, and nothing is pruned by
that run."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.cluster.kustomization.test_cures import WEBHOOKS, create
from tests.cluster.kustomization.world import RunningEngine, World, condition, config_map, inventory
from tests.fault.killable import delivered


@contextlib.asynccontextmanager
async def webhook(world: World, port: int) -> AsyncIterator[None]:
    """A webhook that must be asked about every ConfigMap that says so, at a port of ours."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
            "operations": ["CREATE", "UPDATE"]}
    hook: dict[str, Any] = {
        "name": "hook.example.com", "clientConfig": {"url": f"https://127.0.0.1:{port}/"}, "rules": [rule],
        "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "objectSelector": {"matchLabels": {"ask": "us"}},
    }
    await create(world, WEBHOOKS, world.namespace, webhooks=[hook])
    try:
        yield
    finally:
        await world.client.delete(WEBHOOKS, "", world.namespace)


@pytest.mark.spec("REL-34")
@pytest.mark.parametrize("answers", [False, True], ids=["times out", "refuses the connection"])
async def test_an_object_that_a_webhook_holds_up_is_named_and_nothing_is_pruned(
    world: World, engine: RunningEngine, answers: bool
) -> None:
    first = world.commit({"a.yaml": config_map("a", k="1"), "b.yaml": config_map("b", k="1")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s")
    await world.ready(revision=first)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if answers:
            server.close()
        async with webhook(world, port):
            asked = config_map("a", k="2")
            asked["metadata"]["labels"] = {"ask": "us"}
            revision = await world.push({"a.yaml": asked, "b.yaml": None, "c.yaml": config_map("c", k="1")})
            ks = await world.failed(reason="ReconciliationFailed", text="failed calling webhook")
            message = condition(ks, "Ready")["message"]
            assert f"ConfigMap/{world.namespace}/a dry-run failed" in message
            assert "hook.example.com" in message
            assert "a.yaml" in message
            assert ks["status"]["lastAppliedRevision"] == first
            assert f"{world.namespace}_b__ConfigMap" in inventory(ks)
            assert await delivered(world) == {"a": "1", "b": "1"}
    ks = await world.ready(revision=revision)
    assert inventory(ks) == {f"{world.namespace}_{name}__ConfigMap" for name in "ac"}
    assert await delivered(world) == {"a": "2", "c": "1"}


@pytest.mark.spec("REL-34")
async def test_an_object_that_a_policy_denies_is_named_with_the_policys_reason(
    world: World, engine: RunningEngine
) -> None:
    first = world.commit({"a.yaml": config_map("a", k="1"), "b.yaml": config_map("b", k="1")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s")
    await world.ready(revision=first)
    quota = await world.resource("v1", "ResourceQuota")
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
            "spec": {"hard": {"configmaps": "0"}}}
    await world.client.create(quota, world.namespace, msgspec.json.encode(body))
    await world.until(quota, "full", lambda o: "configmaps" in o.get("status", {}).get("used", {}))
    revision = await world.push({"b.yaml": None, "c.yaml": config_map("c", k="1")})
    ks = await world.failed(reason="ReconciliationFailed", text=f"ConfigMap/{world.namespace}/c")
    assert "exceeded quota: full" in condition(ks, "Ready")["message"]
    assert f"{world.namespace}_b__ConfigMap" in inventory(ks)
    assert await delivered(world) == {"a": "1", "b": "1"}
    await world.client.delete(quota, world.namespace, "full")
    await world.ready(revision=revision)
    assert await delivered(world) == {"a": "1", "c": "1"}
