"""The engine as a whole, on objects in memory and a clock that the test moves."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from headrace.engine import stall
from headrace.engine.runner import GRID
from headrace.engine.settings import EngineSettings
from headrace.kube.errors import Forbidden, NoMatch, Unreachable
from headrace.model.cures import access_reference, cluster_reference, kind_reference
from headrace.model.errors import Retry, Stalled, Superseded, Waiting
from headrace.model.objects import LiveObject
from headrace.model.outcome import Outcome
from headrace.model.plan import InventoryEntry
from headrace.model.read import Part, Read
from headrace.model.reference import REMOTE, Reference
from headrace.model.scope import Scope
from headrace.model.trace import HUMAN, LAST, REVISION
from tests.unit.engine.virtual_clock import settle
from tests.unit.engine.world import (
    READY,
    TEXT,
    Thing,
    World,
    config_map,
    is_ready,
    key,
    succeed,
    thing,
)

A, B, C = thing("a"), thing("b"), thing("c")
REQUESTED = "reconcile.fluxcd.io/requestedAt"


@pytest.fixture(autouse=True)
def loop_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that looks every 100 ms makes a virtual hour long."""
    monkeypatch.setattr(stall, "PERIOD", 1e9)


@pytest.fixture
def world() -> World:
    return World()


def depends_on(*names: str) -> object:
    """A reconcile that needs other things to be Ready first, as dependsOn does."""
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        for name in names:
            if not is_ready(await scope.read(thing(name), READY)):
                raise Waiting("DependencyNotReady", f"{name} is not ready", on=[thing(name)])
        return await succeed(obj, scope)
    return reconcile


async def fails(obj: Thing, scope: Scope) -> Outcome:
    raise Retry("Failed", "broken")


# -- subscriptions -----------------------------------------------------------------------------------------------


async def test_a_dependency_that_becomes_ready_wakes_its_dependent_by_event(world: World) -> None:
    world.things.by_name["b"] = depends_on("a")  # type: ignore[assignment]
    async with world.running():
        world.things.by_name["a"] = fails
        await world.put(A, spec={})
        await world.put(B, spec={})
        assert world.things.runs == ["a", "b"]
        world.things.by_name["a"] = succeed
        await world.put(A, spec={"text": "fixed"})
        assert world.things.runs == ["a", "b", "a", "b"]
        assert world.causes(B) == [f"{A} changed (ready)"]
        assert world.objects.condition(B)["status"] == "True"  # type: ignore[index]


async def test_a_chain_of_dependencies_runs_through_without_a_timer(world: World) -> None:
    for number in range(1, 21):
        world.things.by_name[f"k{number}"] = depends_on(f"k{number - 1}")  # type: ignore[assignment]
    async with world.running():
        for number in range(20, -1, -1):
            await world.put(thing(f"k{number}"), spec={})
        await settle()
        assert world.objects.condition(thing("k20"))["status"] == "True"  # type: ignore[index]
        assert world.statuses.of(thing("k7")) == ["succeeded"]


async def test_a_change_in_a_part_of_a_config_map_that_was_not_read_queues_nothing(world: World) -> None:
    values = config_map("values")
    world.objects.put(values, data={"read": "1", "other": "1"})

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.read(values, key("read"))
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.put(values, data={"read": "1", "other": "2"})
        assert world.things.runs == ["a"]
        await world.put(values, data={"read": "2", "other": "2"})
        assert world.things.runs == ["a", "a"]
        assert world.causes(A) == ["ConfigMap/default/values changed (data[read])"]


async def test_a_change_is_looked_at_with_one_request_for_all_its_readers(world: World) -> None:
    values = config_map("values")
    world.objects.put(values, data={"x": "1"})

    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.read(values, key("x"))
        return await succeed(obj, scope)

    world.things.default = reconcile
    async with world.running():
        for number in range(20):
            world.objects.put(thing(f"t{number}"), spec={})
        await settle()
        world.objects.fetched.clear()
        await world.put(values, data={"x": "1", "y": "1"})
        assert world.objects.fetched == [values]
        assert len(world.things.runs) == 20


async def test_an_object_that_was_absent_wakes_its_readers_when_it_comes_and_when_it_goes(world: World) -> None:
    values = config_map("values")

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        found = await scope.read(values, key("x"))
        scope.note("found" if found else "absent")
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.put(values, data={})
        assert world.engine.traces(A)[0].notes == ("found",)
        world.objects.remove(values)
        await settle()
        assert world.engine.traces(A)[0].notes == ("absent",)


async def test_a_read_overtaken_by_an_event_is_made_again(world: World) -> None:
    values = config_map("values")
    world.objects.put(values, data={"x": "1"})
    seen: list[object] = []

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        live = await scope.read(values, key("x"))
        seen.append(live.content()["data"]["x"] if live else None)
        return await succeed(obj, scope)

    async def overtake(reference: Reference) -> None:
        world.objects.before_fetch = None
        world.objects.put(values, data={"x": "2"})

    world.objects.before_fetch = overtake
    async with world.running():
        await world.put(A, spec={})
        assert seen == ["2"]


async def test_what_moved_between_a_read_and_the_end_of_its_run_wakes_again(world: World) -> None:
    """Own writes show as events before they are recorded; foreign ones after it must not be lost."""
    delivered = config_map("delivered")
    world.objects.put(delivered, metadata={"labels": {"mark": "1"}})

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await world.objects.ensure(delivered)
        world.objects.put(delivered, metadata={"labels": {"mark": f"own-{len(world.things.runs)}"}})
        live = world.objects.current(delivered)
        if len(world.things.runs) == 1:
            world.objects.put(delivered, metadata={"labels": {"mark": "foreign"}})
        await asyncio.sleep(0)
        scope.record(Read(delivered, "signature", signature(live), live.metadata.resource_version))
        return await succeed(obj, scope)

    def signature(live: object) -> str:
        from tests.unit.engine.world import SIGNATURE

        return SIGNATURE.digest(live)  # type: ignore[arg-type]

    async with world.running():
        await world.put(A, spec={})
        assert world.things.runs == ["a", "a"]
        assert world.causes(A) == ["ConfigMap/default/delivered drifted"]


async def test_a_remote_that_moves_wakes_its_readers(world: World) -> None:
    remote = Reference("git", "Remote", "", "https://example.com/r", REMOTE)

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        scope.record(Read(remote, "main", "c1" if len(world.things.runs) == 1 else "c2"))
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        world.engine.changed(remote, "main", "c1")
        await settle()
        assert world.things.runs == ["a"]
        world.engine.changed(remote, "main", "c2")
        await settle()
        assert world.things.runs == ["a", "a"]


async def test_a_kind_that_must_not_be_watched_is_read_all_the_same(world: World) -> None:
    values = config_map("values")
    world.objects.put(values, data={"x": "1"})
    world.objects.refuse[values.group_kind] = Forbidden(403, "Forbidden", "no watch for you")

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        assert await scope.read(values, key("x")) is not None
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        trace = world.engine.traces(A)[0]
        assert trace.result == "succeeded"
        assert "read but not watched" in trace.notes[0]


# -- own objects -------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-COM-05")
async def test_own_status_writes_and_other_metadata_wake_nothing(world: World) -> None:
    async with world.running():
        await world.put(A, spec={})
        await world.put(A, metadata={"labels": {"team": "x"}, "annotations": {"note": "y"}})
        assert world.things.runs == ["a"]


async def test_a_request_runs_at_once_in_the_first_lane(world: World) -> None:
    async with world.running():
        await world.put(A, spec={})
        await world.put(A, metadata={"annotations": {REQUESTED: "now"}})
        assert world.causes(A) == ["requested"]


async def test_a_changed_spec_runs_and_is_decoded_anew(world: World) -> None:
    seen = []

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        seen.append(obj.spec.text)
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={"text": "one"})
        await world.put(A, spec={"text": "two"})
        assert seen == ["one", "two"]
        assert world.causes(A) == ["spec"]


@pytest.mark.spec("KS-REC-02", "SRC-COM-03")
async def test_a_suspended_object_is_not_reconciled_and_its_request_is_still_recorded(world: World) -> None:
    async with world.running():
        await world.put(A, spec={"suspend": True})
        await world.put(A, metadata={"annotations": {REQUESTED: "now"}})
        assert world.things.runs == []
        assert world.statuses.of(A) == ["suspended", "suspended"]
        assert world.engine.state(A).phase == "suspended"  # type: ignore[union-attr]
        assert world.engine.unattended() == ()
        await world.put(A, spec={"suspend": False})
        assert world.things.runs == ["a"]


async def test_an_object_that_is_gone_leaves_nothing_behind(world: World) -> None:
    async with world.running():
        await world.put(A, spec={})
        world.objects.remove(A)
        await settle()
        assert world.engine.known() == ()
        assert world.engine.traces(A) == ()
        assert world.metrics.gone == [A]


async def test_an_object_deleted_while_it_runs_is_not_remembered(world: World) -> None:
    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        world.objects.remove(A)
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        assert world.engine.known() == ()


@pytest.mark.spec("SEC-39", "SEC-40")
async def test_an_object_that_does_not_decode_is_quarantined_alone(world: World) -> None:
    async with world.running():
        await world.put(A, spec={"text": {"not": "a string"}})
        await world.put(B, spec={})
        assert world.objects.condition(A)["reason"] == "ValidationFailed"  # type: ignore[index]
        assert "$.spec.text" in world.objects.condition(A)["message"]  # type: ignore[index]
        assert world.engine.state(A).phase == "stalled"  # type: ignore[union-attr]
        assert world.objects.condition(B)["status"] == "True"  # type: ignore[index]
        await world.put(A, spec={"text": "good"})
        assert world.objects.condition(A)["status"] == "True"  # type: ignore[index]


async def test_watches_by_owner_label_neither_wake_nor_forget_own_objects(world: World) -> None:
    """A Kustomization that a Kustomization delivers is seen by two watches, one of them of labelled metadata."""
    async with world.running():
        await world.put(A, spec={})
        labelled = world.objects.metadata_of(A)
        world.objects.tell(A, None, labelled)
        world.objects.tell(A, labelled, None)
        await settle()
        assert world.things.runs == ["a"]
        assert world.engine.known() == (A,)
        assert world.metrics.gone == []


async def test_a_label_that_is_gone_is_no_deletion_for_who_reads_the_object(world: World) -> None:
    world.things.by_name["b"] = depends_on("a")  # type: ignore[assignment]
    async with world.running():
        await world.put(A, spec={})
        await world.put(B, spec={})
        world.objects.tell(A, world.objects.metadata_of(A), None)
        await settle()
        assert world.things.runs == ["a", "b"]


async def test_where_whole_objects_are_watched_metadata_is_not_looked_into(world: World) -> None:
    world.things.by_name["b"] = depends_on("a")  # type: ignore[assignment]
    async with world.running():
        await world.put(A, spec={})
        await world.put(B, spec={})
        world.objects.fetched.clear()
        world.objects.touch(A)
        world.objects.tell(A, None, world.objects.metadata_of(A))
        await settle()
        assert world.objects.fetched == []
        assert world.things.runs == ["a", "b"]


async def test_no_object_is_forgotten_while_the_api_server_is_away(world: World) -> None:
    async with world.running():
        await world.put(A, spec={})
        world.objects.away = True
        await world.clock.advance(3600.0)
        assert world.things.runs == ["a"]
        assert world.engine.known() == (A,)
        assert world.engine.unattended() == ()
        world.objects.away = False
        await world.clock.advance(2.0)
        assert world.things.runs == ["a", "a"]
        assert world.causes(A) == ["interval"]


# -- finalizers --------------------------------------------------------------------------------------------------


@pytest.mark.spec("KS-REC-01")
async def test_the_finalizer_is_there_before_the_first_reconcile_of_the_same_run(world: World) -> None:
    world.things.finalizer = "finalizers.fluxcd.io"
    found = []

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        found.append(world.objects.current(A).metadata.finalizers)
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={}, metadata={"finalizers": ["other/one"]})
        assert found == [["other/one", "finalizers.fluxcd.io"]]
        assert world.things.runs == ["a"]


async def test_deletion_finalizes_and_leaves_the_finalizers_of_others(world: World) -> None:
    world.things.finalizer = "finalizers.fluxcd.io"
    async with world.running():
        await world.put(A, spec={}, metadata={"finalizers": ["other/one"]})
        world.objects.delete(A)
        await settle()
        assert world.things.finalized == ["a"]
        assert world.objects.current(A).metadata.finalizers == ["other/one"]
        world.objects.remove(A)
        await settle()
        assert world.engine.known() == ()


async def test_a_finalize_that_fails_keeps_the_finalizer_and_is_repeated(world: World) -> None:
    world.things.finalizer = "finalizers.fluxcd.io"
    tries = []

    async def finalize(obj: Thing, scope: Scope) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise Retry("PruneFailed", "denied")

    world.things.finalize = finalize  # type: ignore[method-assign]
    async with world.running():
        await world.put(A, spec={})
        world.objects.delete(A)
        await settle()
        assert world.objects.current(A).metadata.finalizers == ["finalizers.fluxcd.io"]
        await world.clock.advance(2.0)
        assert A not in world.objects.objects


async def test_an_event_of_the_last_run_is_told_though_the_object_is_gone(world: World) -> None:
    world.things.finalizer = "finalizers.fluxcd.io"

    async def finalize(obj: Thing, scope: Scope) -> None:
        scope.event("PruneFailed", "objects are left behind", warning=True)

    world.things.finalize = finalize  # type: ignore[method-assign]
    async with world.running():
        await world.put(A, spec={})
        world.objects.delete(A)
        await settle()
        assert A not in world.objects.objects
        assert world.statuses.told[-1] == ("warning", A, "PruneFailed", "objects are left behind")


@pytest.mark.spec("REL-14")
async def test_a_finalizer_written_while_others_write_keeps_theirs(world: World) -> None:
    world.things.finalizer = "finalizers.fluxcd.io"
    write = world.objects.finalizers

    async def raced(live: object, finalizers: object) -> object:
        world.objects.finalizers = write  # type: ignore[method-assign]
        world.objects.put(A, metadata={"finalizers": ["late/one"]})
        return await write(live, finalizers)  # type: ignore[arg-type]

    world.objects.finalizers = raced  # type: ignore[method-assign, assignment]
    async with world.running():
        await world.put(A, spec={})
        assert world.objects.current(A).metadata.finalizers == ["late/one", "finalizers.fluxcd.io"]
        assert world.things.runs == ["a"]


# -- errors and timers -------------------------------------------------------------------------------------------


@pytest.mark.spec("REL-19")
async def test_an_unknown_exception_hurts_one_object_only(world: World) -> None:
    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        raise ZeroDivisionError("a bug")

    async with world.running():
        await world.put(A, spec={})
        await world.put(B, spec={})
        assert world.objects.condition(A)["reason"] == "InternalError"  # type: ignore[index]
        assert world.objects.condition(B)["status"] == "True"  # type: ignore[index]
        await world.clock.advance(1.0)
        assert world.things.runs == ["a", "b", "a"]
        assert world.engine.state(A).failures == 2  # type: ignore[union-attr]


async def test_a_bug_is_tried_again_soon_whatever_the_retry_interval(world: World) -> None:
    world.things.retry = 3600.0

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        raise ZeroDivisionError("a bug")

    async with world.running():
        await world.put(A, spec={})
        assert 0.75 <= world.engine.state(A).next_in <= 0.825  # type: ignore[union-attr, operator]


@pytest.mark.spec("SRC-COM-06", "KS-REC-06")
async def test_success_is_repeated_at_the_interval_within_five_percent(world: World) -> None:
    async with world.running():
        for number in range(20):
            await world.put(thing(f"t{number}"), spec={})
        delays = {world.engine.state(thing(f"t{number}")).next_in for number in range(20)}  # type: ignore[union-attr]
        assert all(570.0 <= delay <= 630.0 + GRID for delay in delays if delay is not None)
        assert len(delays) > 10
        await world.clock.advance(700.0)
        assert len(world.things.runs) == 40
        assert world.causes(thing("t0")) == ["interval"]


@pytest.mark.spec("SRC-COM-07")
async def test_failures_back_off_from_750_ms_to_15_minutes(world: World) -> None:
    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        raise Retry("FetchFailed", "no route")

    async with world.running():
        await world.put(A, spec={})
        delays = []
        for _ in range(14):
            delay = world.engine.state(A).next_in  # type: ignore[union-attr]
            assert delay is not None
            delays.append(delay)
            await world.clock.advance(delay)
        assert 0.75 <= delays[0] <= 0.825
        assert 1.3 <= delays[1] <= 1.7
        assert max(delays) <= 900.0
        assert delays[-1] >= 800.0


async def test_a_stated_retry_interval_comes_before_backoff_and_the_errors_own_time_before_both(world: World) -> None:
    world.things.retry = 120.0
    errors = [Retry("ArtifactFailed", "absent"), Retry("ArtifactFailed", "absent", after=7.0)]

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        raise errors[len(world.things.runs) - 1]

    async with world.running():
        await world.put(A, spec={})
        assert world.engine.state(A).next_in == 120.0  # type: ignore[union-attr]
        await world.clock.advance(120.0)
        assert world.engine.state(A).next_in == 7.0  # type: ignore[union-attr]


async def test_no_interval_of_an_object_is_followed_below_the_operators() -> None:
    world = World(EngineSettings(min_interval=30.0, interval_jitter=0.0))
    world.things.retry = 1.0

    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if obj.metadata.name == "a":
            raise Retry("ArtifactFailed", "absent")
        return Outcome("Succeeded", "m", after=1.0)

    world.things.default = reconcile
    async with world.running():
        for reference in (A, B):
            await world.put(reference, spec={})
            assert 30.0 <= world.engine.state(reference).next_in <= 30.0 + GRID  # type: ignore[union-attr, operator]


@pytest.mark.spec("SRC-COM-08")
async def test_stalled_has_no_timer_and_wakes_with_the_spec_or_what_it_read(world: World) -> None:
    values = config_map("values")

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.read(values, key("x"))
        raise Stalled("InvalidURL", "no such scheme")

    async with world.running():
        await world.put(A, spec={})
        assert world.engine.state(A).phase == "stalled"  # type: ignore[union-attr]
        await world.clock.advance(86400.0)
        assert world.things.runs == ["a"]
        await world.put(A, spec={"text": "new"})
        await world.put(values, data={"x": "1"})
        assert world.things.runs == ["a", "a", "a"]


async def test_waiting_falls_back_to_its_timer(world: World) -> None:
    world.things.by_name["b"] = depends_on("a")  # type: ignore[assignment]
    async with world.running():
        await world.put(B, spec={})
        assert world.engine.state(B).next_in == 30.0  # type: ignore[union-attr]
        await world.clock.advance(31.0)
        assert world.causes(B) == ["retry"]


@pytest.mark.spec("KS-DEP-02")
async def test_the_waiting_objects_own_time_comes_before_the_setting(world: World) -> None:
    @world.things.does("b")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        raise Waiting("DependencyNotReady", "x", on=[A], after=7.0)

    async with world.running():
        await world.put(B, spec={})
        assert world.engine.state(B).next_in == 7.0  # type: ignore[union-attr]


async def test_every_object_neither_stalled_nor_suspended_always_has_a_timer(world: World) -> None:
    outcomes = [
        succeed, depends_on("nobody"), Retry("Failed", "x"), Stalled("Invalid", "x"), ValueError("bug"),
        Superseded("made up"), Waiting("W", "x", on=[config_map("unread")]), Forbidden(403, "Forbidden", "no"),
    ]

    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        chosen = outcomes[int(obj.metadata.name) % len(outcomes)]
        if isinstance(chosen, Exception):
            raise chosen
        return await chosen(obj, scope)  # type: ignore[no-any-return, operator]

    world.things.default = reconcile
    async with world.running():
        for number in range(len(outcomes)):
            await world.put(thing(str(number)), spec={})
            assert world.engine.unattended() == ()
        for _ in range(20):
            await world.clock.advance(17.0)
            assert world.engine.unattended() == ()
        timers = [world.engine.state(thing(str(number))) for number in range(len(outcomes))]
        assert [s.next_in is not None for s in timers if s and s.phase != "stalled"] == [True] * (len(outcomes) - 1)
        assert set(world.metrics.without_timer) == {0}


async def test_the_sweep_puts_right_and_counts_an_object_without_a_timer(world: World) -> None:
    async with world.running():
        await world.put(A, spec={})
        world.engine._queue._timers.clear()
        await world.clock.advance(31.0)
        assert world.metrics.without_timer == [1]
        assert world.things.runs == ["a", "a"]


async def test_a_status_that_cannot_be_written_repeats_the_run(world: World) -> None:
    world.statuses.fail = Unreachable("connection refused")
    async with world.running():
        await world.put(A, spec={})
        world.statuses.fail = None
        await world.clock.advance(1.0)
        assert world.things.runs == ["a", "a"]
        assert world.objects.condition(A)["status"] == "True"  # type: ignore[index]


async def test_a_run_longer_than_its_timeout_is_cut_off(world: World) -> None:
    world.things.limit = 0.01

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    async with world.running():
        world.objects.put(A, spec={})
        async with asyncio.timeout(10):
            while not world.statuses.of(A):
                await asyncio.sleep(0.01)
        assert world.objects.condition(A)["reason"] == "Timeout"  # type: ignore[index]


async def test_what_is_waited_for_is_subscribed_to_even_when_only_an_earlier_run_has_read_it(world: World) -> None:
    @world.things.does("b")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if len(world.things.runs) == 1:
            await scope.read(A, READY)
        if A not in world.objects.objects:
            raise Waiting("NotThere", "a is missing", on=[A])
        return await succeed(obj, scope)

    world.objects.ensured.add(A.group_kind)
    async with world.running():
        await world.put(B, spec={})
        await world.put(B, spec={"text": "new"})
        world.things.by_name["a"] = fails
        await world.put(A, spec={})
        assert world.objects.condition(B)["status"] == "True"  # type: ignore[index]


# -- cures -------------------------------------------------------------------------------------------------------


async def test_a_missing_kind_wakes_its_reader_when_its_crd_is_established(world: World) -> None:
    missing = kind_reference("example.com", "Widget")
    world.objects.unserved.add(missing.group_kind)
    crd = Reference("apiextensions.k8s.io", "CustomResourceDefinition", "", "widgets.example.com")
    world.things.retry = 3600.0

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if missing.group_kind in world.objects.unserved:
            raise NoMatch(missing.group, missing.kind)
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.clock.advance(10.0)
        await world.put(crd, spec={})
        await world.clock.advance(0.3)
        assert world.things.runs == ["a"]
        world.objects.unserved.clear()
        await world.clock.advance(1.0)
        assert world.things.runs == ["a", "a"]
        assert world.causes(A) == ["Widget changed"]
        assert world.objects.condition(A)["status"] == "True"  # type: ignore[index]


async def test_a_cluster_that_answers_again_wakes_who_could_not_reach_it(world: World) -> None:
    world.objects.dead.add("")
    world.things.retry = 3600.0

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if world.objects.dead:
            raise Unreachable("connection refused")
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.clock.advance(20.0)
        assert world.things.runs == ["a"]
        world.objects.dead.clear()
        await world.clock.advance(31.0)
        assert world.things.runs == ["a", "a"]
        assert world.causes(A) == [f"{cluster_reference('')} changed"]


async def test_rights_are_watched_while_somebody_is_blocked_and_no_longer(world: World) -> None:
    binding = Reference("rbac.authorization.k8s.io", "RoleBinding", "default", "deployer")
    elsewhere = Reference("rbac.authorization.k8s.io", "RoleBinding", "elsewhere", "deployer")
    blocked, granted = access_reference("default"), False
    world.things.retry = 3600.0

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if not granted:
            raise Retry("ReconciliationFailed", "forbidden", cures=[blocked])
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.clock.advance(60.0)
        tries = len(world.things.runs)
        assert blocked in world.objects.held
        await world.put(elsewhere, subjects=[])
        await world.clock.advance(60.0)
        assert len(world.things.runs) == tries
        granted = True
        await world.put(binding, subjects=[])
        await world.clock.advance(60.0)
        assert len(world.things.runs) == tries + 1
        assert world.causes(A) == [f"{blocked} changed"]
        assert not world.objects.held


async def test_a_cluster_that_answers_and_still_fails_its_users_is_no_loop(world: World) -> None:
    world.things.retry = 3600.0

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        raise Unreachable("the connection broke off")

    async with world.running():
        await world.put(A, spec={})
        await world.clock.advance(600.0)
        assert 5 <= len(world.things.runs) <= 30


async def test_any_change_of_a_named_cure_ends_the_backoff(world: World) -> None:
    binding = Reference("rbac.authorization.k8s.io", "RoleBinding", "default", "deployer")
    world.objects.put(binding)
    world.things.retry = 3600.0

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        raise Retry("Forbidden", "no", cures=[binding])

    async with world.running():
        await world.put(A, spec={})
        await world.put(binding, subjects=[])
        assert world.things.runs == ["a", "a"]
        assert world.causes(A) == ["RoleBinding/default/deployer changed"]


@pytest.mark.spec("REL-24")
async def test_a_dependency_cycle_stalls_its_members_naming_it_and_heals_when_broken(world: World) -> None:
    world.things.by_name |= {"a": depends_on("b"), "b": depends_on("c"), "c": depends_on("a")}  # type: ignore[dict-item]
    async with world.running():
        for reference in (A, B, C):
            await world.put(reference, spec={})
        way = f"dependency cycle: {A} -> {B} -> {C} -> {A}"
        for reference in (A, B, C):
            assert world.objects.condition(reference)["message"] == way  # type: ignore[index]
            assert world.engine.state(reference).phase == "stalled"  # type: ignore[union-attr]
        runs = len(world.things.runs)
        await world.clock.advance(600.0)
        assert len(world.things.runs) == runs
        world.things.by_name["b"] = succeed
        await world.put(B, spec={"text": "without dependsOn"})
        assert [world.objects.condition(r)["status"] for r in (A, B, C)] == ["True"] * 3  # type: ignore[index]


@pytest.mark.spec("REL-24")
async def test_a_broken_cycle_is_no_longer_blamed_while_the_dependency_is_still_missing(world: World) -> None:
    world.things.by_name |= {"a": depends_on("b"), "b": depends_on("a")}  # type: ignore[dict-item]
    async with world.running():
        await world.put(A, spec={})
        await world.put(B, spec={})
        assert world.engine.state(A).phase == "stalled"  # type: ignore[union-attr]
        world.things.by_name["b"] = depends_on("absent")  # type: ignore[assignment]
        await world.put(B, spec={"text": "new"})
        await world.clock.advance(2.0)
        assert world.engine.state(A).phase == "idle"  # type: ignore[union-attr]
        assert world.objects.condition(A)["reason"] == "DependencyNotReady"  # type: ignore[index]
        assert world.engine.blockers(A) == [(A, B), (B, thing("absent"))]


# -- waiting and slots -------------------------------------------------------------------------------------------


async def test_fifty_objects_that_wait_for_health_do_not_hold_up_the_fifty_first() -> None:
    world = World(EngineSettings(concurrent=1))
    healthy = asyncio.Event()

    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.wait(healthy.wait(), on=[config_map("workload")], note="health")
        return await succeed(obj, scope)

    world.things.default = reconcile
    world.things.by_name["last"] = succeed
    async with world.running():
        for number in range(50):
            await world.put(thing(f"t{number}"), spec={})
        await world.put(thing("last"), spec={})
        assert world.objects.condition(thing("last"))["status"] == "True"  # type: ignore[index]
        state = world.engine.state(thing("t0"))
        assert state is not None
        assert (state.phase, state.waits[0].on, state.waits[0].note) == ("waiting", (config_map("workload"),), "health")
        healthy.set()
        await settle()
        assert all(s.phase == "idle" for s in world.engine.states())
        assert world.metrics.most_running == 1
        steps = world.engine.traces(thing("t0"))[0].steps
        assert [(step.name, step.waited) for step in steps] == [("health", True)]


async def test_never_more_runs_work_than_there_are_slots() -> None:
    world = World(EngineSettings(concurrent=3))
    working: list[int] = []
    now = 0

    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        nonlocal now
        now += 1
        working.append(now)
        await asyncio.sleep(0)
        now -= 1
        await scope.wait(asyncio.sleep(0), note="a moment")
        now += 1
        working.append(now)
        await asyncio.sleep(0)
        now -= 1
        return await succeed(obj, scope)

    world.things.default = reconcile
    async with world.running():
        for number in range(30):
            world.objects.put(thing(f"t{number}"), spec={})
        await settle()
        assert len(working) == 60
        assert max(working) == 3


@pytest.mark.spec("REL-36")
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        pytest.param({"spec": {"text": "fixed"}}, "spec", id="spec"),
        pytest.param({"metadata": {"annotations": {REQUESTED: "now"}}}, "requested", id="request"),
        pytest.param({"spec": {"suspend": True}}, "spec", id="suspend"),
        pytest.param({"metadata": {"deletionTimestamp": "2027-01-01T00:00:00Z"}}, "deleted", id="deletion"),
    ],
)
async def test_a_newer_wish_ends_a_wait_and_runs_again(world: World, change: dict[str, object], cause: str) -> None:
    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.wait(asyncio.Event().wait(), note="forever")
        raise AssertionError

    async with world.running():
        await world.put(A, spec={"text": "broken"})
        assert world.engine.state(A).phase == "waiting"  # type: ignore[union-attr]
        await world.put(A, **change)
        assert [trace.result for trace in world.engine.traces(A)][-1] == "superseded"
        assert world.statuses.of(A).count("failed") == 0
        state = world.engine.state(A)
        assert state is not None
        assert str(state.causes[0] if state.causes else world.engine.traces(A)[0].causes[0]) == cause


async def test_a_changed_read_ends_a_wait(world: World) -> None:
    source = config_map("source")
    world.objects.put(source, data={"revision": "broken"})

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        live = await scope.read(source, key("revision"))
        if live is not None and live.content()["data"]["revision"] == "broken":
            await scope.wait(asyncio.Event().wait(), note="health")
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.put(source, data={"revision": "fixed"})
        assert world.objects.condition(A)["status"] == "True"  # type: ignore[index]


async def test_a_wait_that_begins_after_a_newer_wish_does_not_begin(world: World) -> None:
    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if obj.spec.text == "one":
            world.objects.put(A, spec={"text": "two"})
            await scope.wait(asyncio.Event().wait(), note="forever")
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={"text": "one"})
        assert [trace.result for trace in world.engine.traces(A)] == ["succeeded", "superseded"]


@pytest.mark.spec("REL-36")
async def test_what_is_observed_is_the_generation_that_was_reconciled(world: World) -> None:
    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if obj.spec.text == "one":
            world.objects.put(A, spec={"text": "two"})
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={"text": "one"})
        assert world.statuses.observed == [(A, 1), (A, 2)]


async def test_one_object_is_never_run_twice_at_once(world: World) -> None:
    running = 0

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1
        return await succeed(obj, scope)

    async with world.running():
        for number in range(10):
            world.objects.put(A, spec={"text": str(number)})
            await asyncio.sleep(0)
        await settle()
        assert {trace.result for trace in world.engine.traces(A)} == {"succeeded"}


async def test_overlapping_waits_give_one_slot_back_and_take_one_again() -> None:
    world = World(EngineSettings(concurrent=1))
    first, second = asyncio.Event(), asyncio.Event()

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        async with asyncio.TaskGroup() as group:
            group.create_task(scope.wait(first.wait(), note="first"))
            group.create_task(scope.wait(second.wait(), note="second"))
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        first.set()
        await settle()
        await world.put(B, spec={})
        assert world.objects.condition(B)["status"] == "True"  # type: ignore[index]
        second.set()
        await settle()
        assert world.objects.condition(A)["status"] == "True"  # type: ignore[index]
        assert world.engine._slots.free == 1


async def test_a_wait_that_passes_while_another_is_in_line_for_a_slot_takes_no_second_one() -> None:
    world = World(EngineSettings(concurrent=1))
    first, second, busy = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        async def after_the_first() -> None:
            await second.wait()
            await scope.wait(asyncio.sleep(0), note="second")

        async with asyncio.TaskGroup() as group:
            group.create_task(scope.wait(first.wait(), note="first"))
            group.create_task(after_the_first())
        return await succeed(obj, scope)

    @world.things.does("b")
    async def work(obj: Thing, scope: Scope) -> Outcome:
        await busy.wait()
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.put(B, spec={})
        for event in (first, second, busy):
            event.set()
            await settle()
        assert world.objects.condition(A)["status"] == "True"  # type: ignore[index]
        assert world.engine._slots.free == 1


async def test_superseded_inside_a_task_group_counts_as_superseded(world: World) -> None:
    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if obj.spec.text == "one":
            async with asyncio.TaskGroup() as group:
                group.create_task(scope.wait(asyncio.Event().wait(), note="x"))
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={"text": "one"})
        await world.put(A, spec={"text": "two"})
        assert [trace.result for trace in world.engine.traces(A)] == ["succeeded", "superseded"]


# -- progress and inventory --------------------------------------------------------------------------------------


async def test_progress_is_written_only_when_a_run_lasts_longer_than_a_second(world: World) -> None:
    go_on = asyncio.Event()

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.progress("Progressing", "fetching")
        await scope.progress("Progressing", "building")
        await scope.wait(go_on.wait(), note="x")
        await scope.progress("Progressing", "never sent")
        return await succeed(obj, scope)

    async with world.running():
        await world.put(B, spec={})
        await world.put(A, spec={})
        await world.clock.advance(0.9)
        assert world.statuses.of(A) == []
        await world.clock.advance(0.2)
        assert world.statuses.told[-1] == ("progress", A, "Progressing", "building")
        go_on.set()
        await settle()
        await world.clock.advance(10.0)
        assert world.statuses.of(A) == ["progress", "succeeded"]
        assert world.statuses.of(B) == ["succeeded"]


async def test_waiting_is_written_only_when_it_lasts_longer_than_a_second(world: World) -> None:
    world.things.by_name["b"] = depends_on("a")  # type: ignore[assignment]
    async with world.running():
        await world.put(B, spec={})
        await world.clock.advance(0.5)
        assert world.statuses.of(B) == []
        await world.clock.advance(1.0)
        assert world.statuses.of(B) == ["failed"]
        assert world.objects.condition(B)["reason"] == "DependencyNotReady"  # type: ignore[index]


async def test_an_inventory_is_written_once_and_not_when_it_adds_nothing(world: World) -> None:
    entries = [InventoryEntry("default_x__ConfigMap", "v1")]

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.record_inventory(entries)
        await scope.record_inventory(entries)
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.put(A, metadata={"annotations": {REQUESTED: "now"}})
        assert world.statuses.of(A) == ["inventory", "succeeded", "succeeded"]


@pytest.mark.spec("REL-14")
async def test_an_inventory_write_survives_a_foreign_change_of_the_metadata(world: World) -> None:
    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        world.objects.put(A, metadata={"annotations": {"note": "x"}})
        await scope.record_inventory([InventoryEntry("default_x__ConfigMap", "v1")])
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        assert world.statuses.of(A) == ["inventory", "succeeded"]


async def test_no_inventory_goes_to_an_object_made_anew_under_the_same_name(world: World) -> None:
    go, entry = asyncio.Event(), InventoryEntry("default_x__ConfigMap", "v1")
    inventories: list[int] = []

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if not inventories:
            inventories.append(0)
            await scope.progress("Progressing", "working")
            await go.wait()
            await scope.record_inventory([entry])
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        world.objects.remove(A)
        await world.put(A, spec={})
        await world.clock.advance(2.0)
        assert "progress" in world.statuses.of(A)
        go.set()
        await settle()
        assert "inventory" not in world.statuses.of(A)
        assert world.objects.condition(A)["status"] == "True"  # type: ignore[index]


async def test_an_inventory_that_somebody_else_has_written_ends_the_run(world: World) -> None:
    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        if len(world.things.runs) == 1:
            other = {"inventory": {"entries": [{"id": "default_y__ConfigMap", "v": "v1"}]}}
            world.objects.put(A, status=other)
        await scope.record_inventory([InventoryEntry("default_x__ConfigMap", "v1")])
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        trace = world.engine.traces(A)[0]
        assert (trace.result, "inventory" in trace.message) == ("superseded", True)
        await world.clock.advance(1.0)
        assert world.engine.traces(A)[0].result == "succeeded"


# -- start, stop, shards -----------------------------------------------------------------------------------------


async def test_what_is_there_at_the_start_runs_by_urgency_and_says_so(world: World) -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": ""}], "observedGeneration": 1}
    failed = {"conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": ""}],
              "observedGeneration": 1}
    world.objects.put(thing("fine"), status=ready)
    world.objects.put(thing("broken"), status=failed)
    world.objects.put(thing("new"))
    world.objects.put(thing("asked"), status=ready, metadata={"annotations": {REQUESTED: "now"}})
    async with world.running():
        assert world.things.runs == ["asked", "new", "broken", "fine"]
        assert world.causes(thing("fine")) == ["started"]


async def test_an_engine_that_starts_reports_progress_later_than_usual(world: World) -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": ""}], "observedGeneration": 1}

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.progress("Progressing", "looking")
        await scope.wait(world.clock.sleep(60.0), note="x")
        return await succeed(obj, scope)

    world.objects.put(A, status=ready)
    async with world.running():
        await world.clock.advance(9.0)
        assert world.statuses.of(A) == []
        await world.clock.advance(2.0)
        assert world.statuses.of(A) == ["progress"]


async def test_a_kind_that_cannot_be_watched_yet_is_served_as_soon_as_it_can(world: World) -> None:
    world.objects.refuse[A.group_kind] = NoMatch(A.group, A.kind)
    world.objects.put(A)
    async with world.running():
        assert world.things.runs == []
        world.objects.refuse.clear()
        await world.clock.advance(2.0)
        assert world.things.runs == ["a"]


async def test_only_the_objects_of_the_shard_and_the_namespaces_are_served() -> None:
    world = World(EngineSettings(selector="sharding.fluxcd.io/key=one", namespaces=("default",)))
    shard = {"labels": {"sharding.fluxcd.io/key": "one"}}
    async with world.running():
        await world.put(A, metadata=dict(shard))
        await world.put(B)
        await world.put(thing("c", "elsewhere"), metadata=dict(shard))
        assert world.things.runs == ["a"]
        await world.put(B, metadata=dict(shard))
        assert world.things.runs == ["a", "b"]
        await world.put(B, metadata={"labels": {}})
        assert world.engine.known() == (A,)


async def test_kinds_that_are_not_asked_for_are_not_served() -> None:
    world = World(EngineSettings(kinds=frozenset({"Other"})))
    async with world.running():
        await world.put(A, spec={})
        assert world.things.runs == []


async def test_stopping_starts_nothing_more_interrupts_waits_and_lets_work_finish(world: World) -> None:
    go_on = asyncio.Event()

    @world.things.does("a")
    async def works(obj: Thing, scope: Scope) -> Outcome:
        await go_on.wait()
        return await succeed(obj, scope)

    @world.things.does("b")
    async def waits(obj: Thing, scope: Scope) -> Outcome:
        await scope.wait(asyncio.Event().wait(), note="forever")
        raise AssertionError

    async with world.running():
        await world.put(A, spec={})
        await world.put(B, spec={})
        world.stop.set()
        await settle()
        await world.put(C, spec={})
        go_on.set()
        await settle()
    assert world.things.runs == ["a", "b"]
    assert world.statuses.of(A) == ["succeeded"]
    assert world.statuses.of(B) == []


async def test_a_run_that_does_not_finish_within_the_grace_is_cut_off() -> None:
    world = World(EngineSettings(drain_grace=0.01))

    @world.things.does("a")
    async def works(obj: Thing, scope: Scope) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    async with world.running():
        await world.put(A, spec={})
    assert world.statuses.of(A) == []


@pytest.mark.spec("SEC-40")
async def test_a_part_that_cannot_be_evaluated_does_not_end_the_engine(world: World) -> None:
    def extract(live: LiveObject) -> object:
        return live.content()["data"]["one"]["two"]

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.read(config_map("c"), Part("fragile", extract))
        return await succeed(obj, scope)

    world.objects.put(config_map("c"), data={"one": {"two": "1"}})
    async with world.running():
        await world.put(A, spec={})
        world.objects.put(config_map("c"), data={"one": "odd"})
        await settle()
        await world.put(B, spec={})
        assert world.objects.condition(B)["status"] == "True"  # type: ignore[index]


async def test_an_event_that_makes_the_engine_stumble_does_not_end_it(world: World) -> None:
    async with world.running():
        await world.put(A, spec={}, status={"conditions": "not a list", "observedGeneration": "x"})
        await world.put(B, spec={})
        assert world.objects.condition(B)["status"] == "True"  # type: ignore[index]


async def test_the_wake_up_during_a_run_of_the_first_lane_keeps_its_lane(world: World) -> None:
    go_on = asyncio.Event()

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await go_on.wait()
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.put(A, metadata={"annotations": {REQUESTED: "now"}})
        assert world.engine._queue.pending(A).lane == HUMAN  # type: ignore[union-attr]
        go_on.set()
        await settle()
        assert world.things.runs == ["a", "a"]


@pytest.mark.parametrize("in_line", [False, True])
async def test_a_run_in_progress_leaves_the_last_lane_when_somebody_hastens_it(in_line: bool) -> None:
    """Before it asks for a slot again, and when it is in line for one already."""
    world = World(EngineSettings(concurrent=1))
    answer, hurry = asyncio.Event(), asyncio.Event()
    finished: list[str] = []

    async def bookkeeping(obj: Thing, scope: Scope) -> Outcome:
        await scope.defer("bookkeeping")
        await scope.wait(waits_for(answer), note="answer")
        finished.append(obj.metadata.name)
        return await succeed(obj, scope)

    @world.things.does("x")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await hurry.wait()
        scope.hasten(B)
        return await succeed(obj, scope)

    async def waits_for(event: asyncio.Event) -> None:
        await event.wait()

    world.things.default = bookkeeping
    names = ("a", "b", "c")
    async with world.running():
        for name in names:
            await world.put(thing(name), spec={})
        await world.put(thing("x"), spec={})
        for event in (answer, hurry) if in_line else (hurry, answer):
            event.set()
            await settle()
        assert finished == ["b", "a", "c"]
        lanes = [world.engine.traces(thing(name))[0].lane for name in names]
        assert lanes == [LAST, REVISION, LAST]


async def test_what_is_being_deleted_closes_no_cycle(world: World) -> None:
    """It waits for its dependent to go, which waits for it to be ready until it learns that it is to go as well."""
    world.things.finalizer = "test/one"
    world.things.by_name["b"] = depends_on("a")  # type: ignore[assignment]

    @world.things.ends("a")
    async def finalize(obj: Thing, scope: Scope) -> None:
        if await scope.read(B, READY) is not None:
            raise Waiting("DependentsTerminating", "b is there", on=[B])

    async with world.running():
        await world.put(A, spec={})
        await world.put(B, spec={})
        world.things.by_name["a"] = fails
        await world.put(A, spec={"text": "broken"})
        world.objects.delete(A)
        await settle()
        assert [trace.result for trace in (world.engine.traces(thing(name))[0] for name in "ab")] == ["waiting"] * 2
        assert world.engine.blockers(A) == [(A, B), (B, A)]
        world.objects.delete(B)
        await settle()
        assert (world.engine.state(A), world.engine.state(B)) == (None, None)


async def test_who_waits_for_what_is_being_run_says_so_later(world: World) -> None:
    """After a second when nobody is at work, after five when somebody is, and never when it comes before."""
    going_on = asyncio.Event()

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await going_on.wait()
        return await succeed(obj, scope)

    world.things.by_name["b"] = depends_on("a")  # type: ignore[assignment]
    world.things.by_name["c"] = depends_on("nobody")  # type: ignore[assignment]
    async with world.running():
        for name in ("a", "b", "c"):
            await world.put(thing(name), spec={})
        await world.clock.advance(1.0)
        assert (world.statuses.of(B), world.statuses.of(thing("c"))) == ([], ["failed"])
        await world.clock.advance(3.0)
        assert world.statuses.of(B) == []
        await world.clock.advance(1.0)
        assert world.statuses.of(B) == ["failed"]
        going_on.set()
        await settle()
        assert world.statuses.of(B) == ["failed", "succeeded"]


async def test_who_waits_for_what_the_watch_has_yet_to_show_says_so_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run has ended, and the news is on the way."""
    going_on, objects = asyncio.Event(), world.objects

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await going_on.wait()
        return await succeed(obj, scope)

    world.things.by_name["b"] = depends_on("a")  # type: ignore[assignment]
    async with world.running():
        await world.put(A, spec={})
        await world.put(B, spec={})
        shown, get, tell = objects.current(A), objects.get, objects._tell
        with monkeypatch.context() as lagging:
            lagging.setattr(objects, "get", lambda one, *, full=False: shown if one == A else get(one, full=full))
            lagging.setattr(objects, "_tell", lambda one, old, new: None if one == A else tell(one, old, new))
            going_on.set()
            await world.clock.advance(1.0)
            assert (world.statuses.of(A), world.statuses.of(B)) == (["succeeded"], [])
        tell(A, shown, objects.current(A))
        await settle()
        assert world.statuses.of(B) == ["succeeded"]


async def test_the_state_of_a_queued_object_is_json() -> None:
    world = World(EngineSettings(concurrent=1))
    going_on = asyncio.Event()

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await going_on.wait()
        return await succeed(obj, scope)

    async with world.running():
        await world.put(A, spec={})
        await world.put(B, spec={})
        state = msgspec.json.decode(msgspec.json.encode(world.engine.state(B)))
        assert (state["phase"], state["lane"]) == ("queued", REVISION)
        going_on.set()


async def test_states_and_traces_are_json(world: World) -> None:
    world.things.by_name["b"] = depends_on("a")  # type: ignore[assignment]

    @world.things.does("a")
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        with scope.step("build"):
            await scope.read(B, TEXT)
        return await succeed(obj, scope)

    async with world.running():
        await world.put(B, spec={})
        state = msgspec.json.decode(msgspec.json.encode(world.engine.state(B)))
        assert state["waiting_on"][0]["name"] == "a"
        assert state["waiting_since"] is not None
        await world.put(A, spec={})
        trace = msgspec.json.decode(msgspec.json.encode(world.engine.traces(A)[0]))
        assert [step["name"] for step in trace["steps"]] == ["build"]
        assert world.engine.state(A).readers == (B,)  # type: ignore[union-attr]


async def test_of_old_runs_less_is_kept(world: World) -> None:
    async def reconcile(obj: Thing, scope: Scope) -> Outcome:
        await scope.read(config_map("values"), key("x"))
        return await succeed(obj, scope)

    world.things.default = reconcile
    async with world.running():
        for number in range(world.settings.traces + 2):
            await world.put(A, spec={"text": str(number)})
        traces = world.engine.traces(A)
        assert len(traces) == world.settings.traces
        assert [len(trace.reads) for trace in traces] == [1] + [0] * (world.settings.traces - 1)
