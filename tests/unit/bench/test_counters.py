"""Requests read from the engine's metrics page and sorted."""

from __future__ import annotations

from bench.counters import Request, parse, tally

PAGE = """\
# HELP headrace_api_requests_total Requests to API servers.
# TYPE headrace_api_requests_total counter
headrace_api_requests_total{verb="patch",resource="deployments",subresource="",dry_run="true",purpose=""} 4
headrace_api_requests_total{verb="patch",resource="deployments",subresource="",dry_run="false",purpose=""} 3
headrace_api_requests_total{verb="patch",resource="kustomizations",subresource="status",dry_run="false",purpose=""} 2
# TYPE other gauge
other 7
"""


def request(verb: str, resource: str, *, subresource: str = "", dry_run: bool = False, purpose: str = "") -> Request:
    return Request(verb, resource, subresource, dry_run, purpose)


def test_the_counter_is_read_from_the_metrics_page_and_nothing_else_is() -> None:
    assert parse(PAGE) == {
        request("patch", "deployments", dry_run=True): 4,
        request("patch", "deployments"): 3,
        request("patch", "kustomizations", subresource="status"): 2,
    }


def test_dry_runs_are_requests_but_not_writes() -> None:
    spent = tally({}, parse(PAGE))
    assert (spent.requests, spent.writes, spent.dry_runs) == (9, 5, 4)
    assert spent.by_verb_resource == {
        "patch deployments": 3, "patch deployments (dry run)": 4, "patch kustomizations/status": 2,
    }


def test_only_what_came_between_two_readings_counts() -> None:
    before = {request("get", "secrets"): 2, request("create", "events"): 1}
    after = {request("get", "secrets"): 5, request("create", "events"): 1}
    spent = tally(before, after)
    assert spent.by_verb_resource == {"get secrets": 3}
    assert spent.writes == 0


def test_leases_discovery_lists_watches_and_progress_patches_stand_apart() -> None:
    spent = tally({}, {
        request("update", "leases", purpose="lease"): 1,
        request("get", "", purpose="discovery"): 2,
        request("list", "secrets", purpose="watch"): 3,
        request("watch", "secrets", purpose="watch"): 4,
        request("patch", "kustomizations", subresource="status", purpose="progress"): 5,
        request("patch", "kustomizations", subresource="status"): 6,
    })
    assert spent.apart == {"leases": 1, "discovery": 2, "list": 3, "watch": 4, "progress": 5}
    assert spent.requests == 6
