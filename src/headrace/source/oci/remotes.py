"""Which artifact a repository offers now, polled once for all objects that ask the same with the same identity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from headrace.core.clock import Clock
from headrace.source.access import joined
from headrace.source.oci.credentials import Access
from headrace.source.oci.errors import OciError
from headrace.source.oci.reference import Repository, is_digest
from headrace.source.oci.registry import Registry
from headrace.source.oci.versions import MatchTags, highest
from headrace.source.polls import Changed, Polled, Polls


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a repository is wanted: a tag, a digest, or with `semver` the highest tag in a range."""

    reference: str = ""
    semver: str = ""
    pattern: str = ""
    """Regular expression for tags, with `semver`."""
    is_chart: bool = False
    """Tags are versions of charts: `_` stands for `+`."""

    @property
    def key(self) -> bytes:
        return joined(*(text.encode() for text in (self.reference, self.semver, self.pattern, str(self.is_chart))))


@dataclass(frozen=True, slots=True)
class Found:
    """The artifact that is there: by the tag that leads to it, empty for one by digest, and by its digest."""

    tag: str
    digest: str

    @property
    def revision(self) -> str:
        """`tag@sha256:hex`, or the digest alone (SRC-OCI-01, SRC-OCI-02)."""
        return f"{self.tag}@{self.digest}" if self.tag else self.digest


@dataclass(frozen=True, slots=True)
class Source:
    """A repository as one identity sees it. `key` is equal only for the same repository and identity (SEC-49)."""

    repository: Repository
    access: Access
    key: str


class TagsUnreadable(OciError):
    """No tag could be chosen: the list cannot be had, or nothing in it is in the range."""


class OciRemotes:
    """All repositories that are polled. `key` is this installation's secret: names derived from it tell nothing."""

    def __init__(
        self, registry: Registry, *, key: bytes, clock: Clock, match_tags: MatchTags, changed: Changed
    ) -> None:
        self.registry = registry
        self._key = key
        self._match = match_tags
        self._polls: Polls[Found] = Polls(
            "OciRepository", digest=lambda found: found.revision, errors=OciError, clock=clock, changed=changed
        )

    def source(self, repository: Repository, access: Access) -> Source:
        """The repository with an identity."""
        data = joined(str(repository).encode(), access.identity(repository))
        return Source(repository, access, hashlib.blake2b(data, digest_size=16, key=self._key).hexdigest())

    def found_nowait(self, source: Source, wanted: Wanted, *, max_age: float) -> Polled[Found] | None:
        """The answer of an earlier poll; None when the registry has to be asked. Raises OciError."""
        return self._polls.nowait(_poll_key(source, wanted), max_age=max_age)

    async def found(self, source: Source, wanted: Wanted, *, max_age: float, timeout: float) -> Polled[Found]:
        """What is wanted, from an answer that is at most `max_age` seconds old: by one HEAD, for a range after the
        list of tags. Raises OciError (TagsUnreadable when no tag can be chosen)."""

        async def poll() -> Found:
            return await self._find(source, wanted, timeout)

        return await self._polls.ask(_poll_key(source, wanted), poll, max_age=max_age, host=source.repository.server)

    async def _find(self, source: Source, wanted: Wanted, timeout: float) -> Found:
        reference = wanted.reference
        if wanted.semver:
            reference = await self._highest(source, wanted, timeout)
        found = await self.registry.resolve(source.repository, reference, source.access, timeout=timeout)
        return Found("" if is_digest(reference) else reference, found.digest)

    async def _highest(self, source: Source, wanted: Wanted, timeout: float) -> str:
        try:
            tags = await self.registry.tags(source.repository, source.access, timeout=timeout)
            return await highest(self._match, wanted.semver, tags, wanted.pattern, is_chart=wanted.is_chart)
        except OciError as error:
            raise TagsUnreadable(str(error), status=error.status, retry_after=error.retry_after) from error


def _poll_key(source: Source, wanted: Wanted) -> str:
    return f"{source.key} {hashlib.sha256(wanted.key).hexdigest()[:32]}"
