"""What the engine may read of what it delivers: the kinds of Kubernetes itself by name, others by aggregation.

No rule says `*`: that would hold subresources too, and a `get` of `nodes/proxy` or `pods/exec` runs commands in every
pod (SEC-57).
"""

from __future__ import annotations

from typing import Any

AGGREGATED_LABELS = ("rbac.authorization.k8s.io/aggregate-to-view", "headrace.dev/aggregate-to-watch")
"""A ClusterRole with one of these set to `true` gives the engine its rules: those that operators ship for the built-in
role `view`, and those that somebody writes for the engine."""

BUILT_IN: dict[str, tuple[str, ...]] = {
    "": (
        "configmaps", "endpoints", "limitranges", "namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes",
        "pods", "podtemplates", "replicationcontrollers", "resourcequotas", "secrets", "serviceaccounts", "services",
    ),
    "admissionregistration.k8s.io": (
        "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "mutatingwebhookconfigurations",
        "validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations",
    ),
    "apiextensions.k8s.io": ("customresourcedefinitions",),
    "apiregistration.k8s.io": ("apiservices",),
    "apps": ("controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"),
    "autoscaling": ("horizontalpodautoscalers",),
    "batch": ("cronjobs", "jobs"),
    "certificates.k8s.io": ("certificatesigningrequests", "clustertrustbundles"),
    "coordination.k8s.io": ("leases",),
    "discovery.k8s.io": ("endpointslices",),
    "flowcontrol.apiserver.k8s.io": ("flowschemas", "prioritylevelconfigurations"),
    "networking.k8s.io": ("ingressclasses", "ingresses", "ipaddresses", "networkpolicies", "servicecidrs"),
    "node.k8s.io": ("runtimeclasses",),
    "policy": ("poddisruptionbudgets",),
    "rbac.authorization.k8s.io": ("clusterrolebindings", "clusterroles", "rolebindings", "roles"),
    "resource.k8s.io": ("deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"),
    "scheduling.k8s.io": ("priorityclasses",),
    "storage.k8s.io": (
        "csidrivers", "csinodes", "csistoragecapacities", "storageclasses", "volumeattachments",
        "volumeattributesclasses",
    ),
}  # fmt: skip
"""The resources of Kubernetes that somebody may deliver, by group. Secrets are among them: objects refer to them by any
name, and delivered ones are watched as metadata."""


def read_rules() -> list[dict[str, Any]]:
    """One rule for each group of Kubernetes."""
    verbs = ["get", "list", "watch"]
    return [{"apiGroups": [group], "resources": list(names), "verbs": verbs} for group, names in BUILT_IN.items()]


def aggregation() -> dict[str, Any]:
    """The `aggregationRule` of the role for custom kinds."""
    return {"clusterRoleSelectors": [{"matchLabels": {label: "true"}} for label in AGGREGATED_LABELS]}
