"""flux_leases: Flux next door is seen by its leases."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.cli.flux_leases import components, live_rivals
from headrace.core.clock import SystemClock, rfc3339_micro
from headrace.kube.objects import decode_object
from headrace.model.objects import LiveObject

KUSTOMIZE = "kustomize-controller-leader-election"


def lease(name: str, *, age: float = 1.0, holder: str = "pod_1") -> LiveObject:
    renewed = rfc3339_micro(SystemClock().now() - age)
    return decode_object(msgspec.json.encode({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": "flux-system"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 35, "renewTime": renewed},
    }))  # fmt: skip


@pytest.mark.parametrize(
    ("held", "kinds", "rivals"),
    [
        pytest.param({"name": KUSTOMIZE}, (), 1, id="alive"),
        pytest.param({"name": KUSTOMIZE + "-0a1b2c3d"}, (), 1, id="a shard"),
        pytest.param({"name": "source-watcher-leader-election"}, ("ArtifactGenerator",), 1, id="the source watcher"),
        pytest.param({"name": KUSTOMIZE, "age": 120.0}, (), 0, id="run out"),
        pytest.param({"name": KUSTOMIZE, "holder": ""}, (), 0, id="released"),
        pytest.param({"name": KUSTOMIZE}, ("GitRepository",), 0, id="of a kind that is not served"),
        pytest.param({"name": KUSTOMIZE}, ("Kustomization",), 1, id="of a kind that is served"),
        pytest.param({"name": "helm-controller-leader-election"}, (), 0, id="of a kind that nobody here serves"),
        pytest.param({"name": "headrace-leader-election"}, (), 0, id="our own"),
    ],
)
def test_a_held_lease_of_a_served_kind_is_a_rival(held: dict[str, Any], kinds: tuple[str, ...], rivals: int) -> None:
    assert len(live_rivals([lease(**held)], components(kinds), SystemClock())) == rivals
