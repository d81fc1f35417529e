"""Caches against a real API server: what they hold, what they know to be absent, what they tell."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from headrace.kube.client import Client
from headrace.kube.cluster import Cluster, Clusters
from headrace.kube.config import ClientConfig
from headrace.kube.counter import RequestKey
from headrace.kube.errors import Forbidden, NoMatch, NotFound, Unreachable
from headrace.kube.informer import State
from headrace.kube.informers import MISSING, Informers
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference
from tests.eventually import eventually
from tests.servers.control_plane import ControlPlane

CONFIG_MAP = ("", "ConfigMap")
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)

Told = list[tuple[str, str]]


@contextlib.asynccontextmanager
async def connected(config: ClientConfig) -> AsyncIterator[tuple[Cluster, Told]]:
    """The cluster with its caches, and what they told about ConfigMaps: (name, added | changed | removed)."""
    told: Told = []

    def listen(reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        if reference.kind == "ConfigMap" and reference.name != "kube-root-ca.crt":
            told.append((reference.name, "added" if old is None else "removed" if new is None else "changed"))

    async with Clusters(config) as clusters:
        clusters.subscribe(listen)
        yield clusters.management, told


def reference(namespace: str, name: str) -> Reference:
    return Reference("", "ConfigMap", namespace, name)


async def put(client: Client, namespace: str, name: str, *, value: str = "1", **labels: str) -> LiveObject:
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": value}}
    if labels:
        body["metadata"]["labels"] = labels
    encoded = msgspec.json.encode(body)
    return (await client.apply(CONFIG_MAPS, namespace, name, encoded, field_manager="test")).live


async def test_a_cache_follows_what_happens(client: Client, cluster: ControlPlane, namespace: str) -> None:
    await put(client, namespace, "before")
    async with connected(cluster.config) as (here, told):
        informer = await here.informers.ensure(CONFIG_MAP, namespace=namespace)
        assert told == [("before", "added")]
        live = await put(client, namespace, "later")
        await eventually(lambda: ("later", "added") in told)
        cached = here.informers.get(live.reference)
        assert isinstance(cached, LiveObject)
        assert cached.content()["data"] == {"x": "1"}
        await put(client, namespace, "later", value="2")
        await eventually(lambda: ("later", "changed") in told)
        await client.delete(CONFIG_MAPS, namespace, "later")
        await eventually(lambda: ("later", "removed") in told)
        assert here.informers.get(live.reference) is None
        assert {one.metadata.name for one in informer} == {"before", "kube-root-ca.crt"}
        assert informer.relists == 1


async def test_present_absent_and_unknown_are_told_apart(client: Client, cluster: ControlPlane, namespace: str) -> None:
    await put(client, namespace, "here", app="x")
    here_ref, absent, elsewhere = (
        reference(namespace, "here"), reference(namespace, "no"), reference("default", "no"),
    )  # fmt: skip
    async with connected(cluster.config) as (here, _):
        assert here.informers.get(here_ref) is MISSING
        await here.informers.ensure(CONFIG_MAP, namespace=namespace, label_selector="app", metadata_only=True)
        found = here.informers.get(here_ref)
        assert isinstance(found, LiveObject)
        assert found.partial
        # A selected watch knows what it holds, never what is absent.
        assert here.informers.get(absent) is MISSING
        assert here.informers.get(here_ref, full=True) is MISSING
        await here.informers.ensure(CONFIG_MAP, namespace=namespace)
        assert here.informers.get(absent) is None
        assert here.informers.covers(absent)
        assert here.informers.get(elsewhere) is MISSING
        assert here.informers.get(here_ref.on("other")) is MISSING
        whole = here.informers.get(here_ref, full=True)
        assert isinstance(whole, LiveObject)
        assert not whole.partial


async def test_one_object_can_be_watched_by_name(client: Client, cluster: ControlPlane, namespace: str) -> None:
    async with connected(cluster.config) as (here, told):
        await here.informers.ensure(CONFIG_MAP, namespace=namespace, name="one")
        assert here.informers.get(reference(namespace, "one")) is None
        assert here.informers.get(reference(namespace, "two")) is MISSING
        await put(client, namespace, "two")
        await put(client, namespace, "one")
        await eventually(lambda: told == [("one", "added")])


async def test_an_object_that_loses_its_label_leaves_the_selected_cache(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    await put(client, namespace, "a", app="x")
    async with connected(cluster.config) as (here, told):
        await here.informers.ensure(CONFIG_MAP, namespace=namespace, label_selector="app=x", metadata_only=True)
        await put(client, namespace, "a", app="y")
        await eventually(lambda: told == [("a", "added"), ("a", "removed")])
        # Removed from this cache is not known to be absent.
        assert here.informers.get(reference(namespace, "a")) is MISSING


async def test_the_same_selection_is_watched_once(cluster: ControlPlane, namespace: str) -> None:
    async with connected(cluster.config) as (here, _):
        ensure = here.informers.ensure
        many = await asyncio.gather(*(ensure(CONFIG_MAP, namespace=namespace, metadata_only=True) for _ in range(20)))
        assert len(set(map(id, many))) == 1
        key = RequestKey("watch", "configmaps", purpose="watch")
        assert here.client.counter.snapshot()[key] == 1
        assert RequestKey("list", "configmaps", purpose="watch") not in here.client.counter.snapshot()


@pytest.mark.parametrize("metadata_only", [True, False])
async def test_without_streaming_the_list_is_read_in_pages(
    client: Client, cluster: ControlPlane, namespace: str, metadata_only: bool
) -> None:
    await put(client, namespace, "a")
    async with connected(cluster.config) as (here, told):
        here.informers._abilities.streaming_list = False
        await here.informers.ensure(CONFIG_MAP, namespace=namespace, metadata_only=metadata_only)
        assert told == [("a", "added")]
        await put(client, namespace, "b")
        await eventually(lambda: ("b", "added") in told)
        assert here.client.counter.snapshot()[RequestKey("list", "configmaps", purpose="watch")] == 1


@pytest.mark.spec("REL-13")
async def test_a_write_of_our_own_is_seen_by_the_next_read(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    async with connected(cluster.config) as (here, told):
        for metadata_only in (True, False):
            await here.informers.ensure(CONFIG_MAP, namespace=namespace, metadata_only=metadata_only)
        for value in ("1", "2", "3"):
            live = await put(client, namespace, "a", value=value)
            here.informers.observe(live)
            cached = here.informers.get(live.reference, full=True)
            assert isinstance(cached, LiveObject)
            assert cached.metadata.resource_version == live.metadata.resource_version
        # The watch brings the same versions again, which is nothing new.
        await put(client, namespace, "last")
        await eventually(lambda: told.count(("last", "added")) == 2)
        assert told.count(("a", "added")) == 2
        assert told.count(("a", "changed")) == 4


@pytest.mark.spec("REL-13")
async def test_a_late_answer_does_not_bring_back_what_was_deleted(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    async with connected(cluster.config) as (here, told):
        await here.informers.ensure(CONFIG_MAP, namespace=namespace)
        old = await put(client, namespace, "a")
        await client.delete(CONFIG_MAPS, namespace, "a")
        await eventually(lambda: told == [("a", "added"), ("a", "removed")])
        here.informers.observe(old)
        assert here.informers.get(old.reference) is None
        assert len(told) == 2


async def test_an_older_answer_does_not_replace_what_is_newer(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    async with connected(cluster.config) as (here, _):
        await here.informers.ensure(CONFIG_MAP, namespace=namespace)
        old = await put(client, namespace, "a", value="1")
        new = await put(client, namespace, "a", value="2")
        here.informers.observe(new)
        here.informers.observe(old)
        cached = here.informers.get(new.reference)
        assert isinstance(cached, LiveObject)
        assert cached.content()["data"] == {"x": "2"}


async def test_a_listener_that_fails_harms_nobody(client: Client, cluster: ControlPlane, namespace: str) -> None:
    async with connected(cluster.config) as (here, told):

        def broken(*_: object) -> None:
            raise RuntimeError("a bug in a listener")

        here.informers.subscribe(broken)
        end = here.informers.subscribe(broken)
        await here.informers.ensure(CONFIG_MAP, namespace=namespace)
        await put(client, namespace, "a")
        await eventually(lambda: ("a", "added") in told)
        end()


async def test_an_event_of_more_than_a_megabyte_is_read(client: Client, cluster: ControlPlane, namespace: str) -> None:
    async with connected(cluster.config) as (here, told):
        await here.informers.ensure(CONFIG_MAP, namespace=namespace)
        live = await put(client, namespace, "big", value="x" * 1_000_000)
        await put(client, namespace, "big2", value="\\" * 700_000)
        await eventually(lambda: {("big", "added"), ("big2", "added")} <= set(told))
        cached = here.informers.get(live.reference)
        assert isinstance(cached, LiveObject)
        assert len(cached.content()["data"]["x"]) == 1_000_000


async def test_a_forbidden_watch_is_told_quickly_and_not_asked_for_again_at_once(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    async with connected(cluster.config) as (here, _), asyncio.TaskGroup() as tasks:
        tenant = here.client.impersonate_service_account(namespace, "nobody")
        informers = Informers(tenant, here.discovery, tasks)
        with pytest.raises(Forbidden):
            await informers.ensure(CONFIG_MAP, namespace=namespace)
        sent = here.client.counter.total()
        for _ in range(5):
            with pytest.raises(Forbidden):
                await informers.ensure(CONFIG_MAP, namespace=namespace)
        assert here.client.counter.total() == sent
        assert informers.all() == ()
        with pytest.raises(Forbidden):
            await informers.ensure(CONFIG_MAP, namespace=namespace, metadata_only=True, keep_trying=True)
        assert [informer.state for informer in informers.all()] == [State.REFUSED]
        assert informers.get(reference(namespace, "a")) is MISSING
        await informers.close()


async def test_an_unreachable_server_is_told_after_the_timeout() -> None:
    async with connected(ClientConfig(server="http://127.0.0.1:1")) as (here, _):
        with pytest.raises(Unreachable):
            await here.informers.ensure(CONFIG_MAP, timeout=0.5)


async def test_an_informer_that_nobody_holds_is_stopped(cluster: ControlPlane, namespace: str) -> None:
    async with connected(cluster.config) as (here, _), asyncio.TaskGroup() as tasks:
        informers = Informers(here.client, here.discovery, tasks, idle=0.01)
        informer = await informers.ensure(CONFIG_MAP, namespace=namespace, holder="a")
        assert await informers.ensure(CONFIG_MAP, namespace=namespace, holder="b") is informer
        informers.release(informer, "a")
        informers.release(informer, "b")
        await eventually(lambda: informers.all() == ())
        await eventually(lambda: informer.state is State.STOPPED)
        assert informers.get(reference(namespace, "x")) is MISSING
        again = await informers.ensure(CONFIG_MAP, namespace=namespace, holder="c")
        assert again is not informer
        await informers.close()


def definition(plural: str, kind: str) -> bytes:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    return msgspec.json.encode({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.kube.test"},
        "spec": {
            "group": "kube.test", "scope": "Namespaced", "versions": versions,
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
        },
    })  # fmt: skip


@contextlib.asynccontextmanager
async def defined(client: Client, plural: str, kind: str) -> AsyncIterator[Resource]:
    """A CRD for the time of a test."""
    await client.create(CRDS, "", definition(plural, kind))
    try:
        yield Resource("kube.test", "v1", kind, plural, namespaced=True)
    finally:
        with contextlib.suppress(Exception):
            await client.delete(CRDS, "", f"{plural}.kube.test")


async def created(client: Client, resource: Resource, namespace: str, body: bytes) -> None:
    """Create an object of a kind that was just defined: discovery may know it before the server takes
    objects."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(NotFound):
                await client.create(resource, namespace, body)
                return
            await asyncio.sleep(0.05)


class Spec(msgspec.Struct):
    interval: int


class Typed(msgspec.Struct):
    spec: Spec


async def test_a_kind_is_known_as_soon_as_its_definition_is_there(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    async with connected(cluster.config) as (here, _):
        await here.follow_kinds()
        with pytest.raises(NoMatch):
            await here.discovery.resource("kube.test", "Early")
        async with defined(client, "earlies", "Early") as resource:
            found = await here.discovery.wait("kube.test", "Early")
            assert found.collection("x") == resource.collection("x")
            # The event about the definition is enough for the next miss to look again.
            assert await here.discovery.resource("kube.test", "Early", "v1") == found


async def test_when_a_kind_goes_its_objects_go_and_when_it_returns_they_return(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    body = msgspec.json.encode({"apiVersion": "kube.test/v1", "kind": "Fleeting", "metadata": {"name": "one"}})
    told: list[str] = []
    async with connected(cluster.config) as (here, _):
        here.informers.subscribe(
            lambda ref, old, new: told.append("removed" if new is None else "there") if ref.kind == "Fleeting" else None
        )
        async with defined(client, "fleetings", "Fleeting") as resource:
            await here.discovery.wait("kube.test", "Fleeting")
            informer = await here.informers.ensure(("kube.test", "Fleeting"), metadata_only=True)
            await created(client, resource, namespace, body)
            await eventually(lambda: told == ["there"])
        await eventually(lambda: "removed" in told)
        await eventually(lambda: informer.state is State.REFUSED, "the watch is told that the kind is gone")
        assert here.informers.get(Reference("kube.test", "Fleeting", namespace, "one")) is MISSING
        told.clear()
        async with defined(client, "fleetings", "Fleeting") as resource:
            await here.discovery.wait("kube.test", "Fleeting")
            await created(client, resource, namespace, body)
            await eventually(lambda: told == ["there"])
            assert informer.state is State.SYNCED


@pytest.mark.spec("SEC-39")
async def test_an_object_that_makes_no_sense_does_not_hide_the_others(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    # Its spec is what a schema that preserves unknown fields lets through.

    async with defined(client, "oddities", "Oddity") as resource, connected(cluster.config) as (here, _):
        await here.discovery.wait("kube.test", "Oddity")
        for name, interval in (("good", 1), ("odd", {"not": "a duration"})):
            body = {"apiVersion": "kube.test/v1", "kind": "Oddity", "metadata": {"name": name}}
            await created(client, resource, namespace, msgspec.json.encode(body | {"spec": {"interval": interval}}))
        informer = await here.informers.ensure(("kube.test", "Oddity"), namespace=namespace)
        assert sorted(live.metadata.name for live in informer) == ["good", "odd"]
        good, odd = informer.get(namespace, "good"), informer.get(namespace, "odd")
        assert good is not None
        assert odd is not None
        assert good.decode(Typed).spec.interval == 1
        with pytest.raises(msgspec.ValidationError):
            odd.decode(Typed)
