"""A namespace that is deleted while something is applied to it: no storm of retries, and all of it goes in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from headrace.kube.client import MERGE_PATCH
from tests.cluster.kustomization.world import RunningEngine, World, config_map
from tests.eventually import eventually
from tests.fault.killable import CONFIG_MAPS
from tests.own_namespace import NAMESPACES, own_namespace
from tests.servers.fault_proxy import FaultProxy

FILES = {f"c{number}.yaml": config_map(f"c{number}", k="1") for number in range(6)}
HELD = 3.0
"""Seconds for which a write is held up, so that the namespace can be deleted meanwhile."""


@contextlib.asynccontextmanager
async def kept(world: World, namespace: str) -> AsyncIterator[None]:
    """An object that keeps a namespace from being gone once it is deleted."""
    body = config_map("kept")
    body["metadata"]["finalizers"] = ["example.com/kept"]
    await world.client.create(CONFIG_MAPS, namespace, msgspec.json.encode(body))
    yield
    free = b'{"metadata": {"finalizers": null}}'
    await world.client.patch(CONFIG_MAPS, namespace, "kept", free, content_type=MERGE_PATCH)


def attempts(proxy: FaultProxy, namespace: str) -> int:
    """How often anything was written to the namespace, or tried."""
    path = f"/namespaces/{namespace}/configmaps/"
    return sum(request.method in ("PATCH", "POST", "PUT") and path in request.path for request in proxy.requests)


async def made_again(world: World, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    await world.client.create(NAMESPACES, "", msgspec.json.encode(body))


@pytest.mark.spec("REL-32")
async def test_a_target_that_goes_in_the_middle_of_an_apply_is_tried_at_the_interval_and_healed_when_it_is_back(
    world: World, engine: RunningEngine, proxy: FaultProxy
) -> None:
    async with own_namespace(world.client, "target") as target:
        held = proxy.delay(HELD, method="PATCH", path=f"/namespaces/{target}/configmaps/c", dry_run=False)
        world.commit(FILES)
        await world.source()
        await world.kustomization(targetNamespace=target, retryInterval="1s")
        await held.happened()
        async with kept(world, target):
            await world.client.delete(NAMESPACES, "", target)
            proxy.remove(held)
            await world.failed(text="being terminated")
            clock = asyncio.get_running_loop().time
            began, before = clock(), attempts(proxy, target)
            await eventually(lambda: attempts(proxy, target) >= before + 6 * len(FILES), "it goes on trying")
            runs = (attempts(proxy, target) - before) / len(FILES)
            assert runs <= clock() - began + 2, "one in a second, whatever is deleted meanwhile"
        await world.until_gone(NAMESPACES, target, namespace="")
        await world.failed(text="not found")
        await made_again(world, target)
        await world.ready()
        for name in FILES:
            assert await world.get("v1", "ConfigMap", name.removesuffix(".yaml"), target) is not None


@pytest.mark.spec("REL-32")
async def test_a_namespace_that_goes_in_the_middle_of_an_apply_takes_its_kustomizations_with_it_in_order(
    world: World, engine: RunningEngine, proxy: FaultProxy
) -> None:
    world.commit({"one/a.yaml": config_map("a", k="1"), "two/b.yaml": config_map("b", k="1")})
    await world.source()
    common = {"targetNamespace": world.namespace, "retryInterval": "1s"}
    await world.kustomization("one", path="one", **common)
    await world.kustomization("two", path="two", dependsOn=[{"name": "one"}], **common)
    await world.ready("two")
    held = proxy.delay(HELD, method="PATCH", path="/configmaps/b$", dry_run=False)
    await world.push({"two/b.yaml": config_map("b", k="2")})
    await held.happened()
    proxy.requests.clear()

    await world.client.delete(NAMESPACES, "", world.namespace)
    await world.until_gone(NAMESPACES, world.namespace, namespace="")

    released = [
        request.path.rpartition("/")[2] for request in proxy.requests
        if request.method == "PATCH" and request.path.rpartition("/")[0].endswith(("/kustomizations", "repositories"))
    ]  # fmt: skip
    assert sorted(released) == ["app", "one", "two"]
    assert released.index("two") < released.index("one"), "what depends on another goes first"
    assert len(proxy.requests) < 60, proxy.requests
    await made_again(world, world.namespace)  # it is the fixture's to clear
