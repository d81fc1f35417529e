from typing import Any

import pytest

from headrace.apply.decision import Step, after_compare, after_dry_run, differs, is_immutable
from headrace.model.plan import Action, PlanEntry
from tests.unit.apply.builders import RECONCILE, SSA, field, live, manifest

LAST_APPLIED = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}


def pending(reason: str = "not known", **annotations: str) -> PlanEntry:
    return PlanEntry(manifest(annotations={f"kustomize.toolkit.fluxcd.io/{k}": v for k, v in annotations.items()}),
                     Action.PENDING, reason)


STEPS: list[Any] = [
    pytest.param(pending("new"), {}, True, Step.APPLY, id="does not exist"),
    pytest.param(pending(), {}, False, Step.COMPARE, id="exists, and nothing is known"),
    pytest.param(pending("manifest changed"), {}, False, Step.APPLY, id="known, and the manifest changed"),
    pytest.param(pending("drifted"), {}, False, Step.APPLY, id="known, and it drifted"),
    pytest.param(pending(), {"annotations": {RECONCILE: "disabled"}}, False, Step.SKIP, id="paused on the cluster"),
    pytest.param(pending(ssa="IfNotPresent"), {}, False, Step.SKIP, id="only created, and exists"),
    pytest.param(pending(ssa="IfNotPresent"), {}, True, Step.APPLY, id="only created, and does not exist"),
    pytest.param(
        pending(), {"fields": [field(), field("kubectl-client-side-apply", "Update")]}, False, Step.TAKE_OVER,
        id="fields of kubectl"),
    pytest.param(
        pending(), {"fields": [field(), field("kubectl", "Update", subresource="status")]}, False, Step.COMPARE,
        id="a subresource written by kubectl", marks=pytest.mark.spec("KS-APPLY-12")),
    pytest.param(pending(), {"annotations": LAST_APPLIED}, False, Step.TAKE_OVER, id="annotation of kubectl apply"),
    pytest.param(
        pending(), {"labels": {"fluxcd.io/sync-gc-mark": "x"}}, False, Step.TAKE_OVER, id="label of an older tool"),
    pytest.param(
        pending("drifted"), {"annotations": LAST_APPLIED | {SSA: "Merge"}}, False, Step.APPLY,
        id="merged on the cluster"),
    pytest.param(pending(ssa="merge"), {"annotations": LAST_APPLIED}, False, Step.COMPARE, id="merged in the source"),
]


@pytest.mark.parametrize(("entry", "answer", "created", "step"), STEPS)
def test_the_dry_run_tells_the_next_step(entry: PlanEntry, answer: dict[str, Any], created: bool, step: Step) -> None:
    assert after_dry_run(entry, live(**answer), created=created, live=None)[0] is step


def test_what_the_cluster_holds_counts_where_the_dry_run_writes_over_it() -> None:
    paused = live(annotations={RECONCILE: "disabled"})
    answer = live(annotations={RECONCILE: "enabled"})
    assert after_dry_run(pending(reconcile="enabled"), answer, created=False, live=paused)[0] is Step.SKIP


def test_only_labels_annotations_and_what_is_outside_metadata_and_status_differ() -> None:
    base = {"metadata": {"labels": {"a": "1"}, "generation": 1}, "status": {"x": 1}, "spec": {"replicas": 1}}
    assert not differs(base, base | {"metadata": {"labels": {"a": "1"}, "generation": 2}, "status": {}})
    assert differs(base, base | {"metadata": {"labels": {}}})
    assert differs(base, base | {"metadata": {"labels": {"a": "1"}, "annotations": {"b": "2"}}})
    assert differs(base, base | {"spec": {"replicas": 2}})
    assert differs(base, base | {"data": {}})


@pytest.mark.spec("KS-APPLY-07")
def test_an_object_that_was_looked_at_is_left_only_when_nothing_differs_and_all_fields_are_ours() -> None:
    answer = live(fields=[field()])
    assert after_compare(live(), answer)[0] is Step.COMPARE
    assert after_compare(live(manifest(data="2")), answer) == (Step.APPLY, "differs")
    lost = live(fields=[field(fields={}), field("kubectl-edit", "Update", fields={"f:data": {"f:k": {}}})])
    assert after_compare(lost, answer) == (Step.APPLY, "fields of ours have another manager")
    assert after_compare(live(fields=[field("other")]), answer)[0] is Step.APPLY


@pytest.mark.spec("KS-APPLY-07")
def test_empty_fields_that_another_version_of_flux_names_change_nothing() -> None:
    more = {"f:data": {"f:k": {}}, "f:metadata": {"f:creationTimestamp": {}}}
    assert after_compare(live(fields=[field(fields=more)]), live(fields=[field()]))[0] is Step.COMPARE


@pytest.mark.spec("KS-FORCE-05")
@pytest.mark.parametrize(
    ("status", "reason", "message", "wanted"),
    [
        (422, "Invalid", "spec.selector: field is immutable", True),
        (422, "Invalid", "spec.replicas: must be greater than or equal to 0", True),
        (409, "Conflict", "the object has been modified", True),
        (409, "AlreadyExists", "object is being deleted", False),
        (400, "BadRequest", 'admission webhook denied the request: spec.x is immutable', True),
        (403, "Forbidden", "ValidatingAdmissionPolicy denied: immutable field", True),
        (403, "Forbidden", "no", False),
        (500, "InternalError", "boom", False),
    ],
)
def test_force_helps_only_against_what_cannot_be_changed(status: int, reason: str, message: str, wanted: bool) -> None:
    assert is_immutable(status, reason, message) is wanted
