"""The order in which kinds are applied and deleted (spec section 4.2, KS-APPLY-01..05, KS-GC-08)."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.model.manifests import Manifest
from headrace.model.reference import Reference

_FIRST = (
    "CustomResourceDefinition", "Namespace", "ClusterRole", "ClusterClass", "RuntimeClass", "PriorityClass",
    "StorageClass", "VolumeSnapshotClass", "IngressClass", "GatewayClass", "ClusterRoleBinding", "ResourceQuota",
    "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Secret", "Service", "LimitRange", "Deployment",
    "StatefulSet", "CronJob", "PodDisruptionBudget",
)
_LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_OTHERS = len(_FIRST)
_RANK = {kind: rank for rank, kind in enumerate(_FIRST)} | {
    kind: _OTHERS + 1 + rank for rank, kind in enumerate(_LAST)
}

DEFINITIONS, CLASSES, CUSTOM, REST = "definitions", "classes", "custom", "resources"
"""Names of the stages, in order."""

_DEFINITION_KINDS = {
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("", "Namespace"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
}


def rank(reference: Reference) -> int:
    """Place of the kind; objects of one rank do not depend on each other and may be applied together."""
    return _RANK.get(reference.kind, _OTHERS)


def sort_key(reference: Reference) -> tuple[int, str, str, str, str]:
    """Kind rank, then group, kind, namespace, name."""
    return rank(reference), reference.group, reference.kind, reference.namespace, reference.name


def stage_of(reference: Reference, custom: Iterable[str] = ()) -> str:
    """The stage of an object; `custom` are `group/Kind` of the setting custom-apply-stage-kinds; kinds of the core
    group may stand alone."""
    if reference.group_kind in _DEFINITION_KINDS:
        return DEFINITIONS
    if reference.kind.endswith("Class"):
        return CLASSES
    if f"{reference.group}/{reference.kind}" in custom or (not reference.group and reference.kind in custom):
        return CUSTOM
    return REST


def staged(manifests: Iterable[Manifest], custom: Iterable[str] = ()) -> list[tuple[str, bool, list[Manifest]]]:
    """Stages that are not empty as (name, whether the next stage waits for it, objects in order)."""
    custom = frozenset(custom)
    stages: dict[str, list[Manifest]] = {DEFINITIONS: [], CLASSES: [], CUSTOM: [], REST: []}
    for manifest in manifests:
        stages[stage_of(manifest.reference, custom)].append(manifest)
    return [
        (name, name in (DEFINITIONS, CLASSES), sorted(items, key=lambda m: sort_key(m.reference)))
        for name, items in stages.items()
        if items
    ]
