"""Charts of repositories: which version is wanted, known before anything of it is fetched.

Both kinds of repository give a `Candidate`: its name and version, what its content is known by, and how it is fetched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headrace.api.helmchart import HelmChart
from headrace.api.helmrepository import HelmRepository, HelmRepositorySpec
from headrace.artifact.fetch import Fetcher
from headrace.artifact.store import Integrity, Store
from headrace.controllers.helm.access import HelmAccess
from headrace.controllers.helm.helmrepository import kept_index
from headrace.core.duration import parse_duration
from headrace.core.limits import HELM, HelmLimits
from headrace.model.artifact import Artifact
from headrace.model.objects import Metadata
from headrace.model.outcome import Condition
from headrace.model.scope import Scope
from headrace.source.helm.entry import Located
from headrace.source.helm.errors import AuthenticationRequired, ChartError, IndexRefused, Reason, RepositoryError
from headrace.source.helm.indexes import Indexes
from headrace.source.helm.repository import HelmRepositoryClient
from headrace.source.helm.versions import NoSuchVersion, choose
from headrace.source.polls import FRESH
from headrace.source.versions import MatchVersions

_NOT_FOUND = "failed to get chart version for remote reference"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One version of a chart. `key` is equal only for the same content as the same identity sees it (SEC-49)."""

    name: str
    version: str
    key: Callable[[Scope], Awaitable[str]]
    fetch: Callable[[BinaryIO, Scope], Awaitable[None]]
    """Writes the archive. Raises ChartError."""
    verify: Callable[[HelmChart, Scope], Awaitable[tuple[Condition, ...]]] | None = None
    """Checks the signature, as `spec.verify` of the chart wants it. Raises ChartError(ChartVerificationError)."""


class HttpCandidates:
    """Charts of repositories with an index."""

    def __init__(
        self, access: HelmAccess, indexes: Indexes, match: MatchVersions, store: Store, fetcher: Fetcher | None = None,
        *, limits: HelmLimits = HELM,
    ) -> None:  # fmt: skip
        self._access = access
        self._indexes = indexes
        self._match = match
        self._store = store
        self._fetcher = fetcher
        self._limits = limits

    async def find(
        self, repo: HelmRepository, artifact: Artifact | None, chart: str, version: str, scope: Scope
    ) -> Candidate:
        """The version of a chart in the index that was stored; without one, in the index that is there now.

        Raises ChartError, Retry(AuthenticationFailed), Stalled(URLInvalid), OSError.
        """
        client = await self._access.open(repo.spec, repo.metadata.namespace, scope)
        timeout = parse_duration(repo.spec.timeout_or_default)
        revision, digest, path = await self._index(repo, client, artifact, scope)
        try:
            lookup = await self._indexes.lookup(digest, path)
            versions = lookup.versions(path, chart) if chart in lookup else None
        except (IndexRefused, OSError) as error:
            raise ChartError(Reason.PULL, f"{_NOT_FOUND}: failed to load index: {error}") from error
        located = await self._choose(chart, version, versions)

        async def key(_: Scope) -> str:
            return f"helm {self._indexes.name(client)} {revision} {located.version} {located.digest} {located.urls}"

        async def fetch(file: BinaryIO, scope: Scope) -> None:
            await scope.wait(self._download(client, located, file, timeout), note="chart from the repository")

        return Candidate(located.name or chart, located.version, key, fetch)

    async def _choose(self, chart: str, version: str, versions: list[Located] | None) -> Located:
        if versions is None:
            raise ChartError(Reason.REFERENCE, f"{_NOT_FOUND}: no chart name found")
        try:
            return await choose(chart, version, versions, self._match)
        except (NoSuchVersion, ValueError) as error:
            raise ChartError(Reason.REFERENCE, f"{_NOT_FOUND}: {error}") from error

    async def _download(self, client: HelmRepositoryClient, located: Located, file: BinaryIO, timeout: float) -> None:
        if not located.urls:
            raise ChartError(Reason.PULL, f"chart '{located.name}' has no downloadable URLs")
        try:
            await client.chart(located.urls[0], file, timeout=timeout, limit=self._limits.chart_bytes)
        except RepositoryError as error:
            message = f"failed to download chart for remote reference: {error}"
            raise ChartError(Reason.PULL, message, denied=isinstance(error, AuthenticationRequired)) from error

    async def _index(
        self, repo: HelmRepository, client: HelmRepositoryClient, artifact: Artifact | None, scope: Scope
    ) -> tuple[str, str, Path]:
        """Revision, digest and place of an index."""
        if artifact is None:
            try:
                timeout = parse_duration(repo.spec.timeout_or_default)
                asking = self._indexes.revision(client, max_age=FRESH, timeout=timeout)
                polled = await scope.wait(asking, note="index of the repository")
            except RepositoryError as error:
                denied = isinstance(error, AuthenticationRequired)
                raise ChartError(Reason.PULL, f"{_NOT_FOUND}: {error}", denied=denied) from error
            packed = await kept_index(self._indexes, self._store, client, polled.value, repo, scope)
            return polled.value, packed.digest, self._store.content_file(packed)
        if await self._store.verify(artifact) is Integrity.SOUND:
            path = self._store.locate(artifact.path)
            if path is not None:
                return artifact.revision, artifact.digest, path
        return artifact.revision, artifact.digest, await self._foreign(artifact, scope)

    async def _foreign(self, artifact: Artifact, scope: Scope) -> Path:
        """An index that another controller keeps."""
        fetcher = self._fetcher
        if fetcher is None or self._store.owns(artifact):
            raise ChartError(Reason.PULL, f"{_NOT_FOUND}: the index is missing in storage; its source makes it anew")

        async def fetch(file: BinaryIO) -> None:
            await scope.wait(fetcher.fetch(artifact, file), note="index from its source")
            file.seek(0, 2)

        return self._store.content_file(await self._store.blob(f"index {artifact.digest}", fetch, wait=scope.wait))


def anonymous(url: str, namespace: str) -> HelmRepository:
    """Stands for a repository that no object describes: nobody's credentials, and the usual timeout."""
    kind = "oci" if url.startswith("oci://") else ""
    return HelmRepository(metadata=Metadata(namespace=namespace), spec=HelmRepositorySpec(url=url, type=kind))
