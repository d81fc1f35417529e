"""settings: flags, environment and file as views of one tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.settings import FLAGS, LEAVES, SettingsError, load


def test_defaults_are_those_of_upstream() -> None:
    settings = load(env={})
    assert settings.engine.requeue_dependency == 30.0
    assert settings.apply.concurrent_ssa == 4
    assert settings.edge.metrics_addr == ":8080"
    assert settings.edge.health_addr == ":9440"
    assert settings.storage.storage_addr == ":9090"
    assert not settings.leader_election.enable_leader_election


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("metrics-addr: ':1'\nhealth-addr: ':2'\nlog-level: debug\n")
    env = {"HEADRACE_HEALTH_ADDR": ":3", "HEADRACE_LOG_LEVEL": "error"}
    settings = load({"log-level": "trace"}, env=env, file=file)
    assert (settings.edge.metrics_addr, settings.edge.health_addr, settings.log.log_level) == (":1", ":3", "trace")


def test_the_environment_variables_of_upstream_are_read_and_own_ones_beat_them() -> None:
    assert load(env={"STORAGE_PATH": "/x"}).storage.storage_path == "/x"
    assert load(env={"STORAGE_PATH": "/x", "HEADRACE_STORAGE_PATH": "/y"}).storage.storage_path == "/y"


def test_durations_are_written_as_go_does() -> None:
    assert load({"requeue-dependency": "1m5s"}, env={}).engine.requeue_dependency == 65.0


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        pytest.param({"nothing": "1"}, "nothing", id="unknown flag"),
        pytest.param({"requeue-dependency": "soon"}, "requeue-dependency", id="no duration"),
        pytest.param({"concurrent": "many"}, "concurrent", id="no number"),
        pytest.param({"concurrent": "0"}, "concurrent", id="no worker"),
        pytest.param({"watch-all-namespaces": "maybe"}, "watch-all-namespaces", id="no truth value"),
        pytest.param({"tenancy": "lax"}, "tenancy", id="unknown tenancy"),
        pytest.param({"interval-jitter-percentage": "100"}, "interval-jitter-percentage", id="jitter of the whole"),
        pytest.param({"leader-election-retry-period": "40s"}, "retry-period", id="lease times that do not fit"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(flags: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load(flags, env={})


def test_every_leaf_has_a_description_and_a_flag_of_its_own() -> None:
    assert all(len(leaf.description) > 20 for leaf in LEAVES)
    assert len({leaf.flag for leaf in LEAVES}) == len(LEAVES)
    assert {leaf.flag for leaf in LEAVES} == set(FLAGS)


def test_every_shown_default_parses_to_the_default() -> None:
    for leaf in LEAVES:
        assert leaf.parse(leaf.shown_default, leaf.flag) == leaf.default


@pytest.mark.spec("KS-OPS-03")
@pytest.mark.parametrize("flag", ["default-decryption-service-account", "default-kubeconfig-service-account"])
def test_a_default_account_for_tokens_needs_the_gate(flag: str) -> None:
    with pytest.raises(SettingsError, match=f"{flag} needs the feature gate ObjectLevelWorkloadIdentity"):
        load({flag: "tenant"}, env={})
    assert load({flag: "tenant", "object-level-workload-identity": "true"}, env={})
