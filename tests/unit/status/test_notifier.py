"""Events by HTTP: a real receiver on loopback, a clock that does not wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from headrace.api.kinds import KUSTOMIZATION
from headrace.core.egress import parse_url
from headrace.model.objects import LiveObject, Metadata
from headrace.status.events import NORMAL, WARNING, EventRecord
from headrace.status.notifier import QUEUED, REPEATED_AFTER, TRIES, Notifier
from tests.eventually import eventually
from tests.manual_clock import ManualClock
from tests.servers.event_receiver import EventReceiver

LIVE = LiveObject(
    KUSTOMIZATION.reference("default", "app"), "kustomize.toolkit.fluxcd.io/v1",
    Metadata(name="app", namespace="default", uid="u-1", resource_version="7"), b"{}",
)


def record(message: str = "done", **changed: Any) -> EventRecord:
    said: dict[str, Any] = {
        "component": "kustomize-controller", "type": NORMAL, "reason": "ReconciliationSucceeded",
        "annotations": {"kustomize.toolkit.fluxcd.io/revision": "main@sha1:1"}, "at": 1_800_000_000.0,
    }
    return EventRecord(live=LIVE, message=message, **(said | changed))


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[EventReceiver]:
    receiver = EventReceiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def notifier(receiver: EventReceiver, clock: ManualClock) -> AsyncIterator[Notifier]:
    async with Notifier(parse_url(receiver.url), clock, instance="pod-1") as running:
        yield running


@pytest.mark.spec("KS-OPS-04")
async def test_an_event_is_posted_as_upstream_writes_it(receiver: EventReceiver, notifier: Notifier) -> None:
    notifier(record("all is well"))
    notifier(record("all is lost", type=WARNING, reason="BuildFailed"))
    await eventually(lambda: len(receiver.events) == 2)
    assert receiver.events[0] == {
        "involvedObject": {
            "kind": "Kustomization", "namespace": "default", "name": "app", "uid": "u-1",
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "resourceVersion": "7",
        },
        "severity": "info", "timestamp": "2027-01-15T08:00:00Z", "message": "all is well",
        "reason": "ReconciliationSucceeded", "metadata": {"kustomize.toolkit.fluxcd.io/revision": "main@sha1:1"},
        "reportingController": "kustomize-controller", "reportingInstance": "pod-1",
    }
    assert (receiver.events[1]["severity"], receiver.events[1]["reason"]) == ("error", "BuildFailed")


@pytest.mark.parametrize("status", [
    pytest.param(429, marks=pytest.mark.spec("KS-OPS-04", "SRC-COM-27")), 400, 404, 302, 200,
])
async def test_an_answer_that_refuses_is_the_last_word(
    receiver: EventReceiver, notifier: Notifier, clock: ManualClock, status: int
) -> None:
    receiver.answers = [status]
    notifier(record("one"))
    notifier(record("two"))
    await eventually(lambda: len(receiver.events) == 2)
    assert [event["message"] for event in receiver.events] == ["one", "two"]
    assert clock.slept == []


async def test_a_receiver_that_fails_is_tried_again_with_growing_pauses(
    receiver: EventReceiver, notifier: Notifier, clock: ManualClock
) -> None:
    receiver.answers = [500, 503]
    notifier(record("one"))
    notifier(record("two"))
    await eventually(lambda: len(receiver.events) == 4)
    assert [event["message"] for event in receiver.events] == ["one", "one", "one", "two"]
    assert clock.slept == [1.0, 2.0]


async def test_an_event_that_cannot_be_posted_is_given_up_and_the_next_one_is_not(
    receiver: EventReceiver, notifier: Notifier
) -> None:
    receiver.answers = [500] * TRIES
    notifier(record("one"))
    notifier(record("two"))
    await eventually(lambda: receiver.events and receiver.events[-1]["message"] == "two")
    assert len(receiver.events) == TRIES + 1


async def test_a_receiver_that_is_not_there_costs_nothing_but_the_event(clock: ManualClock) -> None:
    async with Notifier(parse_url("http://127.0.0.1:9/"), clock) as notifier:
        notifier(record())
        await eventually(lambda: len(clock.slept) == TRIES - 1)


@pytest.mark.spec("SRC-COM-27")
@pytest.mark.parametrize("reason", ["ArtifactUpToDate", "GarbageCollectionSucceeded"])
async def test_traces_are_not_posted(receiver: EventReceiver, notifier: Notifier, reason: str) -> None:
    notifier(record(reason=reason, component="source-controller"))
    notifier(record("news", reason="NewArtifact", component="source-controller"))
    await eventually(lambda: receiver.events)
    assert [event["reason"] for event in receiver.events] == ["NewArtifact"]


async def test_a_repetition_is_told_again_only_after_a_while(receiver: EventReceiver, notifier: Notifier) -> None:
    at = 1_800_000_000.0
    notifier(record("one", at=at))
    notifier(record("one", at=at + REPEATED_AFTER - 1))
    notifier(record("one", at=at + 1, annotations={}))
    notifier(record("one", at=at + REPEATED_AFTER))
    notifier(record("end"))
    await eventually(lambda: receiver.events and receiver.events[-1]["message"] == "end")
    assert len(receiver.events) == 4


async def test_a_slow_receiver_holds_up_nobody_and_gets_the_latest_events(
    receiver: EventReceiver, notifier: Notifier
) -> None:
    receiver.open.clear()
    notifier(record("first"))
    await eventually(lambda: receiver.events)
    for number in range(QUEUED + 3):
        notifier(record(f"event {number}"))
    receiver.open.set()
    await eventually(lambda: len(receiver.events) == QUEUED + 1)
    assert [receiver.events[1]["message"], receiver.events[-1]["message"]] == ["event 3", f"event {QUEUED + 2}"]


async def test_what_is_queued_at_the_end_is_posted(receiver: EventReceiver, clock: ManualClock) -> None:
    async with Notifier(parse_url(receiver.url), clock) as notifier:
        notifier(record("goodbye"))
    assert [event["message"] for event in receiver.events] == ["goodbye"]
