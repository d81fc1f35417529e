"""The manifests of `headrace install`: the least that the engine needs to run in a cluster.

Pure: objects as JSON data, in the order in which they are applied. docs/install.md says what each permission is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace import __version__
from headrace.api.kinds import EXTERNAL_ARTIFACT, KINDS
from headrace.cli.rights import aggregation, read_rules
from headrace.cli.tenancy_manifests import tenancy_manifests

Manifest = dict[str, Any]

NAME = "headrace"
WATCH = "headrace-watch"
"""The role whose rules are those of others."""
LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": NAME}
TOKENS = frozenset({"--object-level-workload-identity", "--object-level-workload-identity=true"})
"""Arguments of the engine with which it needs tokens of accounts."""
USER_ID = 65532
"""The `nonroot` user of distroless images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """What the user chose. `cluster_admin` binds the engine as Flux binds its kustomize-controller, so that objects
    without serviceAccountName are delivered with all rights; without it each object names an account."""

    namespace: str = "flux-system"
    image: str = f"headrace:v{__version__}"
    """Built by deploy/Dockerfile."""
    replicas: int = 1
    cluster_admin: bool = False
    default_service_account: str = ""
    storage: str = ""
    """Size of a PersistentVolumeClaim for artifacts (`5Gi`); empty: an emptyDir, which a new pod fetches anew."""
    tenancy: str = "flux"
    """`strict` also gives tenants roles without status, and installs admission policies."""
    arguments: tuple[str, ...] = ()

    @property
    def user(self) -> str:
        """The engine's name for the API server."""
        return f"system:serviceaccount:{self.namespace}:{NAME}"


def manifests(options: InstallOptions, crds: list[Manifest]) -> list[Manifest]:
    """Everything besides the CRDs, from which the policies of strict tenancy are made."""
    found = [namespace(options), service_account(options), *cluster_roles(options), *bindings(options), role(options)]
    found += [role_binding(options)]
    if options.storage:
        found.append(claim(options))
    if options.tenancy == "strict":
        found += tenancy_manifests(options.user, LABELS, crds)
    return [*found, service(options), deployment(options)]


def namespace(options: InstallOptions) -> Manifest:
    """The engine's namespace, held to the restricted pod security standard."""
    labels = {**LABELS, "pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": options.namespace, "labels": labels}}


def service_account(options: InstallOptions) -> Manifest:
    return _object("v1", "ServiceAccount", NAME, options)


def cluster_roles(options: InstallOptions) -> list[Manifest]:
    """`headrace`: its own kinds, status and finalizers included, and the ExternalArtifacts that it makes; read access
    to the kinds of Kubernetes, since whatever is delivered is watched; events; impersonation of the accounts that
    objects name, and their tokens where those are to leave the cluster. `headrace-watch`: read access to other kinds,
    as far as somebody gives it."""
    own = [(info.group, info.plural) for info in sorted(KINDS.values(), key=lambda info: (info.group, info.plural))]
    rules = [
        *(_rule([group], [plural], "get", "list", "watch", "patch") for group, plural in own),
        *(_rule([group], [f"{plural}/status"], "patch") for group, plural in own),
        *read_rules(),
        _rule([EXTERNAL_ARTIFACT.group], [EXTERNAL_ARTIFACT.plural], "create", "delete"),
        _rule([""], ["events"], "create", "patch"),
        _rule([""], ["serviceaccounts"], "impersonate"),
    ]
    if not TOKENS.isdisjoint(options.arguments):
        rules.append(_rule([""], ["serviceaccounts/token"], "create"))
    return [_cluster("ClusterRole", NAME, rules=rules), _cluster("ClusterRole", WATCH, aggregationRule=aggregation())]


def bindings(options: InstallOptions) -> list[Manifest]:
    found = [_cluster_binding(NAME, NAME, options), _cluster_binding(WATCH, WATCH, options)]
    if options.cluster_admin:
        found.append(_cluster_binding(f"{NAME}-cluster-admin", "cluster-admin", options))
    return found


def role(options: InstallOptions) -> Manifest:
    """In the own namespace: the lease."""
    rules = [_rule(["coordination.k8s.io"], ["leases"], "get", "create", "patch")]
    return {**_object("rbac.authorization.k8s.io/v1", "Role", NAME, options), "rules": rules}


def role_binding(options: InstallOptions) -> Manifest:
    return {
        **_object("rbac.authorization.k8s.io/v1", "RoleBinding", NAME, options),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
        "subjects": [_subject(options)],
    }


def claim(options: InstallOptions) -> Manifest:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": options.storage}}}
    return {**_object("v1", "PersistentVolumeClaim", NAME, options), "spec": spec}


def service(options: InstallOptions) -> Manifest:
    """Port 80 of the name that stands in artifact URLs; only the leader is ready, so it answers only from there."""
    spec = {
        "selector": {"app.kubernetes.io/name": NAME},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
    }
    return {**_object("v1", "Service", NAME, options), "spec": spec}


def deployment(options: InstallOptions) -> Manifest:
    """Recreate, as source-controller's: the storage has one writer. A second replica waits for the lease."""
    template = {
        "metadata": {"labels": LABELS, "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}},
        "spec": {
            "serviceAccountName": NAME,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "fsGroup": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(options)],
            "volumes": [_data_volume(options), {"name": "tmp", "emptyDir": {}}],
        },
    }
    spec = {
        "replicas": options.replicas,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
        "template": template,
    }
    return {**_object("apps/v1", "Deployment", NAME, options), "spec": spec}


def arguments(options: InstallOptions) -> list[str]:
    """The command line of the container."""
    found = [
        "run",
        "--enable-leader-election",
        f"--storage-adv-addr={NAME}.{options.namespace}.svc.cluster.local.",
        "--storage-path=/data",
    ]
    if options.default_service_account:
        found.append(f"--default-service-account={options.default_service_account}")
    if options.tenancy != "flux":
        found.append(f"--tenancy={options.tenancy}")
    return [*found, *options.arguments]


def _container(options: InstallOptions) -> Manifest:
    return {
        "name": NAME,
        "image": options.image,
        "args": arguments(options),
        "env": [
            {"name": "RUNTIME_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "XDG_STATE_HOME", "value": "/data/state"},
            {"name": "HOME", "value": "/tmp"},
        ],
        "ports": [_port("http", 9090), _port("http-prom", 8080), _port("healthz", 9440)],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "healthz"}, "periodSeconds": 10},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "healthz"}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
    }


def _data_volume(options: InstallOptions) -> Manifest:
    source = {"persistentVolumeClaim": {"claimName": NAME}} if options.storage else {"emptyDir": {}}
    return {"name": "data", **source}


def _port(name: str, number: int) -> Manifest:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _rule(groups: list[str], resources: list[str], *verbs: str) -> Manifest:
    return {"apiGroups": groups, "resources": resources, "verbs": list(verbs)}


def _cluster_binding(name: str, cluster_role: str, options: InstallOptions) -> Manifest:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role}
    return _cluster("ClusterRoleBinding", name, roleRef=reference, subjects=[_subject(options)])


def _subject(options: InstallOptions) -> Manifest:
    return {"kind": "ServiceAccount", "name": NAME, "namespace": options.namespace}


def _cluster(kind: str, name: str, **content: Any) -> Manifest:
    metadata = {"name": name, "labels": LABELS}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, **content}


def _object(api_version: str, kind: str, name: str, options: InstallOptions) -> Manifest:
    metadata = {"name": name, "namespace": options.namespace, "labels": LABELS}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
