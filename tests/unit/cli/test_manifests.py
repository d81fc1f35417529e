"""manifests: what `headrace install` puts into a cluster."""

from __future__ import annotations

from typing import Any

from headrace.api.kinds import KINDS
from headrace.cli.manifests import NAME, InstallOptions, manifests

DEFAULT = InstallOptions()


def by_kind(options: InstallOptions = DEFAULT) -> dict[tuple[str, str], dict[str, Any]]:
    return {(m["kind"], m["metadata"]["name"]): m for m in manifests(options, [])}


def rules() -> list[dict[str, Any]]:
    found = by_kind()
    return [*found["ClusterRole", NAME]["rules"], *found["Role", NAME]["rules"]]


def test_the_engine_may_write_only_its_own_objects_events_and_its_lease() -> None:
    writable = {
        resource
        for rule in rules()
        for resource in rule["resources"]
        if {"create", "update", "patch", "delete", "deletecollection"} & set(rule["verbs"])
    }
    own = {info.plural for info in KINDS.values()}
    assert writable == {"events", "leases", *own, *(f"{plural}/status" for plural in own)}


def test_only_external_artifacts_may_be_deleted_and_only_service_accounts_be_impersonated() -> None:
    strong = {"delete", "deletecollection", "*", "escalate", "bind"}
    assert [rule["resources"] for rule in rules() if strong & set(rule["verbs"])] == [["externalartifacts"]]
    assert [rule["resources"] for rule in rules() if "impersonate" in rule["verbs"]] == [["serviceaccounts"]]


def test_tokens_of_accounts_may_be_issued_only_where_objects_may_ask_for_them() -> None:
    def resources(*arguments: str) -> list[str]:
        role = by_kind(InstallOptions(arguments=arguments))["ClusterRole", NAME]
        return [resource for rule in role["rules"] for resource in rule["resources"]]

    assert "serviceaccounts/token" not in resources("--object-level-workload-identity=false")
    assert "serviceaccounts/token" in resources("--object-level-workload-identity")


def test_all_rights_only_when_asked_for() -> None:
    binding = ("ClusterRoleBinding", f"{NAME}-cluster-admin")
    assert binding not in by_kind()
    assert by_kind(InstallOptions(cluster_admin=True))[binding]["roleRef"]["name"] == "cluster-admin"


def test_the_pod_keeps_to_the_restricted_standard() -> None:
    pod = by_kind()["Deployment", NAME]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"livenessProbe", "readinessProbe"} <= container.keys()


def test_storage_is_an_empty_dir_unless_a_volume_is_asked_for() -> None:
    assert ("PersistentVolumeClaim", NAME) not in by_kind()
    found = by_kind(InstallOptions(storage="5Gi"))
    assert found["PersistentVolumeClaim", NAME]["spec"]["resources"]["requests"] == {"storage": "5Gi"}
    volumes = found["Deployment", NAME]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": NAME}} in volumes


def test_the_arguments_are_options_of_run() -> None:
    from headrace.cli.manifests import arguments
    from headrace.settings import FLAGS

    flags = {argument.removeprefix("--").partition("=")[0] for argument in arguments(InstallOptions(
        default_service_account="x"))[1:]}  # fmt: skip
    assert flags <= set(FLAGS)
