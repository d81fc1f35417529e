"""The engine's main properties on a real API server, with a kind of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from headrace.engine.failure import step_error
from headrace.engine.settings import EngineSettings
from headrace.kube.client import Client
from headrace.kube.counter import WORK
from headrace.kube.errors import KubeError, NotFound
from headrace.model.errors import Retry, Stalled
from headrace.model.outcome import Condition, Outcome
from headrace.model.plan import InventoryEntry
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from tests.cluster.engine.thing import CRDS, REQUESTED, THINGS, Stage, Thing, condition_of, install_crd, ready, stage
from tests.eventually import eventually
from tests.servers.control_plane import ControlPlane

TEXT = Part("data[text]", lambda live: live.content().get("data", {}).get("text"))


@pytest.fixture
async def engine(client: Client, cluster: ControlPlane, namespace: str) -> AsyncIterator[Stage]:
    await install_crd(client)
    async with stage(client, namespace, cluster.config) as running:
        yield running


async def test_a_dependency_that_becomes_ready_wakes_its_dependent_by_event(engine: Stage) -> None:
    await engine.create("child", dependsOn=["parent"])
    await engine.has("child", "Ready", "False", "DependencyNotReady")
    await engine.create("parent", text="hello")
    await engine.has("child", "Ready", "True")
    await engine.caused("child", f"{engine.reference('parent')} changed (ready)")


async def test_a_chain_of_21_runs_through_by_events_alone(engine: Stage) -> None:
    for number in range(20, 0, -1):
        await engine.create(f"k{number}", dependsOn=[f"k{number - 1}"])
    await engine.create("k0")
    await engine.has("k20", "Ready", "True")
    assert all(cause != "retry" for n in range(21) for cause in engine.causes(f"k{n}"))


async def test_a_whole_life_costs_three_requests_and_a_forced_run_one(engine: Stage) -> None:
    counter = engine.clusters.counter
    before = counter.total(purpose=WORK)
    await engine.create("a", text="x")
    await engine.has("a", "Ready", "True")
    await engine.runs("a", 1)
    assert counter.total(purpose=WORK) - before == 2, "the finalizer and the status"
    await engine.patch("a", metadata={"annotations": {REQUESTED: "now"}})
    await engine.runs("a", 2)
    live = await engine.get("a")
    assert counter.total(purpose=WORK) - before == 3
    assert live.content()["status"]["lastHandledReconcileAt"] == "now"
    await engine.caused("a", "requested")


async def test_a_change_in_a_part_of_a_config_map_that_was_not_read_queues_nothing(engine: Stage) -> None:
    values = Reference("", "ConfigMap", engine.namespace, "values")

    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.read(values, TEXT)
        return await ready(obj, scope)

    engine.things.by_name["a"] = reconcile
    await engine.config_map("values", text="1", other="1")
    await engine.create("a")
    await engine.runs("a", 1)
    await engine.config_map("values", text="1", other="2")
    await engine.config_map("values", text="2", other="2")
    await engine.runs("a", 2)
    assert engine.things.runs == ["a", "a"]
    await engine.caused("a", f"ConfigMap/{engine.namespace}/values changed (data[text])")


async def test_fifty_objects_that_wait_do_not_hold_up_the_fifty_first(
    client: Client, cluster: ControlPlane, namespace: str
) -> None:
    await install_crd(client)
    healthy = asyncio.Event()

    async def waits(obj: Thing, scope: Scope) -> Outcome:
        await scope.wait(healthy.wait(), note="health")
        return await ready(obj, scope)

    settings = EngineSettings(concurrent=2, namespaces=(namespace,))
    async with stage(client, namespace, cluster.config, settings) as engine:
        for number in range(50):
            engine.things.by_name[f"w{number}"] = waits
            await engine.create(f"w{number}")
        await eventually(lambda: [s.phase for s in engine.engine.states()].count("waiting") == 50)
        await engine.create("last")
        await engine.has("last", "Ready", "True")
        healthy.set()
        await engine.has("w49", "Ready", "True")


@pytest.mark.spec("REL-36")
async def test_a_new_spec_ends_the_wait_for_the_old_one(engine: Stage) -> None:
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if obj.spec.text == "broken":
            await scope.wait(asyncio.Event().wait(), note="health")
        return await ready(obj, scope)

    engine.things.by_name["a"] = reconcile
    await engine.create("a", text="broken")
    await eventually(lambda: (s := engine.engine.state(engine.reference("a"))) and s.phase == "waiting")
    await engine.patch("a", spec={"text": "fixed"})
    live = await engine.has("a", "Ready", "True")
    assert live.content()["status"]["observedGeneration"] == 2


@pytest.mark.spec("REL-19")
async def test_an_unknown_exception_hurts_one_object_only(engine: Stage) -> None:
    async def bug(obj: Thing, scope: Scope) -> Outcome:
        raise ZeroDivisionError

    engine.things.by_name["a"] = bug
    await engine.create("a")
    await engine.create("b")
    await engine.has("b", "Ready", "True")
    await engine.has("a", "Ready", "False", "InternalError")
    await engine.runs("a", 2)
    assert engine.engine.unattended() == ()


@pytest.mark.spec("SEC-39", "SEC-40")
async def test_a_stored_object_that_does_not_decode_is_quarantined_alone(engine: Stage) -> None:
    await engine.create("bad", text={"not": "a string"})
    await engine.create("good")
    await engine.has("good", "Ready", "True")
    live = await engine.has("bad", "Stalled", "True", "ValidationFailed")
    assert "$.spec.text" in (condition_of(live, "Ready") or {})["message"]
    await engine.patch("bad", spec={"text": "a string"})
    await engine.has("bad", "Ready", "True")


@pytest.mark.spec("REL-24")
async def test_a_dependency_cycle_is_named_and_heals_when_it_is_broken(engine: Stage) -> None:
    await engine.create("a", dependsOn=["b"])
    await engine.create("b", dependsOn=["a"])
    for name in ("a", "b"):
        live = await engine.has(name, "Stalled", "True", "DependencyCycle")
        message = (condition_of(live, "Ready") or {})["message"]
        assert message == "dependency cycle: " + " -> ".join(str(engine.reference(n)) for n in ("a", "b", "a"))
    await engine.patch("b", spec={"dependsOn": []})
    for name in ("a", "b"):
        await engine.has(name, "Ready", "True")


async def test_deletion_finalizes_and_forgets(engine: Stage) -> None:
    await engine.create("a")
    await engine.has("a", "Ready", "True")
    await engine.admin.delete(THINGS, engine.namespace, "a")
    await eventually(lambda: engine.engine.known() == ())
    assert engine.things.finalized == ["a"]
    with pytest.raises(NotFound):
        await engine.get("a")


@pytest.mark.spec("REL-14")
async def test_a_finalizer_written_against_a_newer_object_keeps_those_of_others(engine: Stage) -> None:
    go_on = asyncio.Event()

    async def slow(obj: Thing, scope: Scope) -> None:
        await go_on.wait()

    engine.things.finalize = slow  # type: ignore[method-assign]
    await engine.create("a")
    await engine.has("a", "Ready", "True")
    await engine.admin.delete(THINGS, engine.namespace, "a")
    await eventually(lambda: (s := engine.engine.state(engine.reference("a"))) and s.phase == "running")
    await engine.patch("a", metadata={"annotations": {"somebody": "else"}})
    go_on.set()
    await eventually(lambda: engine.engine.known() == ())


async def test_an_inventory_is_fenced_by_its_resource_version(engine: Stage) -> None:
    mine, theirs = InventoryEntry("ns_mine__ConfigMap", "v1"), {"id": "ns_theirs__ConfigMap", "v": "v1"}
    raced = []

    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if not raced:
            raced.append(1)
            body = msgspec.json.encode({"status": {"inventory": {"entries": [theirs]}}})
            await engine.admin.patch(THINGS, engine.namespace, "a", body, subresource="status")
        await scope.record_inventory([mine])
        return await ready(obj, scope)

    engine.things.by_name["a"] = reconcile
    await engine.create("a")
    await engine.has("a", "Ready", "True")
    results = [trace.result for trace in reversed(engine.engine.traces(engine.reference("a")))]
    assert results[0] == "superseded"
    assert (await engine.get("a")).content()["status"]["inventory"]["entries"] == [{"id": mine.id, "v": "v1"}]


async def test_a_missing_kind_wakes_its_reader_when_its_crd_is_established(engine: Stage) -> None:
    group = f"g{engine.namespace}.example.com"
    gadget = Reference(group, "Gadget", engine.namespace, "g")

    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        try:
            await scope.read(gadget, TEXT)
        except KubeError as error:
            cured = step_error(error)
            raise Retry(cured.reason, cured.message, cures=cured.cures, after=3600.0) from error
        return await ready(obj, scope)

    engine.things.by_name["a"] = reconcile
    await engine.create("a")
    live = await engine.has("a", "Ready", "False")
    assert "no matches for kind" in (condition_of(live, "Ready") or {})["message"]
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
           "metadata": {"name": f"gadgets.{group}"},
           "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Gadget", "plural": "gadgets"},
                    "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}]}}
    await engine.admin.create(CRDS, "", msgspec.json.encode(crd))
    try:
        await engine.has("a", "Ready", "True")
        await engine.caused("a", "Gadget changed")
    finally:
        await engine.admin.delete(CRDS, "", f"gadgets.{group}")


@pytest.mark.spec("SRC-COM-03")
async def test_a_suspended_object_only_records_its_request(engine: Stage) -> None:
    await engine.create("a", suspend=True)
    await engine.patch("a", metadata={"annotations": {REQUESTED: "later"}})
    async with asyncio.timeout(30):
        while (await engine.get("a")).content().get("status", {}).get("lastHandledReconcileAt") != "later":
            await asyncio.sleep(0.02)
    assert engine.things.runs == []


@pytest.mark.spec("REL-14", "SRC-COM-14")
async def test_status_writes_keep_what_others_have_written_meanwhile(engine: Stage) -> None:
    fail = [True]

    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        foreign = {"type": "example.com/Audited", "status": "True", "reason": "Seen", "message": "",
                   "lastTransitionTime": "2026-01-01T00:00:00Z"}
        now = (await engine.get("a")).content().get("status", {}).get("conditions", [])
        others = [c for c in now if c["type"] != foreign["type"]]
        body = msgspec.json.encode({"status": {"conditions": [*others, foreign], "foreign": "field"}})
        await engine.admin.patch(THINGS, engine.namespace, "a", body, subresource="status")
        if fail:
            fail.clear()
            raise Stalled("Broken", "as asked", condition="Healthy")
        return msgspec.structs.replace(await ready(obj, scope), conditions=(Condition("Healthy", "True", "R", ""),))

    engine.things.by_name["a"] = reconcile
    await engine.create("a", text="one")
    live = await engine.has("a", "Stalled", "True")
    assert condition_of(live, "example.com/Audited")
    await engine.patch("a", spec={"text": "two"})
    live = await engine.has("a", "Ready", "True")
    types = [c["type"] for c in live.content()["status"]["conditions"]]
    assert types == ["Ready", "Healthy", "example.com/Audited"]
    assert live.content()["status"]["foreign"] == "field"
