"""What an object says of its own delivery, and whose it is."""

from __future__ import annotations

import pytest

from headrace.apply import control
from tests.unit.apply.builders import OWNER, PRUNE, RECONCILE, SSA, live

NAME, NAMESPACE = OWNER


@pytest.mark.spec("KS-GC-04")
@pytest.mark.parametrize("labels", [
    {NAME: "other"}, {NAMESPACE: "other"}, {NAME: None}, {NAMESPACE: None}, {NAME: None, NAMESPACE: None},
])
def test_an_object_is_ours_only_with_both_owner_labels(labels: dict[str, str | None]) -> None:
    ours = control.owner_labels("default", "app")
    found = {key: value for key, value in (OWNER | labels).items() if value is not None}
    assert control.owned(live(labels=OWNER | {"more": "x"}).metadata, ours)
    assert not control.owned(live(labels=found).metadata, ours)
    assert not control.owned(live(labels=None).metadata, ours)


@pytest.mark.spec("KS-GC-03", "KS-GC-05", "KS-ANN-05")
@pytest.mark.parametrize("where", ["labels", "annotations"])
@pytest.mark.parametrize(("key", "value", "kept"), [
    (PRUNE, "Disabled", True), (RECONCILE, "disabled", True), (SSA, "Ignore", True), (SSA, "IfNotPresent", False),
    (PRUNE, "enabled", False), (RECONCILE, "enabled", False),
])
def test_labels_and_annotations_of_the_live_object_keep_it_from_pruning(
    where: str, key: str, value: str, kept: bool
) -> None:
    assert bool(control.kept(live(**{where: {key: value}}).metadata)) is kept
