"""Bucket: an object storage listed at an interval, its objects packed and offered as an artifact (sources.md 2.5).

A run in which the listing is what it was downloads nothing and writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from pathlib import Path

from headrace.api.bucket import Bucket
from headrace.api.kinds import BUCKET
from headrace.api.meta import FINALIZER, GENERIC
from headrace.artifact.pack import Packed
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.bucket.access import CREDENTIALS, STS, BucketAccess, Opened
from headrace.controllers.consumers import Consumers
from headrace.controllers.sources.polls import max_age
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
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry
from headrace.model.outcome import Outcome
from headrace.model.read import Part
from headrace.model.scope import Scope
from headrace.source.bucket.errors import BucketError
from headrace.source.bucket.index import Index, download, read_index
from headrace.source.polls import Changed, Polls


class BucketController:
    """Reconciles Bucket objects; see `engine.controller` for the contract."""

    kind = BUCKET
    finalizer = FINALIZER
    parts: tuple[Part, ...] = (CREDENTIALS, PROXY, STS, TLS)

    def __init__(
        self, access: BucketAccess, store: Store, trees: Trees, clock: Clock, changed: Changed,
        consumers: Consumers | None = None,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._polls: Polls[Index] = Polls(
            "Bucket", digest=lambda index: index.digest, errors=BucketError, clock=clock, changed=changed
        )
        self._access = access
        self._store = store
        self._storage = SourceStorage("bucket", store, trees, consumers)

    def timeout(self, bucket: Bucket) -> float:
        """A listing and the downloads, each with the time that the spec gives, and room for the rest."""
        return 3 * parse_duration(bucket.spec.timeout) + 60.0

    def suspended(self, bucket: Bucket) -> bool:
        return bucket.spec.suspend

    def retry_interval(self, bucket: Bucket) -> float | None:
        """Exponential backoff."""
        return None

    async def reconcile(self, bucket: Bucket, scope: Scope) -> Outcome:
        """List the bucket, and when that shows another index: download, pack, publish.

        Reasons: URLInvalid, InvalidSTSConfiguration, FeatureGateDisabled (stalled), AuthenticationFailed,
        BucketOperationFailed (FetchFailed), ArchiveOperationFailed (StorageOperationFailed).
        """
        held = await self._storage.held(bucket.status.artifact, scope)
        with withdrawn_unless(held, bucket.status.artifact):
            opened = await self._opened(bucket, scope)
            index = await self._index(bucket, opened, scope)
            if held is not None and index.is_revision(held.revision):
                scope.note(f"artifact up-to-date with remote revision: '{held.revision}'")
                artifact = await self._storage.keep(bucket.metadata, held)
                return self._stored(bucket, artifact, index, scope)
            return await self._renew(bucket, opened, index, scope)

    async def finalize(self, bucket: Bucket, scope: Scope) -> None:
        """Delete the stored artifacts (SRC-COM-02)."""
        await self._storage.remove(bucket.metadata)

    async def _opened(self, bucket: Bucket, scope: Scope) -> Opened:
        """Where a token must be issued first, that is waited for without a slot."""
        opening = self._access.open(bucket, scope)
        if bucket.spec.provider == GENERIC and bucket.spec.sts is None:
            return await opening
        return await scope.wait(opening, note="issuer of tokens")

    async def _index(self, bucket: Bucket, opened: Opened, scope: Scope) -> Index:
        """The index of the bucket; those who name the same one with the same identity share a listing."""
        spec = bucket.spec
        age = max_age(bucket.metadata, parse_duration(spec.interval), scope.causes, self._clock)

        def poll() -> Awaitable[Index]:
            listing = read_index(opened.storage, spec.bucket_name, prefix=spec.prefix, ignore=spec.ignore)
            return _within(listing, spec.timeout)

        async def ask() -> Index:
            answer = await self._polls.ask(opened.key, poll, max_age=age, host=spec.endpoint)
            # Before a slot is free again, or the news of this very answer would wake us.
            scope.record(answer.read)
            return answer.value

        with scope.step("list"), _told(f"indexation of objects from bucket '{spec.bucket_name}' failed"):
            known = self._polls.nowait(opened.key, max_age=age)
            if known is not None:
                scope.record(known.read)
                return known.value
            return await scope.wait(ask(), note="listing of the bucket")

    async def _renew(self, bucket: Bucket, opened: Opened, listed: Index, scope: Scope) -> Outcome:
        """Store the artifact of the index and say so."""
        await announce("NewRevision", f"new upstream revision '{listed.revision(self._store.algorithm)}'", scope)
        packed, index = await self._content(bucket, opened, listed, scope)
        revision = index.revision(self._store.algorithm)
        news = await self._storage.concerns(packed, scope)
        with scope.step("store"), told_by_storage():
            artifact = await self._storage.publish(
                bucket.metadata, f"{revision.partition(':')[2]}.tar.gz", packed, revision,
                before=bucket.status.artifact, alias=LATEST,
            )  # fmt: skip
        return self._stored(bucket, artifact, index, scope, news=news)

    async def _content(self, bucket: Bucket, opened: Opened, listed: Index, scope: Scope) -> tuple[Packed, Index]:
        """The packed objects, and their index: while they were fetched, some may have changed (SRC-BKT-06).

        Buckets with the same server, name, identity and index share one download (SEC-49).
        """
        spec = bucket.spec
        key = f"bucket {opened.key} {listed.digest}"
        made: list[Index] = []

        async def produce(directory: Path) -> None:
            work = download(opened.storage, listed, directory, scratch=self._store.scratch)
            made.append(await scope.wait(_within(work, spec.timeout), note="objects of the bucket"))

        with scope.step("fetch"), told_by_storage(), _told(f"fetch from bucket '{spec.bucket_name}' failed"):
            packed = await self._store.content(key, produce, wait=scope.wait)
        index = made[0] if made else listed
        if index.digest != listed.digest:
            # Whoever lists the same as we did, in line or later, must not get what came instead.
            self._store.forget(key)
        return packed, index

    def _stored(
        self, bucket: Bucket, artifact: Artifact, index: Index, scope: Scope, *, news: bool = True
    ) -> Outcome:
        spec = bucket.spec
        told = f"stored artifact with {len(index.objects)} fetched files from '{spec.bucket_name}' bucket"
        return stored(
            artifact,
            scope,
            before=bucket.status.artifact,
            message=f"stored artifact: revision '{artifact.revision}'",
            interval=parse_duration(spec.interval),
            event=told if news else "",
            unchanged="ArtifactUpToDate",
            status={"observedIgnore": spec.ignore, "url": self._storage.alias_url(bucket.metadata, LATEST)},
        )


async def _within(work: Awaitable[Index], timeout: str) -> Index:
    """`work` with the time that the spec gives. Raises BucketError."""
    try:
        async with asyncio.timeout(parse_duration(timeout)):
            return await work
    except TimeoutError as error:
        raise BucketError(f"context deadline exceeded: not done within {timeout}") from error


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except BucketError as error:
        raise Retry("BucketOperationFailed", f"{what}: {error}", condition=FETCH_FAILED) from error
