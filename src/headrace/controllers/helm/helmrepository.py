"""HelmRepository: the index of a repository, polled and offered as an artifact (sources.md 2.3).

The poll is shared with all objects that name the same repository with the same credentials. One of type `oci` is only
data for its charts: it gets no finalizer and no status.
"""

from __future__ import annotations

from typing import BinaryIO

from headrace.api.helmrepository import HelmRepository
from headrace.api.kinds import HELM_REPOSITORY
from headrace.api.meta import FINALIZER
from headrace.artifact.pack import Packed
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.helm.access import CREDENTIALS, HelmAccess
from headrace.controllers.sources.polls import max_age
from headrace.controllers.sources.secrets import FETCH_FAILED, TLS
from headrace.controllers.sources.storage import (
    SourceStorage,
    announce,
    stored,
    told_by_storage,
    withdrawn_unless,
)
from headrace.core.clock import Clock
from headrace.core.duration import parse_duration
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry
from headrace.model.outcome import Outcome
from headrace.model.read import Part
from headrace.model.scope import Scope
from headrace.source.helm.errors import IndexRefused, RepositoryError
from headrace.source.helm.indexes import Indexes
from headrace.source.helm.repository import HelmRepositoryClient

ALIAS = "index.yaml"
"""The name under which the current index can always be had."""
FAILED = "Failed"
INDEXATION_FAILED = "IndexationFailed"
_UNITS = ("B", "kB", "MB", "GB")


class HelmRepositoryController:
    """Reconciles HelmRepository objects; see `engine.controller` for the contract."""

    kind = HELM_REPOSITORY
    finalizer = FINALIZER
    parts: tuple[Part, ...] = (CREDENTIALS, TLS)

    def __init__(self, access: HelmAccess, indexes: Indexes, store: Store, trees: Trees, clock: Clock) -> None:
        self._access = access
        self._indexes = indexes
        self._store = store
        self._storage = SourceStorage("helmrepository", store, trees)
        self._clock = clock

    def timeout(self, repo: HelmRepository) -> float:
        """Two downloads, each with the time that the spec gives, and time to read a large index."""
        return 2 * parse_duration(repo.spec.timeout_or_default) + 240.0

    def suspended(self, repo: HelmRepository) -> bool:
        return repo.spec.suspend

    def is_static(self, repo: HelmRepository) -> bool:
        """Those of type oci (SRC-HRP-10, SRC-HRP-11)."""
        return repo.spec.is_oci

    def retry_interval(self, repo: HelmRepository) -> float | None:
        """Exponential backoff."""
        return None

    async def reconcile(self, repo: HelmRepository, scope: Scope) -> Outcome:
        """Poll, and when the index is another one: normalise and publish it.

        Reasons: URLInvalid (stalled), AuthenticationFailed, Failed, IndexationFailed (FetchFailed),
        ArchiveOperationFailed (StorageOperationFailed).
        """
        held = await self._storage.held(repo.status.artifact, scope)
        with withdrawn_unless(held, repo.status.artifact):
            client = await self._access.open(repo.spec, repo.metadata.namespace, scope)
            try:
                revision = await self._poll(repo, client, scope)
                if held is not None and held.revision == revision:
                    scope.note(f"artifact up-to-date with remote revision: '{revision}'")
                    return self._stored(repo, await self._storage.keep(repo.metadata, held), scope)
                return await self._renew(repo, client, revision, scope)
            finally:
                await self._indexes.settle(client)

    async def finalize(self, repo: HelmRepository, scope: Scope) -> None:
        """Delete the stored artifacts (SRC-COM-02)."""
        await self._storage.remove(repo.metadata)

    async def _poll(self, repo: HelmRepository, client: HelmRepositoryClient, scope: Scope) -> str:
        """The revision that the repository has now. Subscribes to it."""
        spec = repo.spec
        age = max_age(repo.metadata, parse_duration(spec.interval_or_default), scope.causes, self._clock)

        async def ask() -> str:
            timeout = parse_duration(spec.timeout_or_default)
            polled = await self._indexes.revision(client, max_age=age, timeout=timeout)
            # Before a slot is free again, or the news of this very answer would wake us.
            scope.record(polled.read)
            return polled.value

        with scope.step("fetch"), told_by_storage():
            try:
                return await scope.wait(ask(), note="index of the repository")
            except RepositoryError as error:
                raise _not_fetched(error) from error

    async def _renew(self, repo: HelmRepository, client: HelmRepositoryClient, revision: str, scope: Scope) -> Outcome:
        """Store the index and say so."""
        await announce("NewRevision", f"new index revision '{revision}'", scope)
        with scope.step("store"), told_by_storage():
            packed = await kept_index(self._indexes, self._store, client, revision, repo, scope)
            artifact = await self._storage.publish(
                repo.metadata, f"index-{revision.partition(':')[2]}.yaml", packed, revision,
                before=repo.status.artifact, alias=ALIAS,
            )  # fmt: skip
        return self._stored(repo, artifact, scope)

    def _stored(self, repo: HelmRepository, artifact: Artifact, scope: Scope) -> Outcome:
        size = "unknown size" if artifact.size is None else f"size {human_size(artifact.size)}"
        return stored(
            artifact,
            scope,
            before=repo.status.artifact,
            message=f"stored artifact: revision '{artifact.revision}'",
            interval=parse_duration(repo.spec.interval_or_default),
            event=f"stored fetched index of {size} from '{repo.spec.url}'",
            unchanged="ArtifactUpToDate",
            status={"url": self._storage.alias_url(repo.metadata, ALIAS)},
        )


async def kept_index(
    indexes: Indexes, store: Store, client: HelmRepositoryClient, revision: str, repo: HelmRepository, scope: Scope
) -> Packed:
    """The normalised index of a revision, made by the first who wants it.

    Raises Retry(IndexationFailed), Retry(Failed), OSError.
    """

    async def fetch(file: BinaryIO) -> None:
        timeout = parse_duration(repo.spec.timeout_or_default)
        await scope.wait(indexes.write(client, revision, file, timeout=timeout), note="index to be read")

    try:
        return await store.blob(f"helm index {indexes.name(client)} {revision}", fetch, wait=scope.wait)
    except RepositoryError as error:
        raise _not_fetched(error) from error
    except IndexRefused as error:
        message = f"failed to load Helm repository from index YAML: failed to load index: {error}"
        raise Retry(INDEXATION_FAILED, message, condition=FETCH_FAILED) from error


def _not_fetched(error: RepositoryError) -> Retry:
    message = f"failed to fetch Helm repository index: failed to cache index to temporary file: {error}"
    return Retry(FAILED, message, condition=FETCH_FAILED)


def human_size(size: int) -> str:
    """`1.234kB`: four digits and a decimal unit, as Docker and Flux write it."""
    value, unit = float(size), 0
    while value >= 1000.0 and unit < len(_UNITS) - 1:
        value, unit = value / 1000.0, unit + 1
    return f"{value:.4g}{_UNITS[unit]}"
