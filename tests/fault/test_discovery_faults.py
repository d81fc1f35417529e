"""A kind that is not known is not a kind that does not exist: what a cluster does not tell is deleted by nobody and
forgotten by nobody, and everything else goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.kube.resource import Resource
from tests.cluster.kustomization.test_failures import crd
from tests.cluster.kustomization.world import World, condition, config_map, inventory, running_engine
from tests.fault.killable import CONFIG_MAPS, KillableEngines
from tests.servers.fault_proxy import Fault, FaultProxy

CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False)


class Widgets:
    """A kind of a group of its own, and one object of it as Git has it."""

    def __init__(self, world: World) -> None:
        self.group = f"{world.namespace}.example.com"
        self.resource = Resource(self.group, "v1", "Widget", "widgets", namespaced=True)
        self.manifest = {"apiVersion": f"{self.group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}
        self.entry = f"{world.namespace}_w_{self.group}_Widget"
        self._world = world

    async def define(self) -> None:
        await self._world.client.create(CRDS, "", msgspec.json.encode(crd(self.group, "Widget", "widgets")))
        await self._world.discovery.wait(self.group, "Widget")

    async def undefine(self) -> None:
        await self._world.client.delete(CRDS, "", f"widgets.{self.group}")
        await self._world.until_gone(CRDS, f"widgets.{self.group}", "")

    async def exists(self) -> bool:
        return await self._world.get(f"{self.group}/v1", "Widget", "w") is not None


@pytest.fixture
async def widgets(world: World) -> AsyncIterator[Widgets]:
    widgets = Widgets(world)
    await widgets.define()
    yield widgets
    listing = await world.client.list(CRDS)
    if any(live.metadata.name == f"widgets.{widgets.group}" for live in listing.items):
        await widgets.undefine()


async def delivered(world: World, widgets: Widgets, **spec: Any) -> None:
    """Everything that the tests deliver, before there is an engine."""
    world.commit({"w.yaml": widgets.manifest, "a.yaml": config_map("a"), "b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s", **spec)


def entries(world: World, *names: str) -> set[str]:
    return {f"{world.namespace}_{name}__ConfigMap" for name in names}


async def without_group(world: World, proxy: FaultProxy, group: str) -> Fault:
    """Discovery answers, and leaves a group out: as an API server does that has just started, or whose aggregator has
    lost touch with it."""
    answer = await world.client.exchange("GET", "/apis", accept="application/json;g=apidiscovery.k8s.io;v=v2;"
                                         "as=APIGroupDiscoveryList")
    content = msgspec.json.decode(answer.body)
    content["items"] = [item for item in content["items"] if item["metadata"].get("name") != group]
    return proxy.fail(200, body=msgspec.json.encode(content), path="^/apis$")


@pytest.mark.spec("REL-06")
@pytest.mark.parametrize("fault", ["500", "left out"])
async def test_what_discovery_does_not_tell_is_kept_and_tracked_and_the_rest_is_pruned(
    world: World, widgets: Widgets, engines: KillableEngines, proxy: FaultProxy, tmp_path: Path, fault: str
) -> None:
    await delivered(world, widgets)
    await engines.start()
    await world.ready()
    await engines.kill()

    # A new process has discovered nothing yet, and is told nothing of the widgets.
    world.commit({"w.yaml": None, "b.yaml": None, "c.yaml": config_map("c")})
    told = await without_group(world, proxy, widgets.group)
    async with running_engine(proxy.config, tmp_path / "state", world.namespace):
        if fault == "500":
            ks = await world.failed(reason="PruneFailed", text="Widget")
            proxy.remove(told)
            told = proxy.fail(500, path="^/apis?$")
        ks = await world.failed(reason="PruneFailed", text=f"Widget/{world.namespace}/w delete failed")
        assert inventory(ks) == {*entries(world, "a", "c"), widgets.entry}
        await world.until_gone(CONFIG_MAPS, "b")
        assert await widgets.exists()
        proxy.remove(told)
        ks = await world.ready()
    assert inventory(ks) == entries(world, "a", "c")
    assert not await widgets.exists()


@pytest.mark.spec("REL-06")
async def test_while_discovery_fails_what_is_known_is_delivered(
    world: World, widgets: Widgets, engines: KillableEngines, proxy: FaultProxy, tmp_path: Path
) -> None:
    await delivered(world, widgets)
    async with running_engine(proxy.config, tmp_path / "state", world.namespace) as engine:
        await world.ready()
        fault = proxy.fail(503, path="^/apis?$")
        engine.clusters.management.discovery.invalidate()
        revision = await world.push({"b.yaml": None, "c.yaml": config_map("c")})
        ks = await world.ready(revision=revision)
        assert inventory(ks) == {*entries(world, "a", "c"), widgets.entry}
        # A kind that nobody has heard of may be served: nobody knows.
        other = {"apiVersion": "other.example.com/v1", "kind": "Other", "metadata": {"name": "o"}}
        await world.push({"o.yaml": other, "a.yaml": None})
        ks = await world.failed(reason="ReconciliationFailed")
        assert inventory(ks) == {*entries(world, "a", "c"), widgets.entry}
        assert await world.get("v1", "ConfigMap", "a") is not None
        proxy.remove(fault)
        revision = await world.push({"o.yaml": None})
        ks = await world.ready(revision=revision)
        assert inventory(ks) == {*entries(world, "c"), widgets.entry}


@pytest.mark.spec("REL-06")
async def test_a_path_that_is_not_found_is_no_object_that_is_not_found(
    world: World, widgets: Widgets, proxy: FaultProxy, tmp_path: Path
) -> None:
    """A server that has not installed a definition yet answers its paths with a bare 404."""
    await delivered(world, widgets)
    async with running_engine(proxy.config, tmp_path / "state", world.namespace):
        await world.ready()
        fault = proxy.fail(404, body=b"404 page not found\n", path="/widgets/w$", method="GET")
        await world.push({"w.yaml": None})
        ks = await world.failed(reason="PruneFailed", text=f"Widget/{world.namespace}/w delete failed")
        assert widgets.entry in inventory(ks)
        assert await widgets.exists()
        proxy.remove(fault)
        ks = await world.ready()
    assert inventory(ks) == entries(world, "a", "b")
    assert not await widgets.exists()


@pytest.mark.spec("REL-06")
async def test_a_definition_that_is_removed_under_us_holds_up_nothing_but_its_objects(
    world: World, widgets: Widgets, proxy: FaultProxy, tmp_path: Path
) -> None:
    await delivered(world, widgets)
    other = {"other/d.yaml": config_map("d", k="1")}
    await world.kustomization("other", targetNamespace=world.namespace, path="other", retryInterval="1s")
    world.commit(other)
    async with running_engine(proxy.config, tmp_path / "state", world.namespace):
        await world.ready()
        await world.ready("other")
        await widgets.undefine()
        token = await world.request(KUSTOMIZATION, "app")
        await world.handled("app", token)
        ks = await world.failed(reason="ReconciliationFailed", text="Widget")
        assert inventory(ks) >= {*entries(world, "a", "b"), widgets.entry}
        revision = await world.push({"other/d.yaml": config_map("d", k="2")})
        await world.ready("other", revision=revision)
        await world.until(CONFIG_MAPS, "d", lambda o: o["data"] == {"k": "2"})
        await widgets.define()
        await world.ready(revision=revision)
        assert await widgets.exists()


@pytest.mark.spec("REL-06")
async def test_objects_whose_definition_is_gone_for_good_can_be_given_up(
    world: World, widgets: Widgets, proxy: FaultProxy, tmp_path: Path
) -> None:
    """The API server deletes all objects of a definition before the definition: nothing is left to be tracked."""
    await delivered(world, widgets)
    async with running_engine(proxy.config, tmp_path / "state", world.namespace):
        await world.ready()
        await widgets.undefine()
        revision = await world.push({"w.yaml": None, "b.yaml": None})
        ks = await world.ready(revision=revision)
        assert inventory(ks) == entries(world, "a")
        assert await world.get("v1", "ConfigMap", "b") is None
        await world.delete(KUSTOMIZATION, "app")
        await world.until_gone(KUSTOMIZATION, "app")


@pytest.mark.spec("REL-06")
async def test_a_definition_that_is_not_served_hides_its_objects_and_does_not_end_them(
    world: World, widgets: Widgets, proxy: FaultProxy, tmp_path: Path
) -> None:
    await delivered(world, widgets)
    async with running_engine(proxy.config, tmp_path / "state", world.namespace):
        await world.ready()
        await serve(world, widgets, served=False)
        await world.push({"w.yaml": None})
        ks = await world.failed(reason="PruneFailed", text=f"Widget/{world.namespace}/w delete failed")
        assert widgets.entry in inventory(ks)
        assert "PruneFailed" in condition(ks, "Ready")["reason"]
        await serve(world, widgets, served=True)
        ks = await world.ready()
    assert inventory(ks) == entries(world, "a", "b")
    assert not await widgets.exists()


async def serve(world: World, widgets: Widgets, *, served: bool) -> None:
    version = crd(widgets.group, "Widget", "widgets")["spec"]["versions"][0] | {"served": served}
    patch = msgspec.json.encode({"spec": {"versions": [version]}})
    await world.client.patch(CRDS, "", f"widgets.{widgets.group}", patch)


@pytest.mark.spec("REL-06")
async def test_a_mistyped_kind_that_was_written_ahead_is_no_obstacle_once_it_is_corrected(
    world: World, engines: KillableEngines
) -> None:
    """The process ends between the inventory that was written ahead and the status that would have taken it back."""
    mistake = {"apiVersion": "apps/v1", "kind": "Deploymnt", "metadata": {"name": "x"}}
    world.commit({"a.yaml": config_map("a"), "x.yaml": mistake})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, retryInterval="1s")
    await engines.start(fail="inventory-written-ahead:kill")
    await engines.until_killed()
    ks = await world.until(KUSTOMIZATION, "app", lambda o: o.get("status", {}).get("inventory"))
    assert f"{world.namespace}_x_apps_Deploymnt" in inventory(ks)
    revision = world.commit({"x.yaml": None})
    await engines.start()
    await world.announce(revision)
    ks = await world.ready(revision=revision)
    assert inventory(ks) == entries(world, "a")
