from typing import Any

import pytest

from headrace.apply import inventory, planner
from headrace.apply.applied import Record
from headrace.apply.planner import Known
from headrace.apply.signature import SIGNATURE
from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject
from headrace.model.plan import Action
from tests.unit.apply.builders import RECONCILE, SSA, field, live, manifest

WANTED = manifest()


def record(wanted: Manifest = WANTED, obj: LiveObject | None = None, version: str = "10") -> Record:
    return Record(wanted.digest, SIGNATURE.digest(obj or live(wanted)), version)


EDITED = live(version="11", fields=[field(fields={})])

DECISIONS: list[Any] = [
    pytest.param(Known(), Action.PENDING, "not known", id="nothing is known"),
    pytest.param(Known(watched=True), Action.PENDING, "new", id="does not exist"),
    pytest.param(Known(record(), live(), watched=True), Action.UNCHANGED, "", id="as it was left"),
    pytest.param(
        Known(record(), live(version="12"), watched=True), Action.UNCHANGED, "", id="touched, but nothing of ours"),
    pytest.param(
        Known(record(manifest(data="2")), live(), watched=True), Action.PENDING, "manifest changed", id="changed"),
    pytest.param(Known(record(), EDITED, watched=True), Action.PENDING, "drifted", id="edited"),
    pytest.param(Known(record(), None, watched=True), Action.PENDING, "drifted", id="deleted"),
    pytest.param(
        Known(record(version="12"), EDITED, watched=True), Action.UNCHANGED, "",
        id="the watch is older than our write"),
    pytest.param(Known(record()), Action.PENDING, "not known", id="not watched"),
    pytest.param(
        Known(Record("", "", "10", skipped=True), live(), watched=True), Action.PENDING, "not known",
        id="was skipped, is not any more"),
]


@pytest.mark.parametrize(("known", "action", "reason"), DECISIONS)
def test_an_object_is_asked_about_only_when_it_may_have_changed(known: Known, action: Action, reason: str) -> None:
    entry = planner.decide(WANTED, known, SIGNATURE)
    assert (entry.action, entry.reason) == (action, reason)


@pytest.mark.spec("KS-ANN-05")
@pytest.mark.parametrize(("key", "value"), [(RECONCILE, "Disabled"), (SSA, "ignore"), (SSA, "IGNORE")])
def test_an_object_that_excludes_itself_is_skipped(key: str, value: str) -> None:
    wanted, watched = manifest(annotations={key: value}), live(annotations={key: value})
    assert planner.decide(wanted, Known(), SIGNATURE).action is Action.SKIPPED
    assert planner.decide(WANTED, Known(record(), watched, watched=True), SIGNATURE).action is Action.SKIPPED


def test_an_object_that_is_only_created_is_skipped_once_it_exists() -> None:
    wanted = manifest(annotations={SSA: "IfNotPresent"})
    assert planner.decide(wanted, Known(live=live(), watched=True), SIGNATURE).action is Action.SKIPPED
    assert planner.decide(wanted, Known(watched=True), SIGNATURE).action is Action.PENDING
    assert planner.decide(WANTED, Known(live=live(annotations={SSA: "IfNotPresent"})), SIGNATURE).reason == "not known"


def test_the_correction_of_a_rivals_change_is_put_off() -> None:
    known = Known(record(), EDITED, watched=True)
    entry = planner.decide(WANTED, known, SIGNATURE, lambda _: 4.0)
    assert (entry.action, entry.reason) == (Action.UNCHANGED, "drifted; correction delayed by 4s")


@pytest.mark.spec("KS-INV-02")
def test_a_plan_owns_skipped_objects_and_is_written_ahead_with_the_stale_ones() -> None:
    skipped, gone = manifest(name="skipped", annotations={RECONCILE: "disabled"}), manifest(name="gone")
    stale = inventory.entry(gone.reference, "v1")
    plan = planner.plan([WANTED, skipped], [stale], lambda _: Known(), SIGNATURE)
    assert [e.id for e in plan.inventory] == ["default_app__ConfigMap", "default_skipped__ConfigMap"]
    assert plan.stale == (stale,)
    assert set(plan.ahead) == {*plan.inventory, stale}


@pytest.mark.spec("KS-INV-04")
def test_a_cluster_scoped_object_is_known_without_its_injected_namespace() -> None:
    role = manifest("ClusterRole", api_version="rbac.authorization.k8s.io/v1", namespace="injected")
    scoped = planner.with_scope(role, namespaced=False)
    assert inventory.entry(scoped.reference, "v1").id == "_app_rbac.authorization.k8s.io_ClusterRole"
    assert planner.with_scope(WANTED, namespaced=True) is WANTED
    assert planner.with_scope(role, namespaced=None) is role
