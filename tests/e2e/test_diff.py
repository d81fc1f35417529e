"""`headrace diff kustomization`: output and exit codes of flux, and no value of a Secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Done
from tests.e2e.delivered import OWNER, Delivered, config_map, delivered, secret
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.timeout(300)

OLD, NEW = (base64.b64encode(text.encode()).decode() for text in ("old-canary", "new-canary"))


@pytest.fixture
def there(cluster: ControlPlane, tmp_path: Path) -> Iterator[Delivered]:
    with delivered(cluster, tmp_path) as found:
        yield found
        assert not found.writes()


def diff(there: Delivered, name: str = "app") -> Done:
    return there.headrace("diff", "kustomization", name, "-n", there.namespace, "--path", there.directory)


def test_nothing_is_printed_and_the_exit_code_is_0_when_nothing_differs(there: Delivered) -> None:
    there.apply(config_map("same", {"k": "1"}), secret("s", {"k": OLD}))
    there.kustomization("same__ConfigMap", "s__Secret")
    there.write("all.yaml", config_map("same", {"k": "1"}), secret("s", {"k": OLD}))
    done = diff(there)
    assert (done.code, done.out) == (0, "")
    assert len(there.dry_runs()) == 2


def test_what_differs_is_printed_field_by_field_and_the_exit_code_is_1(there: Delivered) -> None:
    there.apply(config_map("drifted", {"k": "1", "old": "x"}), config_map("gone", {}))
    there.kustomization("drifted__ConfigMap", "gone__ConfigMap")
    there.write("all.yaml", config_map("drifted", {"k": "2"}), config_map("new", {}))
    done = diff(there)
    assert done.code == 1, done.said
    where = f"ConfigMap/{there.namespace}"
    assert done.out.split("\n") == [
        f"► {where}/drifted drifted",
        "", "data.k", "  ± value change", "    - 1", "    + 2",
        "", "data", "  - one map entry removed:", "    old: x", "",
        f"► {where}/new created",
        f"► {where}/gone deleted", "",
    ]  # fmt: skip


def test_without_prune_nothing_is_deleted(there: Delivered) -> None:
    there.apply(config_map("gone", {}))
    there.kustomization("gone__ConfigMap", prune=False)
    there.write("kustomization.yaml", {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"})
    done = diff(there)
    assert (done.code, done.out) == (0, ""), done.said


@pytest.mark.spec("SEC-36")
def test_values_of_secrets_are_masked_the_annotation_of_kubectl_included(there: Delivered) -> None:
    there.kubectl("apply", "-f", "-", stdin=json.dumps(secret("s", {"same": OLD, "k": OLD, "gone": OLD})))
    there.kustomization()
    there.write("all.yaml", secret("s", {"same": OLD, "k": NEW, "more": NEW}))
    done = diff(there)
    assert done.code == 1
    for value in (OLD, NEW, "old-canary", "new-canary"):
        assert value not in done.said
    assert "data.k\n  ± value change\n    - ***** (before)\n    + ***** (after)" in done.out
    assert "    more: '***** (after)'" in done.out
    plan = there.headrace("plan", "ks", "app", "-n", there.namespace, "--path", there.directory, "-o", "json")
    for value in (OLD, NEW, "old-canary", "new-canary"):
        assert value not in plan.said


def test_of_an_encrypted_secret_only_the_keys_are_compared(there: Delivered) -> None:
    there.apply(secret("s", {"k": OLD}))
    there.kustomization("s__Secret")
    encrypted = {"sops": {"mac": "ENC[AES256_GCM,data:y]"}}
    there.write("all.yaml", secret("s", {"k": "ENC[AES256_GCM,data:x]"}) | encrypted)
    assert diff(there).code == 0
    there.write("all.yaml", secret("s", {"k": "ENC[AES256_GCM,data:x]", "l": "ENC[AES256_GCM,data:z]"}) | encrypted)
    done = diff(there)
    assert done.code == 1
    assert f"► Secret/{there.namespace}/s drifted" in done.out
    assert "    l: " in done.out
    assert "data.k" not in done.out


def test_values_of_variables_from_secrets_are_masked_wherever_they_go(there: Delivered) -> None:
    there.administrator.kubectl("create", "secret", "generic", "vars", "-n", there.namespace, "--from-literal=V=canary")
    there.apply(config_map("a", {"k": "before"}))
    there.kustomization("a__ConfigMap", postBuild={"substituteFrom": [{"kind": "Secret", "name": "vars"}]})
    there.write("all.yaml", config_map("a", {"k": "is ${V}"}))
    done = diff(there)
    assert done.code == 1
    assert "canary" not in done.said
    assert "    + is ***" in done.out


def test_what_fails_has_an_exit_code_above_1(there: Delivered) -> None:
    there.kustomization()
    assert diff(there, "none").code > 1
    assert there.headrace("diff", "ks", "app", "-n", there.namespace, "--path", "/nonexistent").code > 1
    there.write("all.yaml", config_map("Bad_Name", {}))
    done = diff(there)
    assert done.code > 1
    assert "dry-run failed" in done.err
    (there.directory / "all.yaml").write_text("{")
    assert diff(there).code > 1


def test_an_object_that_is_taken_over_from_kubectl_counts_as_drifted(there: Delivered) -> None:
    labels = {"labels": {f"{OWNER}/name": "app", f"{OWNER}/namespace": there.namespace}}
    there.kubectl("apply", "-f", "-", stdin=json.dumps(config_map("a", {"k": "1"}, **labels)))
    there.kustomization("a__ConfigMap")
    there.write("all.yaml", config_map("a", {"k": "1"}))
    done = diff(there)
    assert done.code == 1
    assert "fields of another manager are taken over" in done.out


def test_fields_that_are_ignored_are_no_difference(there: Delivered) -> None:
    there.apply(config_map("a", {"mine": "1", "k": "1"}))
    there.kustomization("a__ConfigMap", ignore=[{"paths": ["/data/k"]}])
    there.write("all.yaml", config_map("a", {"mine": "1", "k": "2"}))
    assert (diff(there).code, diff(there).out) == (0, "")
    there.write("all.yaml", config_map("a", {"mine": "2", "k": "2"}))
    done = diff(there)
    assert done.code == 1
    assert "data.mine" in done.out
    assert "data.k" not in done.out
