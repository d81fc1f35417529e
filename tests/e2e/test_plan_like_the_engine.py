"""`plan` and `diff` as the engine would act: settings, budgets, other owners, decryption."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.delivered import Delivered, config_map, delivered, secret
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.timeout(300)

SOPS = Path(__file__).parents[1] / "golden" / "sops"
SECRET, WORD = "correct-horse-battery", "open-sesame-now"
DECRYPTION = {"provider": "sops", "secretRef": {"name": "keys"}}


@pytest.fixture
def there(cluster: ControlPlane, tmp_path: Path) -> Iterator[Delivered]:
    with delivered(cluster, tmp_path) as found:
        yield found
        assert found.proxy.requests
        assert not found.writes()


def plan(there: Delivered) -> dict[str, Any]:
    found: dict[str, Any] = there.headrace(
        "plan", "ks", "app", "-n", there.namespace, "--path", there.directory, "-o", "json").data()
    return found


def planned(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {o["name"]: (o["action"], o["reason"]) for o in found["objects"]}


def test_a_deletion_that_a_budget_holds_is_said_and_not_counted_as_one(there: Delivered) -> None:
    there.apply(config_map("a", {}), config_map("b", {}))
    there.kustomization("a__ConfigMap", "b__ConfigMap")
    there.write("all.yaml", config_map("c", {}))
    assert plan(there)["summary"] == {"create": 1, "prune": 2}
    there.kubectl("annotate", "kustomization", "app", "headrace.dev/prune-budget=1")
    found = plan(there)
    assert planned(found)["a"] == ("skipped", "its deletion is held by the prune budget")
    assert found["summary"] == {"create": 1, "skipped": 2}
    assert "2 objects are to be deleted, the budget is 1" in found["held"]
    done = there.headrace("diff", "ks", "app", "-n", there.namespace, "--path", there.directory)
    assert done.code == 1
    assert "► deletion is held" in done.out
    assert "a deleted\n" not in done.out


def test_the_engines_own_budget_and_account_count(there: Delivered) -> None:
    there.apply(config_map("a", {}), config_map("b", {}))
    there.kustomization("a__ConfigMap", "b__ConfigMap")
    there.write("all.yaml", config_map("c", {}))
    there.headrace.env["HEADRACE_PRUNE_BUDGET"] = "1"
    assert "the budget is 1" in plan(there)["held"]
    there.headrace.env["HEADRACE_DEFAULT_SERVICE_ACCOUNT"] = "tenant"
    done = there.headrace("plan", "ks", "app", "-n", there.namespace, "--path", there.directory)
    assert done.code == 1
    assert f"system:serviceaccount:{there.namespace}:tenant" in done.said


def test_what_another_kustomization_lists_is_handed_over(there: Delivered) -> None:
    there.apply(config_map("moved", {}), config_map("gone", {}))
    there.kustomization("moved__ConfigMap", "gone__ConfigMap")
    there.kustomization("moved__ConfigMap", name="other")
    there.write("all.yaml", config_map("new", {}))
    told = planned(plan(there))
    assert told["moved"] == ("skipped", f"is handed over to Kustomization/{there.namespace}/other")
    assert told["gone"][0] == "prune"


def keys(there: Delivered, name: str) -> None:
    content = base64.b64encode((SOPS / "keys" / name).read_bytes()).decode()
    there.kubectl("apply", "-f", "-", stdin=json.dumps(secret("keys", {name: content})))


def test_what_may_be_decrypted_is_compared_and_never_shown(there: Delivered) -> None:
    encoded = base64.b64encode(SECRET.encode()).decode()
    there.apply(secret("whole", {"password": encoded}), config_map("map", {"word": "before"}))
    there.kustomization("whole__Secret", "map__ConfigMap", decryption=DECRYPTION)
    for name in ("whole", "map"):
        (there.directory / f"{name}.yaml").write_text((SOPS / f"{name}.yaml").read_text())
    masked = planned(plan(there))
    assert masked["whole"] == ("unchanged", "same keys, values encrypted")
    keys(there, "one.agekey")
    found = plan(there)
    assert planned(found)["whole"][0] == "unchanged"
    assert "encrypted" not in planned(found)["whole"][1]
    changed = next(o for o in found["objects"] if o["name"] == "map")
    assert changed["fields"] == [{"path": "data.word", "before": "*****", "after": "*****"}]
    there.apply(secret("whole", {"password": base64.b64encode(b"another").decode()}))
    done = there.headrace("diff", "ks", "app", "-n", there.namespace, "--path", there.directory)
    assert done.code == 1
    assert f"Secret/{there.namespace}/whole drifted" in done.out
    for hidden in (SECRET, encoded, WORD):
        assert hidden not in done.said


def test_keys_that_do_not_fit_are_said_and_masks_compared(there: Delivered) -> None:
    there.apply(secret("whole", {"password": "eA=="}))
    there.kustomization("whole__Secret", decryption=DECRYPTION)
    (there.directory / "whole.yaml").write_text((SOPS / "whole.yaml").read_text())
    keys(there, "stranger.agekey")
    done = there.headrace("plan", "ks", "app", "-n", there.namespace, "--path", there.directory)
    assert "not decrypted" in done.err
    assert "same keys, values encrypted" in done.out
