"""`headrace plan`, `build` and `adopt --dry-run` on what Flux's kustomize-controller has delivered. Nothing here
writes: each test looks at every request that a command has sent."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.delivered import OWNER, Delivered, config_map, delivered, secret, served
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def there(cluster: ControlPlane, tmp_path: Path) -> Iterator[Delivered]:
    with delivered(cluster, tmp_path) as found:
        yield found
        assert found.proxy.requests
        assert not found.writes()


def actions(plan: dict[str, Any]) -> dict[str, str]:
    return {f"{o['kind']}/{o['name']}": o["action"] for o in plan["objects"]}


def reasons(plan: dict[str, Any]) -> dict[str, str]:
    return {f"{o['kind']}/{o['name']}": o["reason"] for o in plan["objects"]}


DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "plans.e2e.headrace.dev"},
    "spec": {
        "group": "e2e.headrace.dev", "scope": "Namespaced",
        "names": {"kind": "Plan", "plural": "plans", "singular": "plan", "listKind": "PlanList"},
        "versions": [{"name": "v1", "served": True, "storage": True,
                      "schema": {"openAPIV3Schema": {"type": "object"}}}],
    },
}  # fmt: skip


def test_the_plan_tells_what_becomes_of_every_object_and_why(there: Delivered) -> None:
    paused = {"annotations": {f"{OWNER}/reconcile": "disabled"}}
    there.apply(config_map("same", {"k": "1"}), config_map("other", {"k": "1"}), config_map("gone", {}),
                config_map("paused", {"k": "1"}, **paused))  # fmt: skip
    there.kustomization("same__ConfigMap", "other__ConfigMap", "gone__ConfigMap", "paused__ConfigMap")
    custom = {"apiVersion": "e2e.headrace.dev/v1", "kind": "Plan", "metadata": {"name": "custom"}}
    there.write("all.yaml", config_map("same", {"k": "1"}), config_map("other", {"k": "2"}),
                config_map("new", {}), config_map("paused", {"k": "2"}), DEFINITION, custom)  # fmt: skip
    plan = there.headrace("plan", "ks", "app", "-n", there.namespace, "--path", there.directory, "-o", "json").data()
    assert actions(plan) == {
        "CustomResourceDefinition/plans.e2e.headrace.dev": "create", "ConfigMap/same": "unchanged",
        "ConfigMap/other": "configure", "ConfigMap/new": "create", "ConfigMap/paused": "skipped",
        "Plan/custom": "unknown until applied", "ConfigMap/gone": "prune",
    }  # fmt: skip
    assert reasons(plan)["Plan/custom"] == "its kind is defined first"
    assert "reconcile: disabled" in reasons(plan)["ConfigMap/paused"]
    changed = next(o for o in plan["objects"] if o["name"] == "other")
    assert changed["fields"] == [{"path": "data.k", "before": "1", "after": "2"}]
    assert changed["file"] == "apps/all.yaml"
    assert plan["summary"]["create"] == 2
    table = there.headrace("plan", "ks/app", "-n", there.namespace, "--path", there.directory).ok()
    assert f"ConfigMap/{there.namespace}/other\t" in table.replace("  ", "").replace(" \t", "\t")
    assert "differs: data.k" in table
    assert "2 create, 1 configure, 1 unchanged, 1 skipped, 1 prune, 1 unknown until applied" in table


def test_the_plan_of_a_namespace_that_comes_first_is_unknown_inside_of_it(there: Delivered) -> None:
    there.kustomization(targetNamespace=None)
    name = f"{there.namespace}-later"
    there.write("all.yaml", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
                config_map("inside", {}, namespace=name))  # fmt: skip
    plan = there.headrace("plan", "ks", "app", "-n", there.namespace, "--path", there.directory, "-o", "json").data()
    assert actions(plan) == {f"Namespace/{name}": "create", "ConfigMap/inside": "unknown until applied"}
    assert reasons(plan)["ConfigMap/inside"] == "its namespace is created first"


def test_without_a_path_the_current_artifact_of_the_source_is_planned(there: Delivered, tmp_path: Path) -> None:
    there.write("a.yaml", config_map("a", {"k": "1"}))
    there.kustomization()
    folder = tmp_path / "served"
    folder.mkdir()
    with served(folder) as address:
        there.artifact(address, folder)
        plan = there.headrace("plan", "ks", "app", "-n", there.namespace, "-o", "json").data()
    assert (actions(plan), plan["revision"]) == ({"ConfigMap/a": "create"}, "main@sha1:abc")


def test_what_the_cluster_refuses_is_failed_and_the_rest_is_told(there: Delivered) -> None:
    there.kustomization()
    there.write("all.yaml", config_map("Bad_Name", {}), config_map("good", {}))
    done = there.headrace("plan", "ks", "app", "-n", there.namespace, "--path", there.directory)
    assert done.code == 1
    assert "1 create, 1 failed" in done.out
    assert "dry-run failed (Invalid)" in done.out


def test_an_immutable_field_is_planned_as_made_anew_where_force_is_set(there: Delivered) -> None:
    there.apply(config_map("fixed", {"k": "1"}) | {"immutable": True})
    there.kustomization("fixed__ConfigMap", force=True)
    there.write("all.yaml", config_map("fixed", {"k": "2"}) | {"immutable": True})
    plan = there.headrace("plan", "ks", "app", "-n", there.namespace, "--path", there.directory, "-o", "json").data()
    assert reasons(plan) == {"ConfigMap/fixed": "a field is immutable: force"}
    assert there.get("configmap", "fixed")["data"] == {"k": "1"}


def test_build_prints_what_would_be_applied_with_variables_of_the_cluster(there: Delivered) -> None:
    there.administrator.kubectl("create", "secret", "generic", "vars", "-n", there.namespace, "--from-literal=V=one")
    there.kustomization(postBuild={"substituteFrom": [{"kind": "Secret", "name": "vars"}]})
    there.write("all.yaml", config_map("a", {"k": "is ${V}"}))
    built = there.headrace("build", "kustomization", "app", "-n", there.namespace, "--path", there.directory).ok()
    (found,) = yaml.safe_load_all(built)
    assert found["data"] == {"k": "is one"}
    assert found["metadata"]["labels"] == {f"{OWNER}/name": "app", f"{OWNER}/namespace": there.namespace}


def test_build_without_a_cluster_takes_the_kustomization_of_a_file(there: Delivered, tmp_path: Path) -> None:
    there.headrace("get", "ks", "-n", there.namespace)
    sent = len(there.proxy.requests)
    there.write("all.yaml", config_map("a", {"k": "is ${V}"}))
    encrypted = secret("s", {"a": "ENC[AES256_GCM,data:x]"}) | {"sops": {"mac": "ENC[AES256_GCM,data:y]"}}
    there.write("secret.yaml", encrypted)
    spec = {"interval": "1h", "prune": True, "path": "./apps", "sourceRef": {"kind": "GitRepository", "name": "app"},
            "postBuild": {"substitute": {"V": "two"}, "substituteFrom": [{"kind": "Secret", "name": "v"}]}}  # fmt: skip
    document = {"apiVersion": f"{OWNER}/v1", "kind": "Kustomization", "metadata": {"name": "app"}, "spec": spec}
    file = tmp_path / "ks.yaml"
    file.write_text(yaml.safe_dump(document))
    argv = ("build", "ks", "app", "--path", there.directory, "--dry-run")
    assert there.headrace(*argv).code == 2
    found = {o["kind"]: o for o in yaml.safe_load_all(there.headrace(*argv, "--kustomization-file", file).ok())}
    assert found["ConfigMap"]["data"] == {"k": "is two"}
    assert base64.b64decode(found["Secret"]["data"]["a"]).decode() == "**SOPS**"
    assert len(there.proxy.requests) == sent
    there.write("all.yaml", config_map("a", {"k": "is ${UNSET}"}))
    assert there.headrace(*argv, "--kustomization-file", file).code == 0
    strict = there.headrace(*argv, "--kustomization-file", file, "--strict-substitute")
    assert strict.code == 1
    assert "UNSET" in strict.err


def test_adopt_tells_what_would_differ_object_by_object(there: Delivered, tmp_path: Path) -> None:
    there.apply(config_map("same", {"k": "1"}), config_map("drifted", {"k": "1"}))
    there.apply(config_map("theirs", {"k": "1"}), owner="another")
    there.kustomization("same__ConfigMap", "drifted__ConfigMap")
    there.write("all.yaml", config_map("same", {"k": "1"}), config_map("drifted", {"k": "2"}),
                config_map("theirs", {"k": "1"}))  # fmt: skip
    folder = tmp_path / "served"
    folder.mkdir()
    with served(folder) as address:
        there.artifact(address, folder)
        told = there.headrace("adopt", "--dry-run", "-n", there.namespace).ok()
        (data,) = there.headrace("adopt", "--dry-run", "-n", there.namespace, "-o", "json").data()
    assert actions(data) == {"ConfigMap/same": "unchanged", "ConfigMap/drifted": "configure",
                             "ConfigMap/theirs": "foreign"}  # fmt: skip
    assert "differs: data.k" in told
    assert f"owned by Kustomization/{there.namespace}/another" in told
    assert "ConfigMap/" + there.namespace + "/same" not in told
    assert "1 Kustomizations: 1 configure, 1 foreign, 1 unchanged" in told


def test_adopt_looks_at_every_kustomization_and_one_that_cannot_be_told_hides_no_other(
    there: Delivered, tmp_path: Path
) -> None:
    for name in ("a", "b", "c", "d", "e"):
        there.kustomization(name=name, path=f"./apps/{name}")
        if name != "c":
            there.write(f"{name}/all.yaml", config_map(name, {}))
    folder = tmp_path / "served"
    folder.mkdir()
    with served(folder) as address:
        there.artifact(address, folder)
        done = there.headrace("adopt", "--dry-run", "-n", there.namespace)
    assert done.code == 1
    assert "5 Kustomizations: 4 create" in done.out
    assert f"Kustomization/{there.namespace}/c: kustomization path not found: ./apps/c" in done.err


def test_adopt_needs_no_command_but_the_one_that_only_looks(there: Delivered) -> None:
    there.headrace("get", "ks", "-n", there.namespace)
    done = there.headrace("adopt", "-n", there.namespace)
    assert done.code == 2
    assert "taking over needs no command" in done.err
