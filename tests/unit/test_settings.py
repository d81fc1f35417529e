"""settings: flags, environment and file as views of one tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli.options import kustomization_options
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


SOURCE_FLAGS = {
    "metrics-addr": ":8080", "events-addr": "", "health-addr": ":9440", "requeue-dependency": "30s",
    "storage-path": "/data", "storage-addr": ":9090", "storage-adv-addr": "", "artifact-retention-ttl": "1m0s",
    "artifact-retention-records": "2", "artifact-digest-algo": "sha256", "helm-index-max-size": "52428800",
    "helm-chart-max-size": "10485760", "helm-chart-file-max-size": "5242880", "helm-cache-max-size": "0",
    "helm-cache-ttl": "15m0s", "helm-cache-purge-interval": "1m0s", "token-cache-max-size": "100",
    "token-cache-max-duration": "1h0m0s", "ssh-kex-algos": "", "ssh-hostkey-algos": "",
    "interval-jitter-percentage": "5", "min-retry-delay": "750ms", "max-retry-delay": "15m0s",
    "watch-all-namespaces": "true", "watch-label-selector": "", "kube-api-qps": "50.0", "kube-api-burst": "300",
    "log-level": "info", "log-encoding": "json", "enable-leader-election": "false",
    "leader-election-release-on-cancel": "true", "leader-election-lease-duration": "35s",
    "leader-election-renew-deadline": "30s", "leader-election-retry-period": "5s", "default-service-account": "",
    "feature-gates": "", "object-level-workload-identity": "false", "http-retry": "9",
    "reconciliation-timeout": "10m0s", "source-watcher-requeue-dependency": "5s", "no-cross-namespace-refs": "false",
    "external-artifact": "false",
}  # fmt: skip
"""Flags of upstream's source-controller and source-watcher, as sources.md section 5 has them, with their defaults."""

SOURCE_ENVIRONMENT = {
    "METRICS_ADDR": "metrics-addr", "EVENTS_ADDR": "events-addr", "STORAGE_PATH": "storage-path",
    "STORAGE_ADDRESS": "storage-addr", "STORAGE_ADV_ADDR": "storage-adv-addr",
    "RUNTIME_NAMESPACE": "runtime-namespace",
}  # fmt: skip


@pytest.mark.spec("SRC-OPS-01")
@pytest.mark.parametrize("flag", SOURCE_FLAGS)
def test_the_flags_of_the_source_controllers_have_their_defaults(flag: str) -> None:
    assert FLAGS[flag].shown_default == SOURCE_FLAGS[flag]


@pytest.mark.spec("SRC-OPS-01")
@pytest.mark.parametrize("name", SOURCE_ENVIRONMENT)
def test_the_environment_of_the_source_controllers_is_read_and_flags_beat_it(name: str) -> None:
    leaf, given = FLAGS[SOURCE_ENVIRONMENT[name]], "http://given/"

    def value(**flags: object) -> object:
        settings = load({key.replace("_", "-"): said for key, said in flags.items()}, env={name: given})
        return getattr(getattr(settings, leaf.section), leaf.name)

    assert value() == given
    assert value(**{leaf.name: "http://flag/"}) == "http://flag/"


@pytest.mark.spec("SRC-OPS-01")
def test_feature_gates_set_what_they_stand_for_unless_it_is_set_itself() -> None:
    gates = {"feature-gates": "ExternalArtifact=true,ObjectLevelWorkloadIdentity=true,CacheSecretsAndConfigMaps=false"}
    opened = load(gates, env={})
    assert opened.engine.external_artifact
    assert opened.tenancy.object_level_workload_identity
    assert not load(gates | {"external-artifact": "false"}, env={}).engine.external_artifact
    assert not load({"feature-gates": "ExternalArtifact=false"}, env={}).engine.external_artifact


KUSTOMIZE_FLAGS = {
    "metrics-addr": ":8080", "events-addr": "", "health-addr": ":9440", "concurrent-ssa": "4",
    "requeue-dependency": "30s", "no-remote-bases": "false", "http-retry": "9", "default-service-account": "",
    "default-decryption-service-account": "", "default-kubeconfig-service-account": "", "sops-age-secret": "",
    "sops-vault-configmap": "", "override-manager": "", "custom-apply-stage-kinds": "", "kube-api-qps": "50.0",
    "kube-api-burst": "300", "insecure-kubeconfig-exec": "false", "insecure-kubeconfig-tls": "false",
    "feature-gates": "", "watch-configs-label-selector": "reconcile.fluxcd.io/watch=Enabled",
}  # fmt: skip
"""Flags of upstream's kustomize-controller, with their defaults; `concurrent` has another one on purpose."""


@pytest.mark.parametrize("flag", KUSTOMIZE_FLAGS)
def test_the_flags_of_the_kustomize_controller_have_their_defaults(flag: str) -> None:
    assert FLAGS[flag].shown_default == KUSTOMIZE_FLAGS[flag]


KUSTOMIZE_GATES = {
    "AdditiveCELDependencyCheck": False, "CacheSecretsAndConfigMaps": False, "CancelHealthCheckOnNewRevision": True,
    "DirectSourceFetch": False, "DisableConfigWatchers": False, "DisableFailFastBehavior": False,
    "DisableStatusPollerCache": True, "ExternalArtifact": False, "GroupChangeLog": False, "MigrateAPIVersion": False,
    "ObjectLevelWorkloadIdentity": False, "StrictPostBuildSubstitutions": True,
}  # fmt: skip
"""Feature gates of upstream's kustomize-controller as they are here without anybody saying so."""


@pytest.mark.parametrize("gate", KUSTOMIZE_GATES)
def test_the_gates_of_the_kustomize_controller_are_known_and_say_what_is_the_default(gate: str) -> None:
    stated = load({"feature-gates": f"{gate}={str(KUSTOMIZE_GATES[gate]).lower()}"}, env={})
    assert kustomization_options(stated) == kustomization_options(load({}, env={}))


def test_gates_of_flux_change_how_kustomizations_are_built_and_waited_for() -> None:
    gates = "StrictPostBuildSubstitutions=false,DisableFailFastBehavior=true"
    options = kustomization_options(load({"feature-gates": gates}, env={}))
    assert (options.strict_substitutions, options.fail_fast) == (False, False)


@pytest.mark.parametrize("text", ["Nothing=true", "ExternalArtifact", "CancelHealthCheckOnNewRevision=false"])
def test_a_feature_gate_that_cannot_be_met_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match=text.partition("=")[0]):
        load({"feature-gates": text}, env={})


@pytest.mark.parametrize(
    ("flags", "lent"),
    [({}, True), ({"tenancy": "strict"}, False), ({"tenancy": "strict", "relax": "decryption"}, False),
     ({"tenancy": "strict", "relax": "decryption,identity"}, True)],
)  # fmt: skip
def test_the_engines_own_identity_decrypts_for_nobody_under_strict_tenancy(
    flags: dict[str, str], lent: bool
) -> None:
    assert kustomization_options(load(flags, env={})).decryption.own_identity is lent
