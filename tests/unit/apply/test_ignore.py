from typing import Any

import msgspec
import pytest

from headrace.api.kustomization import IgnoreRule, Selector
from headrace.apply.ignore import IgnoreRules, adapted, drifted
from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject
from tests.unit.apply.builders import OWNER, field, live, manifest

REPLICAS = ("spec", "replicas")


def rule(*paths: str, **target: str) -> IgnoreRule:
    return IgnoreRule(paths=paths, target=Selector(**target) if target else None)


SELECTED: list[Any] = [
    ({}, True), ({"name": "app"}, True), ({"name": "ap"}, False), ({"name": "ap.*"}, True), ({"name": ".*p"}, True),
    ({"kind": "ConfigMap", "version": "v1"}, True), ({"kind": "Config"}, False), ({"group": "apps"}, False),
    ({"namespace": "default|other"}, True), ({"namespace": "other"}, False),
    ({"label_selector": "kustomize.toolkit.fluxcd.io/name=app"}, True), ({"label_selector": "absent"}, False),
    ({"annotation_selector": "mine=yes"}, True), ({"annotation_selector": "mine!=yes"}, False),
]


@pytest.mark.spec("KS-IGN-05")
@pytest.mark.parametrize(("target", "selected"), SELECTED)
def test_a_rule_is_for_the_objects_that_its_anchored_selectors_match(target: dict[str, str], selected: bool) -> None:
    wanted = manifest(annotations={"mine": "yes"})
    assert IgnoreRules([rule("/data/k", **target)]).paths(wanted) == ((("data", "k"),) if selected else ())


def test_of_rules_without_a_target_the_last_one_counts_and_those_with_one_add_up() -> None:
    rules = IgnoreRules([rule("/a"), rule("/b"), rule("/c", name="app"), rule("/d", kind="ConfigMap")])
    assert rules.paths(manifest()) == (("b",), ("c",), ("d",))


@pytest.mark.spec("KS-IGN-05")
def test_pointers_are_unescaped_and_what_is_none_points_at_nothing() -> None:
    rules = IgnoreRules([rule("/metadata/annotations/a~1b~0c", "spec/replicas", "", "/x/10", "/x/9")])
    assert rules.paths(manifest()) == (("x", "9"), ("x", "10"), ("metadata", "annotations", "a/b~c"))


@pytest.mark.parametrize("target", [{"name": "("}, {"label_selector": "a b"}])
def test_a_selector_that_cannot_be_used_is_refused(target: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"invalid"):
        IgnoreRules([rule("/a", **target)])


def test_a_rule_makes_its_objects_changed_ones_and_leaves_the_others() -> None:
    marked = IgnoreRules([rule("/data/k", name="app")]).marked([manifest(), manifest(name="other")])
    other = IgnoreRules([rule("/data/x", name="app")]).marked([manifest()])
    assert marked[1] == manifest(name="other")
    assert len({marked[0].digest, other[0].digest, manifest().digest}) == 3


def workload(replicas: int | None = 1, **more: Any) -> dict[str, Any]:
    spec = {"replicas": replicas, "paused": False, "list": [{"name": "a", "v": 1}, {"name": "b", "v": 2}]} | more
    return {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "app", "namespace": "default", "labels": OWNER},
            "spec": {key: value for key, value in spec.items() if value is not None}}


def wanted(**spec: Any) -> Manifest:
    return msgspec.structs.replace(manifest("Deployment"), body=msgspec.json.encode(workload(**spec)))


def held(*fields: Any, **spec: Any) -> LiveObject:
    return live(wanted(**spec), fields=[field(), *fields])


def applied(ours: Manifest, found: LiveObject, *paths: tuple[str, ...]) -> Any:
    """The spec that is applied; the dry-run of `ours` gives `ours`."""
    return msgspec.json.decode(adapted(ours, found, live(ours), paths).body)["spec"]


@pytest.mark.spec("KS-IGN-01")
def test_an_ignored_field_is_no_drift_and_every_other_is() -> None:
    assert not drifted(workload(5), workload(1), [REPLICAS])
    assert not drifted(workload(None), workload(1), [REPLICAS])
    assert drifted(workload(5, paused=True), workload(1), [REPLICAS])
    assert not drifted(workload(1, list=[{"name": "a", "v": 9}]), workload(1, list=[{"name": "a", "v": 1}]),
                       [("spec", "list", "0", "v")])
    assert drifted(workload(5), workload(1), [("spec", "absent"), ("spec", "list", "7")])


def test_what_an_object_is_and_whose_cannot_be_ignored() -> None:
    stripped = workload()
    stripped["metadata"]["labels"] = {}
    assert drifted(stripped, workload(), [("metadata", "labels")])
    found = live(wanted(), labels={"theirs": "x"})
    changed = adapted(wanted(), found, live(wanted()), [("metadata", "labels"), ("metadata",)])
    assert msgspec.json.decode(changed.body)["metadata"]["labels"].items() >= OWNER.items()


@pytest.mark.spec("KS-IGN-02")
def test_an_apply_carries_the_value_that_the_cluster_has() -> None:
    theirs = field("autoscaler", "Update", {"f:spec": {"f:replicas": {}}})
    assert applied(wanted(), held(theirs, replicas=5), REPLICAS)["replicas"] == 5
    assert applied(wanted(replicas=None), held(theirs, replicas=5), REPLICAS)["replicas"] == 5
    assert "replicas" not in applied(wanted(), held(replicas=None), REPLICAS)
    assert applied(wanted(), held(replicas=5), ("spec", "absent"))["replicas"] == 1


@pytest.mark.spec("KS-IGN-03")
@pytest.mark.parametrize(("fields", "path", "kept"), [
    ({"f:spec": {"f:replicas": {}}}, REPLICAS, False),
    ({"f:spec": {}}, REPLICAS, False),
    ({"f:spec": {"f:paused": {}}}, REPLICAS, True),
    ({"f:spec": {"f:list": {'k:{"name":"b"}': {"f:v": {}}}}}, ("spec", "list", "1", "v"), False),
    ({"f:spec": {"f:list": {'k:{"name":"a"}': {"f:v": {}}}}}, ("spec", "list", "1", "v"), True),
])
def test_a_field_that_another_manager_applies_is_left_to_it(
    fields: dict[str, Any], path: tuple[str, ...], kept: bool
) -> None:
    entries = [{"name": "a", "v": 1}, {"name": "b", "v": 9}]
    found = held(field("their-controller", "Apply", fields), replicas=5, list=entries)
    spec = applied(wanted(), found, path)
    if path == REPLICAS:
        assert spec.get("replicas") == (5 if kept else None)
    else:
        assert spec["list"] == [{"name": "a", "v": 1}, {"name": "b", "v": 9} if kept else {"name": "b"}]
