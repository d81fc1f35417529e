"""REST mapping of a real API server, aggregated and group by group."""

from __future__ import annotations

import pytest

from headrace.kube import discovery as module
from headrace.kube.client import JSON, Client
from headrace.kube.discovery import Discovery
from headrace.kube.errors import NoMatch
from headrace.kube.resource import Resource
from tests.manual_clock import ManualClock


def discovery_requests(client: Client) -> int:
    return client.counter.total(purpose="discovery")


async def test_kinds_are_mapped_with_two_requests_for_all(client: Client) -> None:
    discovery = Discovery(client)
    deployment = await discovery.resource("apps", "Deployment")
    assert deployment.collection("ns") == "/apis/apps/v1/namespaces/ns/deployments"
    assert {"status", "scale"} <= set(deployment.subresources)
    assert "patch" in deployment.verbs
    assert deployment.short_names == ("deploy",)
    assert not (await discovery.resource("", "Namespace")).namespaced
    assert (await discovery.resource("", "Pod")).namespaced
    assert discovery_requests(client) == 2


async def test_the_preferred_version_comes_first_and_others_can_be_named(client: Client) -> None:
    discovery = Discovery(client)
    assert (await discovery.resource("autoscaling", "HorizontalPodAutoscaler")).version == "v2"
    assert (await discovery.resource("autoscaling", "HorizontalPodAutoscaler", "v1")).version == "v1"
    versions = await discovery.versions("autoscaling", "HorizontalPodAutoscaler")
    assert [resource.version for resource in versions] == ["v2", "v1"]


async def test_a_kind_that_is_missing_is_looked_for_at_a_limited_rate(client: Client) -> None:
    clock = ManualClock()
    discovery = Discovery(client, clock=clock)
    for _ in range(10):
        with pytest.raises(NoMatch, match='no matches for kind "Nothing"'):
            await discovery.resource("example.com", "Nothing", "v1")
    assert discovery_requests(client) == 2
    clock.time += module.MISS_INTERVAL
    with pytest.raises(NoMatch):
        await discovery.resource("example.com", "Nothing")
    assert discovery_requests(client) == 4
    clock.time += module.STALE_INTERVAL
    discovery.invalidate()
    with pytest.raises(NoMatch):
        await discovery.resource("example.com", "Nothing")
    assert discovery_requests(client) == 6


async def test_reading_again_without_a_change_transfers_nothing_and_tells_nobody(client: Client) -> None:
    discovery = Discovery(client)
    told: list[str] = []
    discovery.subscribe(lambda: told.append("changed"))
    await discovery.refresh()
    before = await discovery.resources()
    await discovery.refresh()
    assert await discovery.resources() is before
    assert told == ["changed"]
    answers = client.counter.codes()
    assert answers["GET", "304"] == 2


async def test_without_aggregation_the_same_kinds_are_found(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    aggregated = {(r.group, r.version, r.plural): r for r in await Discovery(client).resources()}
    monkeypatch.setattr(module, "_ACCEPT", JSON)
    legacy = {(r.group, r.version, r.plural): r for r in await Discovery(client).resources()}
    assert legacy.keys() == aggregated.keys()

    def essence(resource: Resource) -> object:
        return resource.kind, resource.namespaced, set(resource.verbs), set(resource.subresources)

    assert {k: essence(r) for k, r in legacy.items()} == {k: essence(r) for k, r in aggregated.items()}
