"""What is written to a real API server: patches, field managers, events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from headrace.core.clock import SystemClock
from headrace.core.secrecy import register
from headrace.kube.client import Client
from headrace.kube.counter import RequestKey
from headrace.model.errors import Retry, Stalled, StepError, Waiting
from headrace.model.outcome import Condition, Outcome
from headrace.model.scope import Scope
from headrace.status import events
from headrace.status.events import NORMAL, WARNING, Events
from headrace.status.writer import ApiStatusWriter
from tests.cluster.engine.thing import (
    EVENTS,
    GROUP,
    REQUESTED,
    THING,
    THINGS,
    Stage,
    Thing,
    condition_of,
    install_crd,
    ready,
    stage,
)
from tests.servers.control_plane import ControlPlane

KINDS = {THING.group_kind: THING}


@pytest.fixture
async def engine(client: Client, cluster: ControlPlane, namespace: str) -> AsyncIterator[Stage]:
    await install_crd(client)
    async with stage(client, namespace, cluster.config) as running:
        yield running


async def event(engine: Stage, name: str, count: int = 1) -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        while len(found := await engine.events(name)) < count:
            await asyncio.sleep(0.02)
    return sorted(found, key=lambda content: str(content["metadata"]["resourceVersion"]))


async def test_the_field_manager_is_the_one_of_the_kind(engine: Stage) -> None:
    await engine.create("a")
    live = await engine.has("a", "Ready", "True")
    managers = {(m["manager"], m.get("subresource", "")) for m in live.content()["metadata"]["managedFields"]}
    assert ("gotk-thing-controller", "status") in managers


async def test_a_failure_and_the_recovery_are_events_as_client_go_writes_them(
    engine: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="headrace.status.events")

    async def fails(obj: Thing, scope: Scope) -> Outcome:
        raise Retry("BuildFailed", "no such file", status={"lastAttemptedRevision": "main@sha1:1"}, after=3600.0)

    engine.things.by_name["a"] = fails
    await engine.create("a", text="one")
    (failure,) = await event(engine, "a")
    assert (failure["type"], failure["reason"], failure["message"]) == ("Warning", "BuildFailed", "no such file")
    assert failure["metadata"]["name"].startswith("a.")
    assert failure["metadata"]["annotations"] == {f"{GROUP}/revision": "main@sha1:1"}
    assert failure["involvedObject"]["kind"] == "Thing"
    assert failure["involvedObject"]["resourceVersion"] != ""
    assert failure["reportingComponent"] == failure["source"]["component"] == "thing-controller"
    assert failure["count"] == 1
    engine.things.by_name["a"] = ready
    await engine.patch("a", spec={"text": "two"})
    recovery = (await event(engine, "a", 2))[-1]
    assert (recovery["type"], recovery["reason"], recovery["message"]) == (
        "Normal", "ReconciliationSucceeded", "said two")
    logged = [(r.levelname, r.getMessage(), *(vars(r).get(key) for key in ("kind", "object", "reason", "revision")))
              for r in caplog.records if r.name == "headrace.status.events"]
    assert logged == [
        ("ERROR", "no such file", "Thing", "a", "BuildFailed", "main@sha1:1"),
        ("INFO", "said two", "Thing", "a", "ReconciliationSucceeded", None),
    ]


@pytest.mark.spec("KS-REC-03", "SRC-COM-04")
@pytest.mark.parametrize("error", [None, Retry("Failed", "x", after=3600.0), Stalled("Invalid", "x"),
                                   Waiting("NotYet", "x", on=(), after=3600.0)], ids=str)
async def test_a_request_is_recorded_as_handled_whatever_became_of_it(engine: Stage, error: StepError | None) -> None:
    async def ends(obj: Thing, scope: Scope) -> Outcome:
        if error is not None:
            raise error
        return await ready(obj, scope)

    engine.things.by_name["a"] = ends
    await engine.create("a")
    await engine.runs("a", 1)
    await engine.patch("a", metadata={"annotations": {REQUESTED: "2027-01-01T00:00:00Z"}})
    async with asyncio.timeout(30):
        while (await engine.get("a")).content().get("status", {}).get("lastHandledReconcileAt") is None:
            await asyncio.sleep(0.02)
    await engine.caused("a", "requested")


@pytest.mark.spec("KS-REC-14")
async def test_annotations_for_events_are_copied_from_the_object(engine: Stage) -> None:
    async def tells(obj: Thing, scope: Scope) -> Outcome:
        return Outcome("Succeeded", "m", event="told", revision="v1", after=3600.0)

    engine.things.by_name["a"] = tells
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {
        "name": "a", "annotations": {"event.toolkit.fluxcd.io/team": "x", "other": "y"}}}
    await engine.admin.create(THINGS, engine.namespace, msgspec.json.encode(body))
    (told,) = await event(engine, "a")
    assert told["metadata"]["annotations"] == {"event.toolkit.fluxcd.io/team": "x", f"{GROUP}/revision": "v1"}


@pytest.mark.spec("SEC-35")
async def test_secrets_reach_neither_conditions_nor_events(engine: Stage) -> None:
    canary = "c4n4ry-s3cret-value"

    async def leaks(obj: Thing, scope: Scope) -> Outcome:
        register(canary)
        raise Retry("FetchFailed", f"https://u:{canary}@example.com said {canary}", after=3600.0)

    engine.things.by_name["a"] = leaks
    await engine.create("a")
    await engine.has("a", "Ready", "False", "FetchFailed")
    (told,) = await event(engine, "a")
    assert canary not in str(told)
    assert canary.encode() not in (await engine.get("a")).raw


async def test_a_repeated_event_is_counted_on_the_one_that_exists(
    client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await install_crd(client)
    body = msgspec.json.encode({"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": "a"}})
    live = await client.create(THINGS, namespace, body)
    recorder = Events(client, SystemClock())

    async def record() -> None:
        await recorder.record(live, THING, type_=WARNING, reason="Failed", message="again", annotations={})

    await record()
    await record()
    monkeypatch.setattr(events, "COUNT_EVERY", 0.0)
    await record()
    (written,) = (await client.list(EVENTS, namespace)).items
    assert written.content()["count"] == 3
    await client.delete(EVENTS, namespace, written.metadata.name)
    await record()
    (written,) = (await client.list(EVENTS, namespace)).items
    assert written.content()["count"] == 1


async def test_an_event_that_cannot_be_written_hurts_nobody(client: Client, namespace: str) -> None:
    await install_crd(client)
    body = msgspec.json.encode({"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": "a"}})
    live = await client.create(THINGS, namespace, body)
    recorder = Events(client.impersonate("system:serviceaccount:default:nobody"), SystemClock())
    await recorder.record(live, THING, type_=NORMAL, reason="R", message="m", annotations={})
    assert (await client.list(EVENTS, namespace)).items == ()


async def test_a_final_status_that_says_nothing_new_is_no_request(client: Client, namespace: str) -> None:
    await install_crd(client)
    body = msgspec.json.encode({"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": "a"}})
    live = await client.create(THINGS, namespace, body)
    clock = SystemClock()
    writer = ApiStatusWriter(client, Events(client, clock), clock, KINDS)
    first = await writer.succeeded(live, Outcome("Succeeded", "done"), before=live)
    assert (condition_of(first, "Ready") or {})["observedGeneration"] == 1
    patches = RequestKey("patch", "things", "status")
    before = client.counter.snapshot()[patches]
    assert await writer.succeeded(first, Outcome("Succeeded", "done"), before=first) is first
    assert client.counter.snapshot()[patches] == before


async def test_a_recovery_is_told_however_long_the_run_has_said_that_it_goes_on(
    client: Client, namespace: str
) -> None:
    await install_crd(client)
    body = msgspec.json.encode({"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": "a"}})
    live = await client.create(THINGS, namespace, body)
    clock = SystemClock()
    writer = ApiStatusWriter(client, Events(client, clock), clock, KINDS)
    failed = await writer.failed(live, Retry("Broken", "it is broken"), 1.0)
    meanwhile = await writer.progress(failed, "Progressing", "building", [Condition("Ready", "Unknown", "R", "m")])
    await writer.succeeded(meanwhile, Outcome("Succeeded", "done"), before=failed)
    told = [live.content()["message"] for live in (await client.list(EVENTS, namespace)).items]
    assert sorted(told) == ["done", "it is broken"]
