"""Dependencies that a chart does not bring: fetched with the identity of a HelmRepository of the same namespace and
URL, else with nobody's (SRC-HCH-15)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from headrace.api.helmrepository import HelmRepository
from headrace.api.kinds import HELM_REPOSITORY
from headrace.controllers.helm.candidates import anonymous
from headrace.controllers.helm.remote import RemoteCharts, download
from headrace.controllers.helm.sources import REPOSITORY, ChartSource
from headrace.controllers.sources.artifact import artifact_of
from headrace.kube.cluster import Clusters
from headrace.model.objects import LiveObject
from headrace.model.scope import Scope
from headrace.source.helm.build import FetchDependency
from headrace.source.helm.entry import Dependency, text
from headrace.source.helm.errors import ChartError, RepositoryError
from headrace.source.helm.repository import normalised


class Repositories(Protocol):
    """All HelmRepositories of a namespace."""

    async def __call__(self, namespace: str) -> Iterable[LiveObject]: ...


class WatchedRepositories:
    """Those that the engine sees, from the watch that it has anyway; asked for where it has none."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    async def __call__(self, namespace: str) -> Iterable[LiveObject]:
        """Raises KubeError."""
        cluster = self._clusters.management
        for informer in cluster.informers.all():
            selection = informer.selection
            whole = informer.synced and not selection.metadata_only and not selection.label_selector
            ours = (selection.group, selection.kind) == HELM_REPOSITORY.group_kind
            if ours and whole and selection.namespace in ("", namespace):
                return [live for live in informer if live.metadata.namespace == namespace]
        resource = await cluster.discovery.resource(*HELM_REPOSITORY.group_kind)
        return (await cluster.client.list(resource, namespace)).items


class ChartDependencies:
    """Fetches dependencies."""

    def __init__(self, repositories: Repositories, charts: RemoteCharts) -> None:
        self._repositories = repositories
        self._charts = charts

    def fetcher(self, namespace: str, scope: Scope) -> FetchDependency:
        """How the dependencies of a chart in this namespace are fetched."""

        async def fetch(dependency: Dependency, folder: Path) -> Path:
            url = text(dependency.repository)
            repo, source = await self._repository(url, namespace, scope)
            name, version = text(dependency.name), text(dependency.version)
            try:
                found = await self._charts.find(repo, source, name, version, scope)
                return await download(found, folder, scope)
            except ChartError as error:
                shown = f"failed to get chart '{name}' version '{version}' from '{url}': {error}"
                raise RepositoryError(shown) from error

        return fetch

    async def _repository(self, url: str, namespace: str, scope: Scope) -> tuple[HelmRepository, ChartSource | None]:
        wanted = normalised(url)
        for live in await self._repositories(namespace):
            repo = _decoded(live)
            if repo is None or normalised(repo.spec.url) != wanted:
                continue
            current = await scope.read(live.reference, REPOSITORY)
            if current is not None and (now := _decoded(current)) is not None:
                return now, ChartSource(now, artifact_of(current))
        return anonymous(url, namespace), None


def _decoded(live: LiveObject) -> HelmRepository | None:
    try:
        return live.decode(HelmRepository)
    except msgspec.MsgspecError:
        return None
