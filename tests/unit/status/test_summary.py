"""From outcome to conditions, as a table: existing conditions, what happened, and the conditions that follow."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from headrace.api.meta import KUSTOMIZE_GROUP, SOURCE_GROUP, StatusCondition
from headrace.model.errors import Retry, Stalled, StepError, Waiting
from headrace.model.outcome import Condition, Outcome
from headrace.model.reference import Reference
from headrace.status import summary
from headrace.status.conditions import changed
from headrace.status.rules import rules_of
from headrace.status.summary import Verdict

SOURCE, DELIVERY = rules_of(SOURCE_GROUP), rules_of(KUSTOMIZE_GROUP)
Short = tuple[str, str, str, str]


def existing(*conditions: Short) -> tuple[StatusCondition, ...]:
    return changed([], [Condition(*condition) for condition in conditions], generation=1, now=0.0)


def after(before: Iterable[StatusCondition], verdict: Verdict) -> list[Short]:
    conditions = changed(before, verdict.conditions, verdict.removed, generation=1, now=1.0)
    return [(c.type, c.status, c.reason, c.message) for c in conditions]


IN_STORAGE = ("ArtifactInStorage", "True", "Succeeded", "stored artifact")
READY = ("Ready", "True", "Succeeded", "stored artifact")
FETCH_FAILED = ("FetchFailed", "True", "GitOperationFailed", "no route")


@pytest.mark.spec("SRC-COM-14", "SRC-COM-15")
def test_success_is_ready_and_removes_reconciling_stalled_and_every_failure() -> None:
    outcome = Outcome("Succeeded", "stored artifact", conditions=(Condition(*IN_STORAGE),))
    for leftover in (("Reconciling", "True", "Progressing", "x"), ("Stalled", "True", "URLInvalid", "x")):
        before = existing(leftover, FETCH_FAILED, ("BuildFailed", "True", "X", "x"))
        verdict = summary.succeeded(outcome, SOURCE)
        assert after(before, verdict) == [READY, IN_STORAGE]
        assert verdict.observed


@pytest.mark.spec("SRC-COM-09", "SRC-COM-13", "KS-REC-08")
@pytest.mark.parametrize("error", [Retry("GitOperationFailed", "no route", condition="FetchFailed"),
                                   Waiting("GitOperationFailed", "no route", on=(), condition="FetchFailed")])
def test_a_failure_is_retried_in_the_open_and_observes_nothing(error: StepError) -> None:
    before = existing(READY, IN_STORAGE, ("Stalled", "True", "URLInvalid", "x"))
    verdict = summary.failed(error, SOURCE, before)
    assert after(before, verdict) == [
        ("Reconciling", "True", "ProgressingWithRetry", "no route"),
        ("Ready", "False", "GitOperationFailed", "no route"),
        IN_STORAGE,
        FETCH_FAILED,
    ]
    assert not verdict.observed


def test_what_was_being_done_stays_in_the_message_when_it_has_been_said() -> None:
    before = existing(("Reconciling", "True", "Progressing", "Building manifests"))
    verdict = summary.failed(Retry("BuildFailed", "no such file"), DELIVERY, before)
    assert after(before, verdict) == [
        ("Reconciling", "True", "ProgressingWithRetry", "Building manifests"),
        ("Ready", "False", "BuildFailed", "no such file"),
    ]
    again = summary.failed(Retry("BuildFailed", "another"), DELIVERY, existing(*after(before, verdict)))
    assert after(existing(*after(before, verdict)), again)[0][3] == "another"


@pytest.mark.spec("SRC-COM-08")
def test_stalled_observes_the_generation_and_is_not_in_progress() -> None:
    before = existing(("Reconciling", "True", "Progressing", "x"))
    verdict = summary.failed(Stalled("URLInvalid", "no scheme", condition="FetchFailed"), SOURCE, before)
    assert after(before, verdict) == [
        ("Stalled", "True", "URLInvalid", "no scheme"),
        ("Ready", "False", "URLInvalid", "no scheme"),
        ("FetchFailed", "True", "URLInvalid", "no scheme"),
    ]
    assert verdict.observed


@pytest.mark.spec("SRC-COM-17")
def test_of_two_failures_ready_repeats_the_first_by_type() -> None:
    before = existing(("StorageOperationFailed", "True", "ArchiveOperationFailed", "disk full"))
    verdict = summary.failed(Retry("GitOperationFailed", "no route", condition="FetchFailed"), SOURCE, before)
    assert ("Ready", "False", "ArchiveOperationFailed", "disk full") in after(before, verdict)
    assert FETCH_FAILED in after(before, verdict)


def test_a_step_that_failed_says_that_those_before_it_did_not() -> None:
    before = existing(FETCH_FAILED)
    error = Retry("ArchiveOperationFailed", "disk full", condition="StorageOperationFailed")
    assert FETCH_FAILED not in after(before, summary.failed(error, SOURCE, before))


@pytest.mark.spec("SRC-COM-16")
def test_a_failed_verification_is_readys_reason_whatever_else_is_wrong() -> None:
    before = existing(("StorageOperationFailed", "True", "ArchiveOperationFailed", "disk full"))
    error = Retry("InvalidCommitSignature", "unknown key", condition="SourceVerified")
    conditions = after(before, summary.failed(error, SOURCE, before))
    assert ("SourceVerified", "False", "InvalidCommitSignature", "unknown key") in conditions
    assert ("Ready", "False", "InvalidCommitSignature", "unknown key") in conditions


def test_unhealthy_objects_show_as_healthy_false() -> None:
    error = Retry("HealthCheckFailed", "timeout", condition="Healthy")
    conditions = after((), summary.failed(error, DELIVERY, ()))
    assert ("Healthy", "False", "HealthCheckFailed", "timeout") in conditions


@pytest.mark.spec("SRC-COM-11")
def test_a_source_that_looks_for_news_stays_ready() -> None:
    before = existing(READY)
    verdict = summary.in_progress("Progressing", "reconciliation in progress", (), SOURCE, before)
    assert after(before, verdict) == [("Reconciling", "True", "Progressing", "reconciliation in progress"), READY]


@pytest.mark.spec("SRC-COM-12")
def test_a_source_that_has_found_news_is_not_known_to_be_ready() -> None:
    before = existing(READY)
    outdated = Condition("ArtifactOutdated", "True", "NewRevision", "new upstream revision 'main@sha1:1'")
    message = "building artifact: new upstream revision 'main@sha1:1'"
    conditions = after(before, summary.in_progress("Progressing", message, (outdated,), SOURCE, before))
    assert ("Ready", "Unknown", "Progressing", message) in conditions


def test_a_delivery_is_not_known_to_be_ready_while_it_runs_and_not_stalled() -> None:
    before = existing(READY, ("Stalled", "True", "X", "x"))
    verdict = summary.in_progress("Progressing", "Building manifests", (), DELIVERY, before)
    assert after(before, verdict) == [
        ("Reconciling", "True", "Progressing", "Building manifests"),
        ("Ready", "Unknown", "Progressing", "Reconciliation in progress"),
    ]


@pytest.mark.parametrize(
    ("group", "ready", "observed"),
    [(SOURCE_GROUP, "False", True), (KUSTOMIZE_GROUP, "True", True), (KUSTOMIZE_GROUP, "False", False)])
def test_suspended_objects_keep_their_conditions(group: str, ready: str, observed: bool) -> None:
    before = existing(("Ready", ready, "R", "m"))
    verdict = summary.suspended(rules_of(group), before)
    assert after(before, verdict) == [("Ready", ready, "R", "m")]
    assert verdict.observed is observed


def test_a_success_after_a_failure_is_a_recovery() -> None:
    assert summary.recovered(existing(("Ready", "False", "R", "m")))
    assert not summary.recovered(existing(READY))
    assert not summary.recovered(())


def test_waiting_names_no_condition_of_its_own() -> None:
    on = [Reference(KUSTOMIZE_GROUP, "Kustomization", "d", "base")]
    verdict = summary.failed(Waiting("DependencyNotReady", "base is not ready", on=on), DELIVERY, ())
    assert [c.type for c in verdict.conditions] == ["Ready", "Reconciling"]
