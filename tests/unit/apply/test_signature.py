from typing import Any

import msgspec
import pytest

from headrace.apply.signature import SIGNATURE, signature_part
from headrace.kube.objects import slim
from headrace.model.read import ABSENT
from tests.unit.apply.builders import OWNER, PRUNE, field, live

DEPLOYMENT_CONTROLLER = field("kube-controller-manager", "Update", {"f:metadata": {}}, subresource="status")

SAME: list[Any] = [
    pytest.param({"version": "99", "generation": 7}, id="a new resourceVersion and generation"),
    pytest.param({"annotations": {"deployment.kubernetes.io/revision": "2"}}, id="an annotation of a controller"),
    pytest.param({"labels": OWNER | {"team": "a"}}, id="a foreign label"),
    pytest.param({"fields": [field(), DEPLOYMENT_CONTROLLER]}, id="a status written by a controller"),
    pytest.param({"fields": [field(), field("hpa", "Update")]}, id="fields that another manager added"),
    pytest.param({"fields": [field(), field("hpa", "Update", time="2027-01-01T00:00:00Z")]}, id="another's time"),
]
MOVED: list[Any] = [
    pytest.param({"uid": "u2"}, id="another object of the same name"),
    pytest.param({"deletionTimestamp": "2026-11-21T10:00:00Z"}, id="being deleted"),
    pytest.param({"labels": {}}, id="stripped owner labels"),
    pytest.param({"annotations": {PRUNE: "disabled"}}, id="a control annotation"),
    pytest.param({"fields": [field(fields={})]}, id="a field of ours changed by somebody"),
    pytest.param({"fields": [field(time="2027-01-01T00:00:00Z")]}, id="a value of ours, written in our name"),
    pytest.param({"fields": [field(), field("kubectl-edit", "Update")]}, id="an edit with kubectl"),
    pytest.param({"fields": [field(), field("kubectl", "Apply")]}, id="kubectl apply --server-side"),
    pytest.param({"fields": [field(), field("before-first-apply", "Update")]}, id="fields of before the first apply"),
    pytest.param({"fields": [field(), field(operation="Update")]}, id="an update in our name"),
    pytest.param({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}, id="kubectl apply"),
    pytest.param({"labels": OWNER | {"fluxcd.io/sync-gc-mark": "x"}}, id="a label of Flux v1"),
]


@pytest.mark.parametrize("change", SAME)
def test_what_needs_no_apply_leaves_the_signature(change: dict[str, Any]) -> None:
    assert SIGNATURE.digest(live(**change)) == SIGNATURE.digest(live())


@pytest.mark.parametrize("change", MOVED)
def test_what_needs_an_apply_moves_the_signature(change: dict[str, Any]) -> None:
    assert SIGNATURE.digest(live(**change)) != SIGNATURE.digest(live())


@pytest.mark.parametrize("change", SAME + MOVED)
def test_what_a_watch_keeps_has_the_signature_of_the_whole_object(change: dict[str, Any]) -> None:
    whole = live(**change)
    assert SIGNATURE.digest(slim(whole)) == SIGNATURE.digest(slim(slim(whole))) == SIGNATURE.digest(whole)


def test_what_a_watch_keeps_holds_no_secret_of_kubectls_annotation() -> None:
    whole = live(annotations={"kubectl.kubernetes.io/last-applied-configuration": '{"password": "hunter2"}'})
    kept = slim(whole)
    assert b"hunter2" not in kept.raw + msgspec.json.encode(kept.metadata)


def test_an_overridden_manager_counts() -> None:
    part = signature_part(("flux-client-side-apply",))
    foreign = live(fields=[field(), field("flux-client-side-apply", "Update")])
    assert part.digest(foreign) != part.digest(live())
    assert SIGNATURE.digest(foreign) == SIGNATURE.digest(live())


def test_an_object_that_is_gone_has_no_signature() -> None:
    assert SIGNATURE.digest(None) == ABSENT
