import msgspec
import pytest

from headrace.apply.takeover import migration_patch, take_over_patch, union
from tests.unit.apply.builders import field, live

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def test_fields_of_kubectl_become_ours_and_its_annotation_goes() -> None:
    obj = live(
        annotations={LAST_APPLIED: "{}"},
        fields=[
            field(fields={"f:data": {"f:k": {}}}),
            field("kubectl-client-side-apply", "Update", {"f:data": {"f:old": {}}}),
            field("hpa", "Update", {"f:spec": {"f:replicas": {}}}),
            field("kubectl", "Update", {"f:status": {}}, subresource="status"),
        ],
    )
    guard, annotation, managers = msgspec.json.decode(take_over_patch(obj, "v1"))
    assert guard == {"op": "test", "path": "/metadata/resourceVersion", "value": "10"}
    assert annotation == {"op": "remove",
                          "path": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"}
    assert managers["path"] == "/metadata/managedFields"
    assert [(m["manager"], m["fieldsV1"]) for m in managers["value"]] == [
        ("kustomize-controller", {"f:data": {"f:k": {}, "f:old": {}}}),
        ("hpa", {"f:spec": {"f:replicas": {}}}),
        ("kubectl", {"f:status": {}}),
    ]


def test_an_object_that_we_never_applied_gets_an_entry_of_ours() -> None:
    obj = live(fields=[field("before-first-apply", "Update", {"f:data": {}})])
    [_, managers] = msgspec.json.decode(take_over_patch(obj, "v1"))
    [ours] = managers["value"]
    assert (ours["manager"], ours["operation"], ours["fieldsV1"]) == ("kustomize-controller", "Apply", {"f:data": {}})


def test_nothing_to_take_over_gives_no_patch() -> None:
    assert take_over_patch(live(fields=[field(), field("hpa", "Update")]), "v1") == b""


@pytest.mark.spec("KS-APPLY-22")
def test_every_managers_entry_is_rewritten_to_our_version() -> None:
    obj = live(fields=[field(), field("hpa", "Update", apiVersion="v1beta1"), field("old", apiVersion="v1alpha1")])
    guard, managers = msgspec.json.decode(migration_patch(obj, "v1"))
    assert guard == {"op": "test", "path": "/metadata/resourceVersion", "value": "10"}
    assert [(m["manager"], m["apiVersion"]) for m in managers["value"]] == [
        ("kustomize-controller", "v1"), ("hpa", "v1"), ("old", "v1")]
    assert migration_patch(live(fields=[field(), field("hpa", "Update")]), "v1") == b""


def test_the_union_of_field_sets_keeps_both_branches() -> None:
    into = {"f:a": {"f:b": {}}, "k:{\"name\":\"x\"}": {".": {}}}
    union(into, {"f:a": {"f:c": {}}, "k:{\"name\":\"x\"}": {"f:y": {}}})
    assert into == {"f:a": {"f:b": {}, "f:c": {}}, "k:{\"name\":\"x\"}": {".": {}, "f:y": {}}}
