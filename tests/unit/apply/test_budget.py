"""What a prune budget lets through, and what it says when it does not."""

from __future__ import annotations

import pytest

from headrace.apply.budget import PruneBudget, digest, limit_of
from headrace.model.reference import Reference

A, B = Reference("", "ConfigMap", "ns", "a"), Reference("", "ConfigMap", "ns", "b")
CLAIM = Reference("", "PersistentVolumeClaim", "ns", "data")
DOOMED = [("ns_a__ConfigMap", A), ("ns_b__ConfigMap", B)]
TOKEN = digest(["ns_b__ConfigMap", "ns_a__ConfigMap"])


def test_as_many_objects_as_the_limit_are_deleted() -> None:
    assert PruneBudget(limit=2).hold(DOOMED) is None


def test_one_more_is_held_with_the_command_that_approves() -> None:
    held = PruneBudget(limit=1, how="annotate x=").hold(DOOMED)
    assert held is not None
    assert held.reason == "PruneHeld"
    assert held.message.splitlines()[0].endswith(f"annotate x={TOKEN}")
    assert held.objects == (A, B)


@pytest.mark.parametrize("approval", [TOKEN, "main@sha1:1"])
def test_the_digest_of_the_list_and_the_revision_approve(approval: str) -> None:
    assert PruneBudget(limit=0, approval=approval, revision="main@sha1:1").hold(DOOMED) is None


def test_an_approval_of_another_list_approves_nothing() -> None:
    assert PruneBudget(limit=0, approval=digest(["ns_a__ConfigMap"]), revision="r").hold(DOOMED) is not None
    assert PruneBudget(limit=0, approval="", revision="").hold(DOOMED) is not None


@pytest.mark.parametrize("protected", ["PersistentVolumeClaim", "/PersistentVolumeClaim"])
def test_a_protected_kind_is_held_whatever_the_limit(protected: str) -> None:
    budget = PruneBudget(limit=100, protected=frozenset({protected}))
    held = budget.hold([("ns_data__PersistentVolumeClaim", CLAIM)])
    assert held is not None
    assert "PersistentVolumeClaim/ns/data" in held.message
    assert budget.hold(DOOMED) is None


@pytest.mark.parametrize(
    ("annotation", "setting", "limit"),
    [("", -1, None), ("", 3, 3), ("5", -1, 5), ("-1", 3, None), ("0", 3, 0), ("many", -1, 0)],
)
def test_the_annotation_goes_before_the_setting_and_nonsense_holds_everything(
    annotation: str, setting: int, limit: int | None
) -> None:
    assert limit_of(annotation, setting) == limit
