import pytest

from headrace.apply import order
from headrace.model.reference import Reference
from tests.unit.apply.builders import manifest

RBAC = "rbac.authorization.k8s.io/v1"


@pytest.mark.spec("KS-APPLY-05")
def test_objects_are_sorted_by_kind_and_webhooks_come_last() -> None:
    kinds = ["ValidatingWebhookConfiguration", "Widget", "Deployment", "ConfigMap", "ServiceAccount", "Role"]
    manifests = [manifest(kind) for kind in kinds]
    [(_, _, items)] = order.staged(manifests)
    assert [m.reference.kind for m in items] == [
        "ServiceAccount", "Role", "ConfigMap", "Deployment", "Widget", "ValidatingWebhookConfiguration"]


KINDS = (
    "CustomResourceDefinition", "Namespace", "ClusterRole", "ClusterClass", "RuntimeClass", "PriorityClass",
    "StorageClass", "VolumeSnapshotClass", "IngressClass", "GatewayClass", "ClusterRoleBinding", "ResourceQuota",
    "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Secret", "Service", "LimitRange", "Deployment",
    "StatefulSet", "CronJob", "PodDisruptionBudget", "AnyOther", "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)
"""Upstream's order, whole."""


@pytest.mark.spec("KS-APPLY-05")
def test_every_kind_has_upstreams_place() -> None:
    references = [Reference("", kind, "", "x") for kind in sorted(KINDS)]
    assert tuple(reference.kind for reference in sorted(references, key=order.sort_key)) == KINDS
    assert len({order.rank(reference) for reference in references}) == len(KINDS)


@pytest.mark.spec("KS-APPLY-05")
def test_objects_of_one_kind_are_sorted_by_group_namespace_and_name() -> None:
    a, b, c = manifest(name="b"), manifest(name="a"), manifest(name="z", namespace="a")
    [(_, _, items)] = order.staged([a, b, c])
    assert items == [c, b, a]


def test_definitions_and_classes_are_stages_that_the_next_waits_for() -> None:
    manifests = [
        manifest("Role", api_version=RBAC),
        manifest("StorageClass", api_version="storage.k8s.io/v1", namespace=""),
        manifest("ClusterRole", api_version=RBAC, namespace=""),
        manifest("Namespace", namespace=""),
    ]
    staged = order.staged(manifests, ["rbac.authorization.k8s.io/Role"])
    assert [(name, wait) for name, wait, _ in staged] == [
        ("definitions", True), ("classes", True), ("custom", False)]
    assert [m.reference.kind for m in staged[0][2]] == ["Namespace", "ClusterRole"]


def test_a_kind_of_another_group_named_namespace_is_no_definition() -> None:
    assert order.stage_of(Reference("example.com", "Namespace", "a", "b")) == order.REST


@pytest.mark.parametrize("stated", ["ConfigMap", "/ConfigMap"])
def test_a_custom_stage_of_a_core_kind_needs_no_group(stated: str) -> None:
    assert order.stage_of(Reference("", "ConfigMap", "a", "b"), [stated]) == order.CUSTOM
    assert order.stage_of(Reference("example.com", "ConfigMap", "a", "b"), [stated]) == order.REST
