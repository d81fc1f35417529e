"""Settings: one frozen tree; flags, environment variables and a file are views of it.

Every leaf is declared by `setting(default, description)`; the description, with the unit and the reason for the
default, is the leaf's documentation and its text in `--help`. A leaf's flag is its name with dashes. Names and defaults
are those of Flux's controllers (spec: kustomization.md 6, sources.md 5) unless the description says why not. A setting
that several controllers have upstream is one here, since one pool of workers serves all kinds.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.core.digests import ALGORITHMS
from headrace.core.duration import format_duration, parse_duration

MINUTE = 60.0

STRICT_POINTS = {
    "identity": "objects without serviceAccountName act as the engine itself",
    "references": "references may lead to other namespaces",
    "remote-bases": "kustomize bases may be fetched by URL",
    "networks": "sources may name addresses of the cluster",
    "ownership": "objects that another owner holds are taken over",
    "recreation": "force recreates objects that hold data",
    "substitution": "variables may change the structure of objects",
    "intervals": "intervals may be as short as objects say",
    "kubeconfig": "the insecure-kubeconfig settings count",
    "registries": "OCI sources may ask for registries without TLS or with any certificate",
    "decryption": "the age keys of sops-age-secret serve all namespaces",
}
"""What `--tenancy=strict` turns on, by the name with which `--relax` turns it off, and what is the case then."""

STRICT_MIN_INTERVAL = 30.0
"""Seconds: the floor of intervals under strict tenancy (that of kapp-controller)."""


class SettingsError(ValueError):
    """A flag, variable or line of the settings file that cannot be used; the message names it."""


def setting(default: Any, description: str, *, duration: bool = False, env: str = "") -> Any:
    """Declare a leaf. `duration`: seconds, written as `1m30s`. `env`: the environment variable upstream reads."""
    metadata = {"description": description, "duration": duration, "env": env}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplySettings:
    """How Kustomizations are built and applied (upstream: kustomize-controller)."""

    concurrent_ssa: int = setting(4, "Server-side applies of one object in flight. Upstream's default.")
    no_remote_bases: bool = setting(False, "Refuse kustomize bases by URL. Off, as Flux; on under strict tenancy.")
    override_manager: tuple[str, ...] = setting(
        (), "Further field managers (comma separated) whose changes are taken over. Empty, as Flux."
    )
    custom_apply_stage_kinds: tuple[str, ...] = setting(
        (), "Kinds (group/Kind or Kind, comma separated) applied after classes and before the rest. Empty, as Flux."
    )
    additive_cel_dependency_check: bool = setting(
        False, "A readyExpr adds to the built-in test of a dependency, instead of replacing it. Off, as Flux's gate."
    )
    prune_budget: int = setting(-1, "Objects that one run may delete without approval. Negative: any number, as Flux.")
    prune_protected_kinds: tuple[str, ...] = setting(
        ("CustomResourceDefinition", "Namespace", "PersistentVolumeClaim"),
        "Kinds (Kind or group/Kind, comma separated) never deleted without approval where a prune budget is set.",
    )
    sops_age_secret: str = setting(
        "", "Secret in the runtime namespace with age keys for objects whose decryption names none. Empty, as Flux."
    )
    sops_vault_configmap: str = setting(
        "", "ConfigMap in the runtime namespace that lists Vault servers and login paths (config.yaml). Empty, as Flux."
    )
    sops_ca_file: str = setting("", "PEM file of CAs that key services are trusted by, besides the system's.")
    sops_aws_kms_endpoint: str = setting(
        "", "URL of AWS KMS where it is not the public one.", env="AWS_ENDPOINT_URL_KMS"
    )
    sops_gcp_kms_endpoint: str = setting(
        "", "URL of GCP KMS where it is not the public one.", env="SOPS_GCP_KMS_ENDPOINT"
    )
    strict_post_build_substitutions: bool = setting(
        True, "A variable that is neither set nor defaulted fails the build; else it is empty. On, as Flux's gate."
    )
    disable_fail_fast_behavior: bool = setting(
        False, "A failed object does not end the wait for the health of the others. Off, as Flux's gate."
    )
    migrate_api_version: bool = setting(
        False, "Rewrite the API versions in managedFields before an apply. Off, as Flux's gate."
    )
    insecure_kubeconfig_exec: bool = setting(False, "Run exec plugins named in kubeconfig Secrets. Off: runs code.")
    insecure_kubeconfig_tls: bool = setting(False, "Accept kubeconfig Secrets without TLS verification. Off.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenancySettings:
    """Who may do what; Flux's defaults, since manifests run unchanged."""

    tenancy: str = setting("flux", "`flux`: Flux's defaults. `strict`: everything that separates tenants is on.")
    no_cross_namespace_refs: bool = setting(False, "Refuse sourceRef to another namespace. Off, as Flux.")
    default_service_account: str = setting("", "Account to impersonate when an object names none. Empty, as Flux.")
    relax: tuple[str, ...] = setting(
        (), f"Points of strict tenancy (comma separated) that are off, as statuses say: {', '.join(STRICT_POINTS)}."
    )
    min_interval: float = setting(
        0.0, "Shortest interval that is followed, whatever objects say. 0: any, as Flux; 30s in strict.", duration=True
    )
    cluster_networks: tuple[str, ...] = setting(
        (), "Networks (CIDR, comma separated) closed to sources. Under strict, what the API server tells is added."
    )
    verified_namespaces: tuple[str, ...] = setting(
        (), "Namespaces (comma separated, * for all) whose sources must have spec.verify. Empty, as Flux."
    )
    object_level_workload_identity: bool = setting(
        False, "Let objects name a ServiceAccount whose tokens authenticate elsewhere. Off, as Flux's gate."
    )
    default_decryption_service_account: str = setting(
        "", "Account for decryption when an object names none; needs object-level-workload-identity. Empty, as Flux."
    )
    default_kubeconfig_service_account: str = setting(
        "", "Account for clusters of ConfigMaps that name none; needs object-level-workload-identity. Empty, as Flux."
    )
    allow_loopback: bool = setting(False, "Let sources name loopback addresses. Off: that is the engine's own machine.")
    registry_token_hosts: tuple[str, ...] = setting(
        (), "Token servers (hosts, comma separated) that get credentials of registries of other domains. Empty."
    )
    sigstore_trusted_root: str = setting(
        "", "trusted_root.json for keyless signatures of objects that name none. Empty: those are refused."
    )
    allow_hosts: tuple[str, ...] = setting(
        (), "Hosts (comma separated, `host` or `host:port`) that sources may name wherever their addresses lead."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Where artifacts are kept and served."""

    storage_path: str = setting("/data", "Folder of the artifacts. Upstream's default.", env="STORAGE_PATH")
    storage_addr: str = setting(":9090", "Address of the artifact server. Upstream's default.", env="STORAGE_ADDRESS")
    storage_adv_addr: str = setting(
        "",
        "Host and port in artifact URLs. Empty: from storage-addr, 0.0.0.0 becomes $HOSTNAME.",
        env="STORAGE_ADV_ADDR",
    )
    artifact_retention_ttl: float = setting(
        MINUTE, "How long an old artifact is kept at least. Upstream's default.", duration=True
    )
    artifact_retention_records: int = setting(2, "How many artifacts of a source are kept. Upstream's default.")
    artifact_digest_algo: str = setting("sha256", "Digest in status.artifact: sha256, sha384, sha512 or blake3.")
    state_path: str = setting("", "Folder of the local store of applied digests. Empty: below storage-path.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """How sources are fetched (upstream: source-controller, source-watcher)."""

    helm_index_max_size: int = setting(52428800, "Bytes of a Helm repository's index. Upstream's default.")
    helm_chart_max_size: int = setting(10485760, "Bytes of a packaged chart. Upstream's default.")
    helm_chart_file_max_size: int = setting(5242880, "Bytes of one file of a chart. Upstream's default.")
    helm_cache_max_size: int = setting(0, "Without effect: indexes are kept once for all on disk. Upstream's default.")
    helm_cache_ttl: float = setting(
        15 * MINUTE, "Without effect, as helm-cache-max-size. Upstream's default.", duration=True
    )
    helm_cache_purge_interval: float = setting(
        MINUTE, "Without effect, as helm-cache-max-size. Upstream's default.", duration=True
    )
    ssh_kex_algos: tuple[str, ...] = setting(
        (), "Key exchange algorithms for git over SSH, comma separated, best first. Empty: the library's."
    )
    ssh_hostkey_algos: tuple[str, ...] = setting(
        (), "Host key algorithms for git over SSH, comma separated, best first. Empty: the library's."
    )
    http_retry: int = setting(9, "Without effect: a download that fails is repeated by the engine. Upstream's default.")
    kube_api_qps: float = setting(50.0, "Without effect: the API server's answers pace the engine. Upstream's default.")
    kube_api_burst: int = setting(300, "Without effect, as kube-api-qps. Upstream's default.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Timers and reach of the engine."""

    concurrent: int = setting(
        50, "Objects worked on at the same time, all kinds together. Upstream's 2 to 4 are held by waits; here none is."
    )
    requeue_dependency: float = setting(
        30.0, "Fallback after which a missing dependency is looked at again; events come first.", duration=True
    )
    interval_jitter_percentage: int = setting(5, "Spread of intervals, plus or minus percent. Upstream's default.")
    min_retry_delay: float = setting(0.75, "First delay after a failure. Upstream's default.", duration=True)
    max_retry_delay: float = setting(15 * MINUTE, "Longest delay after failures. Upstream's default.", duration=True)
    watch_all_namespaces: bool = setting(True, "Serve all namespaces; else only $RUNTIME_NAMESPACE.")
    watch_label_selector: str = setting("", "Serve only objects with these labels (sharding.fluxcd.io/key=...).")
    watch_configs_label_selector: str = setting(
        "reconcile.fluxcd.io/watch=Enabled",
        "Without effect: every ConfigMap and Secret that is referred to is watched. Upstream's default.",
    )
    external_artifact: bool = setting(
        False, "Let deliveries name ExternalArtifacts as their source. Off, as Flux's gate."
    )
    source_watcher_requeue_dependency: float = setting(
        5.0, "Fallback after which an ArtifactGenerator looks for a missing source again. Upstream's.", duration=True
    )
    reconciliation_timeout: float = setting(
        10 * MINUTE, "Longest run of an ArtifactGenerator. Upstream's default.", duration=True
    )
    feature_gates: tuple[str, ...] = setting((), "Flux's feature gates, comma separated, as Name=true or Name=false.")
    controllers: tuple[str, ...] = setting((), "Kinds to serve, comma separated. Empty: all.")
    beside_flux: bool = setting(False, "Run though Flux's controllers hold their leases for the same kinds.")
    graceful_shutdown_timeout: float = setting(
        20.0, "How long runs in flight may take after SIGTERM; below the kubelet's 30s.", duration=True
    )
    token_cache_max_size: int = setting(
        100, "Tokens of clouds that are kept. 0: none. Upstream's default."
    )
    token_cache_max_duration: float = setting(
        60 * MINUTE, "Longest time that such a token is kept; else 80 % of its life. Upstream's default.", duration=True
    )
    toolbox_processes: int = setting(2, "Toolbox children; one build at a time in each. Memory: about 60 MiB each.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderElectionSettings:
    """One engine at a time does the work. Durations are upstream's."""

    enable_leader_election: bool = setting(False, "Work only while holding the lease.", env="ENABLE_LEADER_ELECTION")
    leader_election_release_on_cancel: bool = setting(
        True, "Give the lease back at the end, so the next starts at once."
    )
    leader_election_lease_duration: float = setting(35.0, "Age at which a lease may be taken over.", duration=True)
    leader_election_renew_deadline: float = setting(
        30.0, "A leader that cannot renew for so long stops.", duration=True
    )
    leader_election_retry_period: float = setting(5.0, "Time between attempts to acquire or renew.", duration=True)
    runtime_namespace: str = setting(
        "flux-system", "Namespace of the lease and of the engine.", env="RUNTIME_NAMESPACE"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """What the engine listens on. An empty address turns the endpoint off."""

    metrics_addr: str = setting(":8080", "Address of /metrics. Upstream's default.", env="METRICS_ADDR")
    health_addr: str = setting(":9440", "Address of /healthz and /readyz. Upstream's default.", env="HEALTH_ADDR")
    events_addr: str = setting("", "URL that events are POSTed to, such as Flux's.", env="EVENTS_ADDR")
    socket: str = setting("", "Unix socket, mode 0600, for traces and explain. Empty: in the runtime directory.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Logs go to standard error."""

    log_level: str = setting("info", "trace, debug, info or error. Upstream's default.")
    log_encoding: str = setting("json", "json or console. Upstream's default.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The tree."""

    apply: ApplySettings = ApplySettings()
    sources: SourceSettings = SourceSettings()
    engine: EngineSettings = EngineSettings()
    tenancy: TenancySettings = TenancySettings()
    storage: StorageSettings = StorageSettings()
    leader_election: LeaderElectionSettings = LeaderElectionSettings()
    edge: EdgeSettings = EdgeSettings()
    log: LogSettings = LogSettings()

    @property
    def strict(self) -> bool:
        return self.tenancy.tenancy == "strict"

    def enforces(self, point: str) -> bool:
        """Whether a point of STRICT_POINTS is on."""
        return self.strict and point not in self.tenancy.relax

    @property
    def min_interval(self) -> float:
        """Seconds: the shortest interval that is followed."""
        stated = self.tenancy.min_interval
        return stated or (STRICT_MIN_INTERVAL if self.enforces("intervals") else 0.0)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting: where it is in the tree and how it is called outside."""

    section: str
    name: str
    default: Any
    description: str
    duration: bool
    upstream_env: str

    @property
    def flag(self) -> str:
        return self.name.replace("_", "-")

    @property
    def env(self) -> tuple[str, ...]:
        own = "HEADRACE_" + self.flag.replace("-", "_").upper()
        return (own, self.upstream_env) if self.upstream_env else (own,)

    @property
    def shown_default(self) -> str:
        if self.duration:
            return format_duration(self.default)
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return ",".join(self.default) if isinstance(self.default, tuple) else str(self.default)

    def parse(self, value: object, where: str) -> Any:
        """The typed value of what a flag, variable or file said. Raises SettingsError naming `where`."""
        try:
            return self._convert(value)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{where}: {error}") from None

    def _convert(self, value: object) -> Any:
        if isinstance(self.default, bool):
            return value if isinstance(value, bool) else _parse_bool(str(value))
        if isinstance(self.default, tuple):
            parts = value if isinstance(value, list | tuple) else str(value).split(",")
            return tuple(part for part in (str(p).strip() for p in parts) if part)
        if self.duration:
            return float(value) if isinstance(value, float) else parse_duration(str(value))
        return type(self.default)(value)


def _parse_bool(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"want true or false, not '{text}'")
    return text.lower() in ("true", "1")


def _leaves() -> Iterator[Leaf]:
    for section in dataclasses.fields(Settings):
        for leaf in dataclasses.fields(type(getattr(Settings(), section.name))):
            about = leaf.metadata
            yield Leaf(section.name, leaf.name, leaf.default, about["description"], about["duration"], about["env"])


LEAVES: tuple[Leaf, ...] = tuple(_leaves())


FLAGS: dict[str, Leaf] = {leaf.flag: leaf for leaf in LEAVES}
"""Every leaf by its flag, without the leading dashes."""


def load(
    flags: Mapping[str, object] = {},
    *,
    env: Mapping[str, str] = os.environ,
    file: Path | None = None,
    defaults: Settings = Settings(),
) -> Settings:
    """The tree from `defaults`, changed by `file`, then `env`, then `flags` (flag name to value).

    Raises SettingsError on unknown names and unusable values.
    """
    values: dict[tuple[str, str], Any] = {}
    if file is not None:
        _take(values, _read_file(file), str(file))
    for leaf in LEAVES:
        for name in reversed(leaf.env):
            if name in env:
                values[leaf.section, leaf.name] = leaf.parse(env[name], name)
    _take(values, flags, "flag")
    _open_gates(values)
    return validate(_replace(defaults, values))


def _take(values: dict[tuple[str, str], Any], given: Mapping[str, object], where: str) -> None:
    for name, value in given.items():
        leaf = FLAGS.get(name)
        if leaf is None:
            raise SettingsError(f"{where}: unknown setting '{name}'")
        values[leaf.section, leaf.name] = leaf.parse(
            value, f"{where} --{name}" if where == "flag" else f"{where}: {name}"
        )


GATES: Mapping[str, str] = {
    "AdditiveCELDependencyCheck": "additive-cel-dependency-check",
    "DisableFailFastBehavior": "disable-fail-fast-behavior",
    "ExternalArtifact": "external-artifact",
    "MigrateAPIVersion": "migrate-api-version",
    "ObjectLevelWorkloadIdentity": "object-level-workload-identity",
    "StrictPostBuildSubstitutions": "strict-post-build-substitutions",
}
"""Flux's feature gates by name, and the flag that is the same here."""

FIXED_GATES: Mapping[str, bool | None] = {
    "CacheSecretsAndConfigMaps": None,
    "CancelHealthCheckOnNewRevision": True,
    "DirectSourceFetch": None,
    "DisableConfigWatchers": None,
    "DisableStatusPollerCache": None,
    "GroupChangeLog": None,
}
"""Gates that are no choice here; None: whatever they say makes no difference to what is delivered."""


def _open_gates(values: dict[tuple[str, str], Any]) -> None:
    """What `feature-gates` says, for the settings that are not given themselves. Raises SettingsError."""
    for text in values.get(("engine", "feature_gates"), ()):
        name, _, value = text.partition("=")
        state = _parse_bool_of(f"feature-gates: {name}", value)
        if name in GATES:
            leaf = FLAGS[GATES[name]]
            values.setdefault((leaf.section, leaf.name), state)
        elif name not in FIXED_GATES:
            known = ", ".join(sorted((*GATES, *FIXED_GATES)))
            raise SettingsError(f"feature-gates: unknown feature gate '{name}', want one of {known}")
        elif FIXED_GATES[name] not in (None, state):
            raise SettingsError(f"feature-gates: {name} is always {str(FIXED_GATES[name]).lower()} here")


def _parse_bool_of(where: str, text: str) -> bool:
    try:
        return _parse_bool(text)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None


def _read_file(path: Path) -> dict[str, object]:
    import yaml

    try:
        content = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise SettingsError(f"{path}: want a mapping of settings")
    return {str(name): value for name, value in (content or {}).items()}


def _replace(settings: Settings, values: Mapping[tuple[str, str], Any]) -> Settings:
    sections: dict[str, dict[str, Any]] = {}
    for (section, name), value in values.items():
        sections.setdefault(section, {})[name] = value
    changed = {name: dataclasses.replace(getattr(settings, name), **leaves) for name, leaves in sections.items()}
    return dataclasses.replace(settings, **changed)


def validate(settings: Settings) -> Settings:
    """`settings` itself. Raises SettingsError where values do not fit together."""
    leader = settings.leader_election
    checks = {
        "tenancy must be flux or strict": settings.tenancy.tenancy in ("flux", "strict"),
        f"relax must name points of strict tenancy: {', '.join(STRICT_POINTS)}": (
            set(settings.tenancy.relax) <= STRICT_POINTS.keys()
        ),
        "relax needs tenancy=strict": settings.strict or not settings.tenancy.relax,
        "cluster-networks must be networks such as 10.96.0.0/12": _are_networks(settings.tenancy.cluster_networks),
        "interval-jitter-percentage must be from 0 to 99": 0 <= settings.engine.interval_jitter_percentage < 100,
        "concurrent and concurrent-ssa must be at least 1": (
            min(settings.engine.concurrent, settings.apply.concurrent_ssa) >= 1
        ),
        "min-retry-delay must not exceed max-retry-delay": (
            0 < settings.engine.min_retry_delay <= settings.engine.max_retry_delay
        ),
        "leader election needs retry-period < renew-deadline < lease-duration": (
            leader.leader_election_retry_period
            < leader.leader_election_renew_deadline
            < leader.leader_election_lease_duration
        ),
        "events-addr must be an http or https URL": (
            not settings.edge.events_addr or settings.edge.events_addr.startswith(("http://", "https://"))
        ),
        f"artifact-digest-algo must be one of {', '.join(ALGORITHMS)}": (
            settings.storage.artifact_digest_algo in ALGORITHMS
        ),
    }
    for message, met in (checks | _identity_checks(settings.tenancy)).items():
        if not met:
            raise SettingsError(message)
    return settings


def _identity_checks(tenancy: TenancySettings) -> dict[str, bool]:
    """Accounts whose tokens would never be asked for are a mistake that is told at the start (KS-OPS-03)."""
    chosen = {
        "default-decryption-service-account": tenancy.default_decryption_service_account,
        "default-kubeconfig-service-account": tenancy.default_kubeconfig_service_account,
    }
    return {
        f"{flag} needs the feature gate ObjectLevelWorkloadIdentity (--object-level-workload-identity)": (
            tenancy.object_level_workload_identity or not account
        )
        for flag, account in chosen.items()
    }


def _are_networks(texts: tuple[str, ...]) -> bool:
    try:
        return all(ipaddress.ip_network(text) for text in texts)
    except ValueError:
        return False
