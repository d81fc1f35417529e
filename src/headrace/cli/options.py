"""What operators decide about kinds, from the settings: for the engine, and for commands that tell what it
would do."""

from __future__ import annotations

from headrace.apply.guard import Guard
from headrace.controllers.cluster_config import ClusterConfigPolicy
from headrace.controllers.generate.sources import GeneratorPolicy
from headrace.controllers.kustomize.decryption import DecryptionPolicy
from headrace.controllers.kustomize.kustomization import KustomizationOptions
from headrace.controllers.kustomize.targets import TargetPolicy
from headrace.controllers.sources.artifact import SourcePolicy
from headrace.core.limits import HelmLimits
from headrace.settings import Settings
from headrace.source.git.ssh_algorithms import SshAlgorithms


def kustomization_options(settings: Settings) -> KustomizationOptions:
    """The options of the Kustomization controller."""
    insecure = not settings.enforces("kubeconfig")
    return KustomizationOptions(
        sources=SourcePolicy(
            no_cross_namespace_refs=settings.tenancy.no_cross_namespace_refs,
            external_artifacts=settings.engine.external_artifact,
            requeue=settings.engine.requeue_dependency,
        ),
        targets=TargetPolicy(
            default_service_account=default_account(settings),
            override_managers=settings.apply.override_manager,
            config_maps=ClusterConfigPolicy(
                workload_identity=settings.tenancy.object_level_workload_identity,
                default_service_account=settings.tenancy.default_kubeconfig_service_account,
            ),
            insecure_kubeconfig_exec=settings.apply.insecure_kubeconfig_exec and insecure,
            insecure_kubeconfig_tls=settings.apply.insecure_kubeconfig_tls and insecure,
        ),
        concurrent_ssa=settings.apply.concurrent_ssa,
        custom_stages=settings.apply.custom_apply_stage_kinds,
        migrate_api_version=settings.apply.migrate_api_version,
        no_remote_bases=no_remote_bases(settings),
        additive_ready_expressions=settings.apply.additive_cel_dependency_check,
        decryption=DecryptionPolicy(
            vault_configmap=settings.apply.sops_vault_configmap,
            workload_identity=settings.tenancy.object_level_workload_identity,
            default_service_account=settings.tenancy.default_decryption_service_account,
            own_identity=not (settings.enforces("decryption") or settings.enforces("identity")),
            age_secret="" if settings.enforces("decryption") else settings.apply.sops_age_secret,
            namespace=settings.leader_election.runtime_namespace,
        ),
        strict_substitutions=settings.apply.strict_post_build_substitutions,
        fail_fast=not settings.apply.disable_fail_fast_behavior,
        scalar_substitutions=settings.enforces("substitution"),
        guard=Guard(
            ownership=settings.enforces("ownership"), recreation=settings.enforces("recreation"),
            tokens=settings.strict,
        ),
        prune_budget=settings.apply.prune_budget,
        prune_protected=settings.apply.prune_protected_kinds,
    )


def generator_policy(settings: Settings) -> GeneratorPolicy:
    """What operators decide about ArtifactGenerators."""
    return GeneratorPolicy(
        no_cross_namespace_refs=settings.tenancy.no_cross_namespace_refs,
        requeue=settings.engine.source_watcher_requeue_dependency,
        timeout=settings.engine.reconciliation_timeout,
    )


def ssh_algorithms(settings: Settings) -> SshAlgorithms:
    """What git over SSH may use."""
    return SshAlgorithms(key_exchange=settings.sources.ssh_kex_algos, host_key=settings.sources.ssh_hostkey_algos)


def helm_limits(settings: Settings) -> HelmLimits:
    """What is accepted of Helm repositories."""
    chosen = settings.sources
    return HelmLimits(
        index_bytes=chosen.helm_index_max_size,
        chart_bytes=chosen.helm_chart_max_size,
        file_bytes=chosen.helm_chart_file_max_size,
    )


def no_remote_bases(settings: Settings) -> bool:
    """Whether bases by URL are refused."""
    return settings.apply.no_remote_bases or settings.enforces("remote-bases")


def default_account(settings: Settings) -> str:
    """Who acts for an object that names nobody: under strict tenancy never the engine itself."""
    return settings.tenancy.default_service_account or ("default" if settings.enforces("identity") else "")
