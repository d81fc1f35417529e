from __future__ import annotations

import asyncio

import pytest

from headrace.kube.counter import LEASE, RequestCounter, RequestKey, request_key, tallied

POD = "/api/v1/namespaces/ns/pods/web"


@pytest.mark.parametrize(
    ("method", "path", "query", "key"),
    [
        ("GET", "/api/v1/pods", {}, RequestKey("list", "pods")),
        ("GET", "/api/v1/pods", {"watch": "true"}, RequestKey("watch", "pods")),
        ("GET", POD, {}, RequestKey("get", "pods")),
        ("GET", f"{POD}/log", {}, RequestKey("get", "pods", "log")),
        ("POST", "/apis/apps/v1/namespaces/ns/deployments", {}, RequestKey("create", "deployments")),
        ("PUT", f"{POD}/status", {}, RequestKey("update", "pods", "status")),
        ("PATCH", POD, {"dryRun": "All"}, RequestKey("patch", "pods", "", True)),
        ("DELETE", POD, {}, RequestKey("delete", "pods")),
        ("DELETE", "/api/v1/namespaces/ns/pods", {}, RequestKey("deletecollection", "pods")),
        ("GET", "/api/v1/namespaces", {}, RequestKey("list", "namespaces")),
        ("GET", "/api/v1/namespaces/ns", {}, RequestKey("get", "namespaces")),
        ("PUT", "/api/v1/namespaces/ns/finalize", {}, RequestKey("update", "namespaces", "finalize")),
        ("GET", "/apis", {}, RequestKey("get")),
        ("GET", "/readyz", {}, RequestKey("get")),
    ],
)
def test_a_request_counts_under_the_verb_of_the_audit_log(
    method: str, path: str, query: dict[str, str], key: RequestKey
) -> None:
    assert request_key(method, path, query) == key


def test_purposes_are_told_apart() -> None:
    counter = RequestCounter()
    counter.sent(request_key("PATCH", POD, {}))
    counter.sent(request_key("PATCH", POD, {}, LEASE))
    counter.sent(request_key("PATCH", POD, {}, LEASE))
    assert counter.total(purpose="") == 1
    assert counter.total(purpose=LEASE) == 2
    assert counter.total() == 3


def test_a_snapshot_stays_as_it_was() -> None:
    counter = RequestCounter()
    before = counter.snapshot()
    counter.sent(RequestKey("get"))
    assert before == {}
    assert counter.snapshot() == {RequestKey("get"): 1}


async def test_a_tally_counts_what_the_tasks_of_a_run_send_and_nothing_else() -> None:
    counter = RequestCounter()

    async def send() -> None:
        counter.sent(RequestKey("get"))

    with tallied() as tally:
        await asyncio.gather(send(), send())
    await send()
    assert tally.requests == 2
    assert counter.total() == 3
