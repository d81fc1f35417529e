"""OCIRepository: an artifact polled at a tag, range or digest, its layer offered as an artifact (sources.md 2.2).

The poll is shared with all objects that name the same repository and reference with the same credentials; a tag that
moved wakes them all. A run in which nothing moved costs the registry one HEAD, or nothing, and writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from headrace.api.kinds import OCI_REPOSITORY
from headrace.api.meta import FINALIZER
from headrace.api.ocirepository import COPY, OCILayerSelector, OCIRepository
from headrace.artifact.pack import Packed
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.consumers import Consumers
from headrace.controllers.oci.access import CREDENTIALS, PULL_SECRETS, OciAccess
from headrace.controllers.oci.verification import TRUST, VERIFIED, OciVerification, needs_verification
from headrace.controllers.sources.polls import lasting, max_age, shared_age
from headrace.controllers.sources.secrets import FETCH_FAILED, PROXY, TLS
from headrace.controllers.sources.storage import (
    LATEST,
    SourceStorage,
    announce,
    stored,
    told_by_storage,
    withdrawn_unless,
)
from headrace.core.clock import Clock
from headrace.core.duration import parse_duration
from headrace.core.unpack import ArchiveRefused
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry
from headrace.model.outcome import Look, Outcome
from headrace.model.read import Part
from headrace.model.scope import Scope
from headrace.source.oci.errors import Denied, OciError
from headrace.source.oci.layers import extract, select_layer
from headrace.source.oci.manifest import HELM_CHART, REVISION, SOURCE, Descriptor, Manifest
from headrace.source.oci.reference import DEFAULT_TAG
from headrace.source.oci.remotes import Found, OciRemotes, Source, TagsUnreadable, Wanted

READ_FAILED = "ReadOperationFailed"
PULL_FAILED = "OCIArtifactPullFailed"
LAYER_FAILED = "OCIArtifactLayerOperationFailed"
AUTHENTICATION_FAILED = "AuthenticationFailed"


class OCIRepositoryController:
    """Reconciles OCIRepository objects; see `engine.controller` for the contract."""

    kind = OCI_REPOSITORY
    finalizer = FINALIZER
    parts: tuple[Part, ...] = (CREDENTIALS, PULL_SECRETS, PROXY, TLS, TRUST)

    def __init__(
        self, remotes: OciRemotes, access: OciAccess, verification: OciVerification, store: Store, trees: Trees,
        clock: Clock, *, consumers: Consumers | None = None,
    ) -> None:  # fmt: skip
        self._remotes = remotes
        self._access = access
        self._verification = verification
        self._store = store
        self._storage = SourceStorage("ocirepository", store, trees, consumers)
        self._clock = clock

    def timeout(self, repo: OCIRepository) -> float:
        """A poll, a verification and a pull, each with the time that the spec gives, and room for the rest."""
        return 4 * parse_duration(repo.spec.timeout) + 60.0

    def suspended(self, repo: OCIRepository) -> bool:
        return repo.spec.suspend

    def retry_interval(self, repo: OCIRepository) -> float | None:
        """Exponential backoff."""
        return None

    async def reconcile(self, repo: OCIRepository, scope: Scope) -> Outcome:
        """Poll, and when the digest or the choice of content is another one: verify, pull, pack, publish.

        Reasons: URLInvalid, FeatureGateDisabled, InsecureRegistry (stalled), AuthenticationFailed,
        ReadOperationFailed, OCIArtifactPullFailed, OCIArtifactLayerOperationFailed (FetchFailed), VerificationError
        (SourceVerified), ArchiveOperationFailed (StorageOperationFailed).
        """
        held = await self._storage.held(repo.status.artifact, scope)
        with withdrawn_unless(held, repo.status.artifact):
            source = await self._access.open(repo, scope)
            found = await self._poll(repo, source, scope)
            current = held is not None and _is_current(repo, held, found)
            if needs_verification(repo, held, found.revision):
                proof = await self._verification.verify(repo, source, found, scope)
            else:
                proof = None
            outcome = (
                await self._keep(repo, held, scope) if held is not None and current
                else await self._renew(repo, source, found, scope)
            )  # fmt: skip
        outcome = msgspec.structs.replace(outcome, look=self._look(repo, source, found))
        if proof is None:
            return outcome if repo.spec.verify else msgspec.structs.replace(outcome, remove=(VERIFIED,))
        return msgspec.structs.replace(
            outcome, conditions=(*outcome.conditions, *proof.conditions), remove=proof.remove
        )

    async def finalize(self, repo: OCIRepository, scope: Scope) -> None:
        """Delete the stored artifacts (SRC-COM-02)."""
        await self._storage.remove(repo.metadata)

    # -- what is there -------------------------------------------------------------------------------------------

    async def _poll(self, repo: OCIRepository, source: Source, scope: Scope) -> Found:
        """The artifact that the reference names now. A registry that has to be asked is waited for without a slot."""
        wanted = _wanted(repo)
        age = max_age(repo.metadata, parse_duration(repo.spec.interval), scope.causes, self._clock)
        if held_by_digest(repo, wanted):
            return Found("", wanted.reference)
        with scope.step("poll"), _told(repo, f"failed to determine artifact digest for '{repo.spec.url}'", PULL_FAILED):
            known = self._remotes.found_nowait(source, wanted, max_age=age)
            if known is not None:
                scope.record(known.read)
                return known.value

            async def ask() -> Found:
                timeout = parse_duration(repo.spec.timeout)
                answer = await self._remotes.found(source, wanted, max_age=age, timeout=timeout)
                # Before a slot is free again, or the news of this very answer would wake us.
                scope.record(answer.read)
                return answer.value

            return await scope.wait(ask(), note="answer of the registry")

    def _look(self, repo: OCIRepository, source: Source, found: Found) -> Look | None:
        """How to see at the interval that the reference names the same; None where credentials are issued for a run."""
        wanted, metadata = _wanted(repo), repo.metadata
        age, timeout = shared_age(parse_duration(repo.spec.interval)), parse_duration(repo.spec.timeout)

        async def is_unmoved() -> bool:
            try:
                answer = await self._remotes.found(source, wanted, max_age=age, timeout=timeout)
            except OciError:
                return False  # a run says what is wrong
            return answer.value == found

        async def look() -> bool:
            fixed = not wanted.semver and found.digest == wanted.reference
            unmoved = fixed or await is_unmoved()
            await self._storage.collect_trees()
            return unmoved and self._storage.is_settled(metadata)

        return look if lasting(repo.spec.provider) else None

    # -- what is done --------------------------------------------------------------------------------------------

    async def _renew(self, repo: OCIRepository, source: Source, found: Found, scope: Scope) -> Outcome:
        """Store the content and say so. Everything is fetched by digest: the tag may move meanwhile (SEC-46)."""
        url = f"{source.repository.named(found.tag or found.digest)}"
        await announce("NewRevision", f"new revision '{found.revision}' for '{url}'", scope)
        manifest = await self._manifest(repo, source, found, scope)
        with _told(repo, "", LAYER_FAILED):
            layer = select_layer(manifest, _selector(repo).media_type)
        with scope.step("fetch"), told_by_storage():
            packed = await self._content(repo, source, found, layer, scope)
        news = await self._storage.concerns(packed, scope)
        with scope.step("store"), told_by_storage():
            artifact = await self._storage.publish(
                repo.metadata, f"{found.digest}.tar.gz", packed, found.revision, before=repo.status.artifact,
                alias=LATEST, annotations=manifest.annotations or None,
            )  # fmt: skip
        return self._stored(repo, artifact, scope, news=news)

    async def _manifest(self, repo: OCIRepository, source: Source, found: Found, scope: Scope) -> Manifest:
        timeout = parse_duration(repo.spec.timeout)
        reading = self._remotes.registry.image(source.repository, found.digest, source.access, timeout=timeout)
        with scope.step("manifest"), _told(repo, f"failed to pull artifact from '{repo.spec.url}'", PULL_FAILED):
            return await scope.wait(reading, note="manifest from the registry")

    async def _content(
        self, repo: OCIRepository, source: Source, found: Found, layer: Descriptor, scope: Scope
    ) -> Packed:
        """The layer, as it is or packed anew. Objects that choose the same of it share one download."""
        selector = _selector(repo)

        async def fetch(file: BinaryIO) -> None:
            timeout = parse_duration(repo.spec.timeout)
            pulling = self._remotes.registry.blob(
                source.repository, layer, file, source.access, timeout=timeout
            )
            with _told(repo, f"failed to pull artifact from '{repo.spec.url}'", PULL_FAILED):
                await scope.wait(pulling, note="layer from the registry")

        async def produce(directory: Path) -> None:
            with tempfile.TemporaryFile(dir=directory.parent) as file:
                await fetch(file)
                with _told(repo, "failed to extract layer contents from artifact", LAYER_FAILED):
                    await asyncio.to_thread(extract, file, directory, repo.spec.ignore)

        key = f"oci {source.key} {found.digest} {layer.digest}"
        if selector.operation == COPY:
            return await self._store.blob(f"{key} copy", fetch, wait=scope.wait)
        return await self._store.content(f"{key} extract {repo.spec.ignore!r}", produce, wait=scope.wait)

    async def _keep(self, repo: OCIRepository, held: Artifact, scope: Scope) -> Outcome:
        """Nothing moved."""
        scope.note(f"artifact up-to-date with remote revision: '{held.revision}'")
        return self._stored(repo, await self._storage.keep(repo.metadata, held), scope)

    def _stored(self, repo: OCIRepository, artifact: Artifact, scope: Scope, *, news: bool = True) -> Outcome:
        selector = repo.spec.layer_selector
        return stored(
            artifact,
            scope,
            before=repo.status.artifact,
            message=f"stored artifact for digest '{artifact.revision}'",
            interval=parse_duration(repo.spec.interval),
            event=_event(repo, artifact) if news else "",
            unchanged="ArtifactUpToDate",
            status={
                "url": self._storage.alias_url(repo.metadata, LATEST),
                "observedIgnore": repo.spec.ignore,
                "observedLayerSelector": None if selector is None else msgspec.to_builtins(selector),
            },
        )


def held_by_digest(repo: OCIRepository, wanted: Wanted) -> bool:
    """Whether the content of a fixed digest was fetched before: nobody has to be asked what it names."""
    artifact = repo.status.artifact
    return artifact is not None and not wanted.semver and artifact.revision == wanted.reference


def _wanted(repo: OCIRepository) -> Wanted:
    """Digest before range before tag (SRC-OCI-03)."""
    ref = repo.spec.ref
    if ref is None:
        return Wanted(DEFAULT_TAG)
    if ref.digest:
        return Wanted(ref.digest)
    if ref.semver:
        is_chart = _selector(repo).media_type == HELM_CHART
        return Wanted(semver=ref.semver, pattern=ref.semver_filter, is_chart=is_chart)
    return Wanted(ref.tag or DEFAULT_TAG)


def _selector(repo: OCIRepository) -> OCILayerSelector:
    return repo.spec.layer_selector or OCILayerSelector()


def _is_current(repo: OCIRepository, held: Artifact, found: Found) -> bool:
    """Whether the artifact is what this run would make (SRC-OCI-07, SRC-OCI-08)."""
    status, spec = repo.status, repo.spec
    return (
        held.revision == found.revision
        and status.observed_ignore == spec.ignore
        and status.observed_layer_selector == spec.layer_selector
    )


def _event(repo: OCIRepository, artifact: Artifact) -> str:
    annotations = artifact.metadata or {}
    message = f"stored artifact with revision '{artifact.revision}' from '{repo.spec.url}'"
    if SOURCE in annotations:
        message += f", origin source '{annotations[SOURCE]}'"
    if REVISION in annotations:
        message += f", origin revision '{annotations[REVISION]}'"
    return message


@contextlib.contextmanager
def _told(repo: OCIRepository, what: str, reason: str) -> Iterator[None]:
    """Errors of the registry as the condition shows them; one that asks for patience gets it."""
    try:
        yield
    except TagsUnreadable as error:
        text = f"failed to determine the artifact tag for '{repo.spec.url}': {error}"
        raise Retry(READ_FAILED, text, after=error.retry_after, condition=FETCH_FAILED) from error
    except (OciError, ArchiveRefused) as error:
        after = error.retry_after if isinstance(error, OciError) else None
        chosen = AUTHENTICATION_FAILED if isinstance(error, Denied) and error.status == 0 else reason
        text = f"{what}: {error}" if what else str(error)
        raise Retry(chosen, text, after=after, condition=FETCH_FAILED) from error
