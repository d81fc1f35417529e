"""The controllers of the Helm kinds, put together."""

from __future__ import annotations

from headrace.artifact.fetch import Fetcher
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.helm.access import HelmAccess
from headrace.controllers.helm.candidates import HttpCandidates
from headrace.controllers.helm.dependencies import ChartDependencies, WatchedRepositories
from headrace.controllers.helm.helmchart import HelmChartController
from headrace.controllers.helm.helmrepository import HelmRepositoryController
from headrace.controllers.helm.local import LocalCharts
from headrace.controllers.helm.oci import RegistryCharts
from headrace.controllers.helm.remote import RemoteCharts
from headrace.controllers.helm.sources import ChartSources
from headrace.controllers.oci.verification import OciVerification
from headrace.controllers.sources.registries import RegistryIdentities
from headrace.controllers.workload import WorkloadPolicy
from headrace.core.clock import Clock
from headrace.core.egress import Egress
from headrace.core.limits import HELM, HelmLimits
from headrace.engine.runner import AnyController
from headrace.kube.cluster import Clusters
from headrace.source.helm.build import ChartBuilder
from headrace.source.helm.calls import version_matcher, yaml_reader
from headrace.source.helm.indexes import Indexes
from headrace.source.oci.remotes import OciRemotes
from headrace.source.polls import Changed
from headrace.toolbox import Toolbox


def helm_controllers(
    clusters: Clusters,
    toolbox: Toolbox,
    store: Store,
    trees: Trees,
    egress: Egress,
    *,
    fetcher: Fetcher | None,
    registries: OciRemotes,
    identities: RegistryIdentities,
    policy: WorkloadPolicy,
    verification: OciVerification,
    clock: Clock,
    changed: Changed,
    requeue: float,
    allow_insecure: bool = True,
    limits: HelmLimits = HELM,
) -> tuple[AnyController, AnyController]:
    """Those of HelmRepository and HelmChart. `verification` is that of OCIRepositories."""
    read, match = yaml_reader(toolbox), version_matcher(toolbox)
    indexes = Indexes(
        store.scratch, store.installation_key(), read, clock, changed, algorithm=store.algorithm, limits=limits
    )
    access = HelmAccess(egress)
    builder = ChartBuilder(read, match, store.scratch, limits=limits)
    http = HttpCandidates(access, indexes, match, store, fetcher, limits=limits)
    oci = RegistryCharts(
        registries, identities, verification, clock, policy=policy, allow_insecure=allow_insecure, limits=limits
    )
    remote = RemoteCharts(http, oci, builder, store)
    local = LocalCharts(trees, store, builder, ChartDependencies(WatchedRepositories(clusters), remote))
    repositories = HelmRepositoryController(access, indexes, store, trees, clock)
    return repositories, HelmChartController(ChartSources(requeue=requeue), remote, local, store, trees)
