"""metrics: the page as Prometheus reads it."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from headrace.edge.metrics import BATCH, EngineMetrics, metrics_application
from headrace.engine.queue import LANES
from headrace.kube.counter import RequestCounter, RequestKey
from headrace.kube.objects import decode_object
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference
from headrace.model.trace import Trace

GROUP = "kustomize.toolkit.fluxcd.io"


def trace(reference: Reference, seconds: float, result: str = "success") -> Trace:
    return Trace(reference, 0.0, seconds, (), (), (), (), result, "ReconciliationSucceeded", "")


def reference(name: str) -> Reference:
    return Reference(GROUP, "Kustomization", "apps", name)


def live(name: str, ready: str, *, suspend: bool = False) -> LiveObject:
    condition = {
        "type": "Ready",
        "status": ready,
        "reason": "R",
        "message": "",
        "lastTransitionTime": "2026-11-21T11:00:00Z",
    }
    return decode_object(msgspec.json.encode({
        "apiVersion": f"{GROUP}/v1", "kind": "Kustomization", "metadata": {"name": name, "namespace": "apps"},
        "spec": {"suspend": suspend, "sourceRef": {"kind": "GitRepository", "name": "repo"}},
        "status": {"conditions": [condition], "lastAppliedRevision": "main@sha1:abc"},
    }))  # fmt: skip


def samples(page: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(page: str, metric: str, /, **labels: Any) -> float:
    [only] = [v for has, v in samples(page).get(metric, []) if labels.items() <= has.items()]
    return only


def test_a_run_is_counted_under_the_labels_of_upstream() -> None:
    metrics = EngineMetrics(RequestCounter())
    for seconds in (0.05, 2.0):
        metrics.finished(trace(reference("a"), seconds))
    page = metrics.page()
    own = {"kind": "Kustomization", "name": "a", "namespace": "apps"}
    assert value(page, "gotk_reconcile_duration_seconds_count", **own) == 2
    assert value(page, "gotk_reconcile_duration_seconds_sum", **own) == 2.05
    assert value(page, "gotk_reconcile_duration_seconds_bucket", le="0.1", **own) == 1
    assert value(page, "gotk_reconcile_duration_seconds_bucket", le="+Inf", **own) == 2


def test_the_series_of_an_object_go_with_it() -> None:
    metrics = EngineMetrics(RequestCounter())
    metrics.finished(trace(reference("a"), 1.0))
    metrics.changed(reference("a"), None, live("a", "True"))
    metrics.forgotten(reference("a"))
    assert 'name="a"' not in metrics.page()


async def test_the_page_is_that_of_now_however_many_objects_have_changed() -> None:
    metrics = EngineMetrics(RequestCounter())
    names = [f"app-{number}" for number in range(2 * BATCH + 1)]
    for name in names:
        metrics.changed(reference(name), None, live(name, "True"))
    metrics.changed(reference("app-0"), live("app-0", "True"), live("app-0", "False"))
    metrics.changed(reference("app-1"), live("app-1", "True"), None)
    page = await metrics.read()
    assert value(page, "gotk_reconcile_condition", name="app-0", type="Ready", status="False") == 1
    assert len(samples(page)["gotk_resource_info"]) == len(names) - 1
    metrics.changed(reference("app-0"), live("app-0", "False"), live("app-0", "True"))
    assert value(await metrics.read(), "gotk_reconcile_condition", name="app-0", type="Ready", status="False") == 0


def test_readiness_and_suspension_come_from_the_watched_objects() -> None:
    metrics = EngineMetrics(RequestCounter())
    metrics.changed(reference("a"), None, live("a", "False", suspend=True))
    page = metrics.page()
    assert value(page, "gotk_reconcile_condition", name="a", type="Ready", status="False") == 1
    assert value(page, "gotk_reconcile_condition", name="a", type="Ready", status="True") == 0
    assert value(page, "gotk_suspend_status", name="a") == 1
    info = {"customresource_kind": "Kustomization", "exported_namespace": "apps", "ready": "False", "suspended": "true"}
    assert value(page, "gotk_resource_info", name="a", source_name="repo", revision="main@sha1:abc", **info) == 1


def test_requests_are_told_by_verb_resource_and_purpose() -> None:
    counter = RequestCounter()
    counter.sent(RequestKey("patch", "deployments", "", True, ""))
    counter.answered("PATCH", "200")
    page = EngineMetrics(counter).page()
    assert value(page, "headrace_api_requests_total", verb="patch", resource="deployments", dry_run="true") == 1
    assert value(page, "rest_client_requests_total", method="PATCH", code="200") == 1


def test_a_label_value_cannot_break_the_page() -> None:
    metrics = EngineMetrics(RequestCounter())
    metrics.finished(msgspec.structs.replace(trace(reference("a"), 1.0), reason='x"} 1\nfake{a="\\'))
    assert value(metrics.page(), "headrace_reconciles_total", reason='x"} 1\nfake{a="\\') == 1


def test_engine_gauges_are_shown() -> None:
    metrics = EngineMetrics(RequestCounter(), storage_bytes=lambda: 42)
    metrics.queued(3, 2, 1)
    metrics.unattended(0)
    metrics.leading("headrace-leader-election", True)
    metrics.picked(1, 0.2)
    page = metrics.page()
    assert value(page, "headrace_queue_depth") == 3
    assert value(page, "headrace_runs_waiting") == 1
    assert value(page, "headrace_objects_without_timer") == 0
    assert value(page, "headrace_artifact_storage_bytes") == 42
    assert value(page, "leader_election_master_status", name="headrace-leader-election") == 1
    assert value(page, "headrace_queue_seconds_count", lane="revision") == 1


async def test_the_page_is_served_as_prometheus_text() -> None:
    async with TestClient(TestServer(metrics_application(EngineMetrics(RequestCounter())))) as client:
        answer = await client.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "process_resident_memory_bytes" in await answer.text()


def test_every_lane_of_the_queue_has_its_waiting_time() -> None:
    metrics = EngineMetrics(RequestCounter())
    for lane in LANES:
        metrics.picked(lane, 0.5)


def test_the_cache_of_tokens_is_shown_under_upstreams_names() -> None:
    class Counts:
        hits, misses, failures, evictions = 7, 3, 1, 2

        def __len__(self) -> int:
            return 5

    metrics = EngineMetrics(RequestCounter())
    assert "gotk_token" not in metrics.page()
    metrics.tokens(Counts())
    families = {family.name: family for family in text_string_to_metric_families(metrics.page())}
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for name, family in families.items() if name.startswith("gotk_token") for sample in family.samples
    }  # fmt: skip
    assert values == {
        ("gotk_token_cache_events_total", "cache_hit"): 7, ("gotk_token_cache_events_total", "cache_miss"): 3,
        ("gotk_token_cache_requests_total", "success"): 9, ("gotk_token_cache_requests_total", "failure"): 1,
        ("gotk_token_cache_evictions_total",): 2, ("gotk_token_cached_items",): 5,
    }  # fmt: skip
