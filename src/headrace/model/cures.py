"""References to what is no object and may cure an error: a kind that is served, a cluster that answers, rights.

`Retry(cures=...)` names them like anything else; the engine looks for them as long as somebody waits.
"""

from __future__ import annotations

from headrace.model.reference import MANAGEMENT_CLUSTER, Reference

GROUP = "headrace.dev"
CLUSTER, SETTLED, ACCESS, ADMISSION = "Cluster", "ServedKind", "Access", "Admission"

ANYTHING = "any"
"""The name where no service is known."""


def kind_reference(group: str, kind: str, cluster: str = MANAGEMENT_CLUSTER) -> Reference:
    """The kind itself: a reference without a name. Cured when it is served."""
    return Reference(group, kind, "", "", cluster)


def cluster_reference(cluster: str) -> Reference:
    """The API server of a cluster. Cured when it answers."""
    return Reference(GROUP, CLUSTER, "", cluster or "management", cluster)


def settled_reference(group: str, kind: str, cluster: str = MANAGEMENT_CLUSTER) -> Reference:
    """A kind that discovery names and requests do not find: its definition was established a moment ago."""
    return Reference(GROUP, SETTLED, "", f"{kind}.{group}", cluster)


def access_reference(namespace: str, cluster: str = MANAGEMENT_CLUSTER) -> Reference:
    """Rights in a namespace, in any when empty. Cured, perhaps, by each change of a role or binding there."""
    return Reference(GROUP, ACCESS, namespace, "rbac", cluster)


def admission_reference(namespace: str, service: str, cluster: str = MANAGEMENT_CLUSTER) -> Reference:
    """Admission by a webhook that this Service answers for. Cured, perhaps, by its endpoints, or by each change of a
    webhook configuration or admission policy."""
    return Reference(GROUP, ADMISSION, namespace, service or ANYTHING, cluster)


def is_kind(reference: Reference) -> bool:
    """Whether a reference names a kind."""
    return not reference.name


def is_cluster(reference: Reference) -> bool:
    """Whether a reference names a cluster."""
    return reference.group_kind == (GROUP, CLUSTER)


def is_cure(reference: Reference) -> bool:
    """Whether a reference names anything of this module."""
    return is_kind(reference) or reference.group == GROUP
