"""What `headrace install --tenancy strict` adds: roles for tenants, and admission policies.

Pure. The policies are a second line: the engine refuses the same things itself, also where they are not installed.
What each field may say is read from the CRDs, so a new kind is covered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.api.kinds import KINDS

Manifest = dict[str, Any]
Schema = dict[str, Any]

RBAC = "rbac.authorization.k8s.io/v1"
ADMISSION = "admissionregistration.k8s.io/v1"

NO_REFERENCES = frozenset({"healthChecks", "patches", "patchesJson6902", "ignore"})
"""Fields of a spec below which a namespace is that of delivered objects."""

SHORTEST = "30s"


def tenancy_manifests(account: str, labels: dict[str, str], crds: list[Manifest]) -> list[Manifest]:
    """Everything. `account` is the user name of the engine, the only one to write status."""
    policies = [_status_policy(account), _reference_policy(crds), _interval_policy()]
    found = [*tenant_roles(), *(manifest for pair in policies for manifest in pair)]
    for manifest in found:
        manifest["metadata"]["labels"] = {**labels, **manifest["metadata"].get("labels", {})}
    return found


def tenant_roles() -> list[Manifest]:
    """Our kinds in the cluster's own roles admin, edit and view, without any status: that is output."""
    edit = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
    return [
        _role("headrace-tenant-edit", edit, "admin", "edit"),
        _role("headrace-tenant-view", ["get", "list", "watch"], "view"),
    ]


def _role(name: str, verbs: list[str], *into: str) -> Manifest:
    labels = {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in into}
    rules = [{"apiGroups": [group], "resources": plurals, "verbs": verbs} for group, plurals in _plurals().items()]
    return {"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": name, "labels": labels}, "rules": rules}


def _plurals() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for info in KINDS.values():
        groups.setdefault(info.group, []).append(info.plural)
    return {group: sorted(plurals) for group, plurals in sorted(groups.items())}


# -- policies ----------------------------------------------------------------------------------------------------------


def _status_policy(account: str) -> list[Manifest]:
    rules = [{"apiGroups": [group], "apiVersions": ["*"], "operations": ["UPDATE"],
              "resources": [f"{plural}/status" for plural in plurals]} for group, plurals in _plurals().items()]
    check = {"expression": f"request.userInfo.username == '{account}'",
             "message": "status and inventory are written by the engine only"}
    return _policy("headrace-status", rules, [check], ["Deny"])


def _reference_policy(crds: list[Manifest]) -> list[Manifest]:
    """It warns only: the target of a reference may have named the namespace, which no policy can see."""
    checks = [
        {"expression": f"object.kind != '{crd['spec']['names']['kind']}' || ({' && '.join(terms)})",
         "message": "a reference leads to another namespace: it is refused unless the target names this one"}
        for crd in crds if (terms := list(_home_terms(_spec_schema(crd))))
    ]
    return _policy("headrace-references", _writes(), checks, ["Warn", "Audit"])


def _interval_policy() -> list[Manifest]:
    """It warns only: the engine does not follow shorter intervals in any case."""
    check = {"expression": f"!has(object.spec.interval) || duration(object.spec.interval) >= duration('{SHORTEST}')",
             "message": f"intervals below {SHORTEST} are followed as {SHORTEST}"}
    return _policy("headrace-intervals", _writes(), [check], ["Warn", "Audit"])


def _writes() -> list[Manifest]:
    return [{"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": plurals}
            for group, plurals in _plurals().items()]


def _policy(name: str, rules: list[Manifest], validations: list[Manifest], actions: list[str]) -> list[Manifest]:
    spec = {"failurePolicy": "Fail" if "Deny" in actions else "Ignore",
            "matchConstraints": {"resourceRules": rules}, "validations": validations}
    binding = {"policyName": name, "validationActions": actions}
    return [
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec},
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
         "spec": binding},
    ]


def _spec_schema(crd: Manifest) -> Schema:
    """That of the stored version, which holds the fields of all."""
    version = next(version for version in crd["spec"]["versions"] if version["storage"])
    found: Schema = version["schema"]["openAPIV3Schema"]["properties"].get("spec", {})
    return found


def _home_terms(schema: Schema, at: str = "object.spec", depth: int = 0) -> Iterator[str]:
    """CEL for: every namespace below `schema` is that of the object."""
    for name, field in sorted(schema.get("properties", {}).items()):
        path = f"{at}.{name}"
        if depth == 0 and name in NO_REFERENCES:
            continue
        if name == "namespace" and field.get("type") == "string":
            yield f"(!has({path}) || {path} == null || {path} == '' || {path} == object.metadata.namespace)"
        elif field.get("type") == "array":
            each = f"e{depth}"
            if inner := list(_home_terms(field.get("items", {}), each, depth + 1)):
                yield f"(!has({path}) || {path}.all({each}, {' && '.join(inner)}))"
        elif inner := list(_home_terms(field, path, depth + 1)):
            yield f"(!has({path}) || ({' && '.join(inner)}))"
