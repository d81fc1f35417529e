"""Watches and requests through a proxy that does them harm: what the caches hold in the end is what the
cluster holds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.kube.client import Client
from headrace.kube.cluster import Clusters
from headrace.kube.errors import NotFound, ServerError, Timeout
from headrace.kube.informer import Informer, WatchSettings
from headrace.kube.informers import MISSING
from headrace.kube.resource import Resource
from headrace.model.reference import Reference
from tests.eventually import eventually
from tests.servers.certificates import Authority
from tests.servers.control_plane import ControlPlane
from tests.servers.fault_proxy import FaultProxy, fault_proxy

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
QUICK = WatchSettings(
    silence=1.0, grace=0.3, retry_minimum=0.05, retry_maximum=0.2, refused_minimum=0.2, refused_maximum=0.4
)

GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
BROKEN = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "reason": "InternalError", "message": "oh"}}


@pytest.fixture
async def clusters(proxy: FaultProxy) -> AsyncIterator[Clusters]:
    async with Clusters(proxy.config, watch=QUICK) as clusters:
        yield clusters


async def put(client: Client, namespace: str, *names: str, value: str = "1") -> None:
    for name in names:
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        encoded = msgspec.json.encode(body | {"data": {"x": value}})
        await client.apply(CONFIG_MAPS, namespace, name, encoded, field_manager="test")


async def remove(client: Client, namespace: str, *names: str) -> None:
    for name in names:
        await client.delete(CONFIG_MAPS, namespace, name)


def held(informer: Informer) -> dict[str, str]:
    """What the cache holds: names and values."""
    found = {live.metadata.name: live.content()["data"] for live in informer}
    return {name: data["x"] for name, data in found.items() if name != "kube-root-ca.crt"}


async def watching(clusters: Clusters, namespace: str) -> Informer:
    return await clusters.management.informers.ensure(("", "ConfigMap"), namespace=namespace)


@pytest.mark.spec("REL-12")
@pytest.mark.parametrize("reset", [False, True], ids=["in peace", "by a reset"])
async def test_a_watch_that_ends_goes_on_where_it_was(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str, reset: bool
) -> None:
    await put(client, namespace, "a", "b")
    informer = await watching(clusters, namespace)
    for value in ("2", "3", "4"):
        await eventually(lambda: proxy.end_watches(reset=reset) > 0)
        await put(client, namespace, "a", value=value)
        await eventually(lambda value=value: held(informer)["a"] == value)
    await remove(client, namespace, "b")
    await eventually(lambda: held(informer) == {"a": "4"})
    assert informer.relists == 1


@pytest.mark.spec("REL-12")
@pytest.mark.parametrize("event", [GONE, BROKEN], ids=["expired", "another error"])
async def test_an_error_event_costs_a_list_at_most_and_loses_nothing(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str, event: dict[str, Any]
) -> None:
    await put(client, namespace, "a", "b")
    informer = await watching(clusters, namespace)
    fault = proxy.insert_event(event, path=namespace, query="resourceVersion=", times=1)
    proxy.end_watches()
    await fault.happened()
    await remove(client, namespace, "b")
    await put(client, namespace, "c")
    await eventually(lambda: held(informer) == {"a": "1", "c": "1"})
    assert informer.relists == (2 if event is GONE else 1)


@pytest.mark.spec("REL-12")
async def test_a_410_before_the_watch_begins_lists_again(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str
) -> None:
    await put(client, namespace, "a")
    informer = await watching(clusters, namespace)
    body = msgspec.json.encode(GONE["object"])
    fault = proxy.fail(410, body=body, path=namespace, query="&resourceVersion=", watch=True, times=1)
    proxy.end_watches()
    await fault.happened()
    await put(client, namespace, "a", value="2")
    await eventually(lambda: held(informer) == {"a": "2"})
    assert informer.relists == 2


@pytest.mark.spec("REL-12")
async def test_a_line_that_breaks_off_is_read_again(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str
) -> None:
    informer = await watching(clusters, namespace)
    fault = proxy.truncate(50, path=namespace, query="resourceVersion=", watch=True, times=1)
    proxy.end_watches()
    await put(client, namespace, "a", value="x" * 1000)
    await fault.happened()
    await eventually(lambda: held(informer) == {"a": "x" * 1000})


@pytest.mark.spec("REL-12")
async def test_a_line_that_is_no_event_is_not_the_end(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str
) -> None:
    informer = await watching(clusters, namespace)
    fault = proxy.insert_event({"nonsense": True}, path=namespace, query="resourceVersion=", times=4)
    proxy.end_watches()
    await put(client, namespace, "a")
    await fault.happened()
    await eventually(lambda: held(informer) == {"a": "1"})


@pytest.mark.spec("REL-12")
async def test_a_watch_that_has_gone_silent_is_opened_anew(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str
) -> None:
    await put(client, namespace, "a")
    informer = await watching(clusters, namespace)
    fault = proxy.silence(path=namespace, times=2)
    await put(client, namespace, "b")
    await fault.happened()
    assert "b" not in held(informer)
    await remove(client, namespace, "a")
    await eventually(lambda: held(informer) == {"b": "1"})


@pytest.mark.spec("REL-12")
async def test_deletes_that_were_missed_are_inferred_at_the_next_list(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str
) -> None:
    await put(client, namespace, "a", "b", "c")
    removed: list[str] = []
    clusters.subscribe(lambda ref, old, new: removed.append(ref.name) if new is None else None)
    informer = await watching(clusters, namespace)
    drop = proxy.drop_events(lambda event: event["type"] == "DELETED", path=namespace)
    await remove(client, namespace, "a", "b")
    await eventually(lambda: drop.hits >= 2)
    assert set(held(informer)) == {"a", "b", "c"}
    proxy.remove(drop)
    expired = proxy.insert_event(GONE, path=namespace, query="resourceVersion=", times=1)
    proxy.end_watches()
    await expired.happened()
    await eventually(lambda: set(held(informer)) == {"c"})
    assert sorted(removed) == ["a", "b"]


@pytest.mark.spec("REL-12")
async def test_a_long_list_is_read_in_pages_and_begun_anew_when_a_page_has_expired(
    client: Client, proxy: FaultProxy, namespace: str
) -> None:
    names = [f"m{i:02d}" for i in range(12)]
    await put(client, namespace, *names)
    body = msgspec.json.encode(GONE["object"])
    expired = proxy.fail(410, body=body, query="continue=", times=1)
    async with Client(proxy.config) as through:
        listing = await through.list(CONFIG_MAPS, namespace, limit=5)
    assert expired.hits == 1
    assert [live.metadata.name for live in listing.items if live.metadata.name != "kube-root-ca.crt"] == names
    queries = [seen.query for seen in proxy.requests]
    assert "limit=5" in queries[0]
    assert "limit" not in queries[-1]


@pytest.mark.spec("REL-12")
async def test_whatever_is_thrown_at_it_the_cache_is_right_in_the_end(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str
) -> None:
    await put(client, namespace, "a", "b")
    informer = await watching(clusters, namespace)
    proxy.fail(500, path=namespace, times=2)
    proxy.reset(path=namespace, times=2)
    proxy.truncate(200, path=namespace, times=2)
    proxy.insert_event(BROKEN, path=namespace, times=3)
    proxy.insert_event(GONE, path=namespace, times=2)
    proxy.drop_events(lambda event: event["type"] != "BOOKMARK", path=namespace, times=3)
    for round_ in range(12):
        await put(client, namespace, "a", f"n{round_}", value=str(round_))
        if round_ % 2:
            await remove(client, namespace, f"n{round_}")
        proxy.end_watches(reset=bool(round_ % 3))
    proxy.clear()
    # An event that was kept back comes only with a list; a real server loses none.
    expired = proxy.insert_event(GONE, path=namespace, query="resourceVersion=", times=1)
    proxy.end_watches()
    await expired.happened()
    expected = {"a": "11", "b": "1"} | {f"n{n}": str(n) for n in range(0, 12, 2)}
    await eventually(lambda: held(informer) == expected)


async def test_during_a_partition_the_cache_is_not_trusted_and_afterwards_it_is_right(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str
) -> None:
    await put(client, namespace, "a")
    informer = await watching(clusters, namespace)
    absent = Reference("", "ConfigMap", namespace, "later")
    caches = clusters.management.informers
    assert caches.get(absent) is None
    proxy.partition()
    await put(client, namespace, "later")
    await eventually(lambda: not informer.synced, "the silence is noticed and the grace runs out")
    assert caches.get(absent) is MISSING
    proxy.heal()
    await eventually(lambda: caches.covers(absent))
    await eventually(lambda: held(informer) == {"a": "1", "later": "1"})


async def test_rights_that_are_taken_away_and_given_back_are_noticed(
    client: Client, proxy: FaultProxy, clusters: Clusters, namespace: str
) -> None:
    await put(client, namespace, "a")
    informer = await watching(clusters, namespace)
    status = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}
    fault = proxy.fail(403, body=msgspec.json.encode(status), path=namespace, watch=True)
    proxy.end_watches()
    await eventually(lambda: not informer.synced)
    await remove(client, namespace, "a")
    proxy.remove(fault)
    await eventually(lambda: informer.synced)
    assert held(informer) == {}


@pytest.mark.spec("REL-20")
async def test_a_busy_server_is_asked_again_when_it_said_and_the_write_happens_once(
    client: Client, proxy: FaultProxy, namespace: str
) -> None:
    proxy.fail(429, headers={"Retry-After": "1"}, method="POST", times=1)
    proxy.fail(503, headers={"Retry-After": "1"}, method="POST", times=1)
    body = msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "once-"}})
    started = time.monotonic()
    async with Client(proxy.config) as through:
        await through.create(CONFIG_MAPS, namespace, body)
    assert [seen.status for seen in proxy.requests] == [429, 503, 201]
    # Not how long it takes is asserted, but that nobody came before the time was up.
    assert time.monotonic() - started >= 2.0
    listing = await client.list(CONFIG_MAPS, namespace)
    assert sum(live.metadata.name.startswith("once-") for live in listing.items) == 1


@pytest.mark.spec("REL-20")
async def test_many_watches_of_a_server_that_fails_do_not_come_back_together(
    proxy: FaultProxy, clusters: Clusters, namespace: str
) -> None:
    informers = clusters.management.informers
    await asyncio.gather(*(informers.ensure(("", "ConfigMap"), namespace=namespace, name=f"n{i}") for i in range(20)))
    arrivals: list[float] = []
    fault = proxy.fail(503, path=namespace, watch=True, times=20)
    original = fault.hit

    def hit() -> None:
        arrivals.append(time.monotonic())
        original()

    fault.hit = hit  # type: ignore[method-assign]
    proxy.end_watches(reset=True)
    await eventually(lambda: fault.hits == 20)
    await eventually(lambda: all(informer.synced and informer.error is None for informer in informers.all()))
    assert max(arrivals) - min(arrivals) > 0.01


async def test_an_answer_that_is_lost_is_asked_for_again_where_that_is_harmless(
    client: Client, proxy: FaultProxy, namespace: str
) -> None:
    lost = proxy.reset(answered=True, method="PATCH", times=1)
    async with Client(proxy.config) as through:
        await put(through, namespace, "a")
        assert lost.hits == 1
        proxy.reset(answered=True, method="DELETE", times=1)
        live = await through.get(CONFIG_MAPS, namespace, "a")
        # The first DELETE did it; the second one, by uid, finds nothing.
        with pytest.raises(NotFound):
            await through.delete(CONFIG_MAPS, namespace, "a", uid=live.metadata.uid)


async def test_a_server_that_hangs_is_given_up_at_the_deadline(proxy: FaultProxy, namespace: str) -> None:
    proxy.delay(30.0)
    async with Client(proxy.config) as through:
        with pytest.raises(Timeout):
            await through.get(CONFIG_MAPS, namespace, "a", timeout=0.2)
        proxy.clear()
        proxy.fail(500)
        with pytest.raises(ServerError):
            await through.get(CONFIG_MAPS, namespace, "a")


async def test_the_proxy_itself_speaks_tls_and_writes_a_kubeconfig(
    cluster: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    from headrace.kube.config import load_kubeconfig

    async with fault_proxy(cluster.config, authority=Authority(), directory=tmp_path) as proxy:
        config = load_kubeconfig(proxy.write_kubeconfig(tmp_path / "kubeconfig"), trusted=True)
        assert config.server.startswith("https://")
        async with Client(config) as through:
            with contextlib.suppress(NotFound):
                await through.get(CONFIG_MAPS, namespace, "a")
    assert [seen.status for seen in proxy.requests] == [404]
