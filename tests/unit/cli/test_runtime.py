"""runtime: names and addresses that follow from settings."""

from __future__ import annotations

import pytest

from headrace.cli.runtime import advertised, lease_name
from headrace.settings import load


@pytest.mark.spec("SRC-OPS-03")
def test_a_shard_has_a_lease_of_its_own() -> None:
    assert lease_name(load(env={})) == "headrace-leader-election"
    sharded = lease_name(load({"watch-label-selector": "sharding.fluxcd.io/key=shard1"}, env={}))
    prefix, _, digest = sharded.rpartition("-")
    assert (prefix, len(digest)) == ("headrace-leader-election", 8)


@pytest.mark.parametrize(
    ("told", "listening", "wanted"),
    [
        ("source.flux-system.svc", ":9090", "source.flux-system.svc"),
        ("", ":9090", "localhost:9090"),
        ("", "127.0.0.1:9090", "127.0.0.1:9090"),
        ("", "0.0.0.0:9090", "pod-1:9090"),
    ],
)
def test_the_address_in_artifact_urls(
    told: str, listening: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTNAME", "pod-1")
    assert advertised(told, listening) == wanted
