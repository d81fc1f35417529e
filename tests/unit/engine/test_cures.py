"""Which events may end which error, and that nothing is watched for longer than somebody is blocked."""

from __future__ import annotations

import pytest

from headrace.engine.cures import may_cure
from headrace.model.cures import access_reference, admission_reference
from headrace.model.reference import Reference

RBAC, RULES = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"


@pytest.mark.parametrize(
    ("changed", "cures"),
    [
        (Reference(RBAC, "RoleBinding", "ns", "x"), True),
        (Reference(RBAC, "Role", "ns", "x"), True),
        (Reference(RBAC, "RoleBinding", "other", "x"), False),
        (Reference(RBAC, "ClusterRoleBinding", "", "x"), True),
        (Reference(RBAC, "ClusterRole", "", "x", "remote-1"), False),
        (Reference("", "ConfigMap", "ns", "x"), False),
    ],
)
def test_rights_come_from_the_namespace_and_from_the_cluster(changed: Reference, cures: bool) -> None:
    assert may_cure(access_reference("ns"), changed) is cures


def test_where_the_namespace_is_not_known_every_binding_may_help() -> None:
    assert may_cure(access_reference(""), Reference(RBAC, "RoleBinding", "any", "x"))


@pytest.mark.parametrize(
    ("changed", "cures"),
    [
        (Reference("discovery.k8s.io", "EndpointSlice", "ns", "hook-abcde"), True),
        (Reference("discovery.k8s.io", "EndpointSlice", "other", "hook-abcde"), False),
        (Reference("discovery.k8s.io", "EndpointSlice", "ns", "web-abcde"), False),
        (Reference("", "Service", "ns", "hook"), True),
        (Reference("", "Service", "ns", "hook-2"), False),
        (Reference(RULES, "ValidatingWebhookConfiguration", "", "whatever"), True),
        (Reference(RULES, "ValidatingAdmissionPolicyBinding", "", "whatever"), True),
    ],
)
def test_a_webhook_is_cured_by_its_endpoints_and_by_the_rules(changed: Reference, cures: bool) -> None:
    assert may_cure(admission_reference("ns", "hook"), changed) is cures


def test_a_webhook_without_a_service_is_cured_by_the_rules_only() -> None:
    blocked = admission_reference("", "")
    assert may_cure(blocked, Reference(RULES, "MutatingWebhookConfiguration", "", "x"))
    assert not may_cure(blocked, Reference("", "Service", "", "any"))
