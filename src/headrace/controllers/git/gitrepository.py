"""GitRepository: a repository polled at a ref, its files packed and offered as an artifact (sources.md 2.1).

The poll is shared with all objects that name the same repository with the same credentials; a ref that moved wakes
them all. A run in which nothing moved writes nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from headrace.api.gitrepository import GitRepository
from headrace.api.kinds import KINDS
from headrace.api.meta import FINALIZER, SOURCE_GROUP
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.consumers import Consumers
from headrace.controllers.git.access import CREDENTIALS, GitAccess
from headrace.controllers.git.includes import Included, opened, read_included
from headrace.controllers.git.verification import (
    VERIFICATION_KEYS,
    VERIFIED,
    Verified,
    left_over,
    needs_verification,
    verified,
)
from headrace.controllers.sources.artifact import ARTIFACT
from headrace.controllers.sources.polls import lasting, max_age, shared_age
from headrace.controllers.sources.secrets import PROXY
from headrace.controllers.sources.storage import (
    STORAGE_FAILED,
    SourceStorage,
    announce,
    stored,
    told_by_storage,
    withdrawn_unless,
)
from headrace.core.clock import Clock
from headrace.core.duration import parse_duration
from headrace.core.egress import RemoteUrl, UrlRefused, parse_url
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry
from headrace.model.outcome import Look, Outcome
from headrace.model.read import Part
from headrace.model.scope import Scope
from headrace.source.git.checkout import Base, Selection
from headrace.source.git.errors import (
    GitError,
    operation_failed,
    refused,
)
from headrace.source.git.inclusion import CopyFailed
from headrace.source.git.refs import RefKind, Resolved, WantedRef, canonical_revision, wanted
from headrace.source.git.remotes import Refs, Remote, Remotes

log = logging.getLogger(__name__)

_SUBJECT = 50


class GitRepositoryController:
    """Reconciles GitRepository objects; see `engine.controller` for the contract."""

    kind = KINDS[(SOURCE_GROUP, "GitRepository")]
    finalizer = FINALIZER
    parts: tuple[Part, ...] = (CREDENTIALS, PROXY, ARTIFACT, VERIFICATION_KEYS)

    def __init__(
        self, remotes: Remotes, store: Store, trees: Trees, clock: Clock, consumers: Consumers | None = None,
        access: GitAccess | None = None,
    ) -> None:  # fmt: skip
        self._access = access or GitAccess()
        self._remotes = remotes
        self._store = store
        self._trees = trees
        self._storage = SourceStorage("gitrepository", store, trees, consumers)
        self._clock = clock

    def timeout(self, repo: GitRepository) -> float:
        """A poll, a fetch and a checkout, each with the time that the spec gives, and room for the rest."""
        return 3 * parse_duration(repo.spec.timeout) + 60.0

    def suspended(self, repo: GitRepository) -> bool:
        return repo.spec.suspend

    def retry_interval(self, repo: GitRepository) -> float | None:
        """Exponential backoff."""
        return None

    async def reconcile(self, repo: GitRepository, scope: Scope) -> Outcome:
        """Poll, and when the commit or the selection of files is another one: fetch, pack, publish.

        Reasons: URLInvalid, NotSupported, FeatureGateDisabled (stalled), AuthenticationFailed, GitOperationFailed,
        EmptyGitRepository, InvalidProviderConfiguration (FetchFailed), NotFound, NoArtifact (IncludeUnavailable),
        CopyFailure, ArchiveOperationFailed (StorageOperationFailed).
        """
        held = await self._storage.held(repo.status.artifact, scope)
        with withdrawn_unless(held, repo.status.artifact):
            want = _wanted(repo)
            remote = await self._remote(repo, scope)
            target = await self._poll(repo, remote, want, scope)
            included = await read_included(repo, scope)
            if held is not None and _is_current(repo, held, target, included):
                outcome = await self._keep(repo, held, included, scope)
            else:
                with _told_by_git():
                    proof = await verified(repo, remote, target, scope)
                outcome = _with_proof(await self._renew(repo, remote, target, included, scope), proof)
        return msgspec.structs.replace(outcome, look=self._look(repo, remote, want))

    async def finalize(self, repo: GitRepository, scope: Scope) -> None:
        """Delete the stored artifacts (SRC-COM-02)."""
        await self._storage.remove(repo.metadata)

    # -- what is there -------------------------------------------------------------------------------------------

    async def _remote(self, repo: GitRepository, scope: Scope) -> Remote:
        url = _url(repo)
        asking = self._access.credentials(repo, url, scope)
        if lasting(repo.spec.provider):
            return self._remotes.remote(url, await asking)
        return self._remotes.remote(url, await scope.wait(asking, note="issuer of tokens"))

    async def _poll(self, repo: GitRepository, remote: Remote, want: WantedRef, scope: Scope) -> Resolved:
        """The commit that the ref names now. Subscribes to the ref before it is known whether it exists."""
        timeout = parse_duration(repo.spec.timeout)
        age = max_age(repo.metadata, parse_duration(repo.spec.interval), scope.causes, self._clock)
        with _told_by_git():
            refs = None
            if want.kind is not RefKind.COMMIT:
                refs = await self._refs(remote, want.prefix, age, timeout, scope)
            with scope.step("resolve"):
                return await self._remotes.resolve(remote, want, refs, timeout)

    async def _refs(self, remote: Remote, prefix: str, age: float, timeout: float, scope: Scope) -> Refs:
        """The refs of the remote. A server that has to be asked is waited for without a slot."""
        refs = remote.refs_nowait(prefix, max_age=age)
        if refs is not None:
            scope.record(refs.read)
            return refs

        async def ask() -> Refs:
            answer = await remote.refs(prefix, max_age=age, timeout=timeout)
            # Before a slot is free again, or the news of this very answer would wake us.
            scope.record(answer.read)
            return answer

        return await scope.wait(ask(), note="answer of the git server")

    def _look(self, repo: GitRepository, remote: Remote, want: WantedRef) -> Look | None:
        """How to see at the interval that the ref has not moved; None where credentials are issued anew for a run."""
        interval, timeout = parse_duration(repo.spec.interval), parse_duration(repo.spec.timeout)
        origin, metadata, known = remote.origin, repo.metadata, remote.known(want.prefix)

        async def is_unmoved() -> bool:
            same = self._remotes.remote(*origin)
            try:
                refs = await same.refs(want.prefix, max_age=shared_age(interval), timeout=timeout)
            except GitError:
                return False  # a run says what is wrong
            return refs.read.digest == known

        async def look() -> bool:
            unmoved = want.kind is RefKind.COMMIT or await is_unmoved()
            await self._forget_mirrors()
            await self._storage.collect_trees()
            return unmoved and self._storage.is_settled(metadata)

        return look if lasting(repo.spec.provider) else None

    # -- what is done --------------------------------------------------------------------------------------------

    async def _renew(
        self, repo: GitRepository, remote: Remote, target: Resolved, included: Included, scope: Scope
    ) -> Outcome:
        """Store the artifact of the commit and say so."""
        await _announce(repo, target, included, scope)
        timeout = parse_duration(repo.spec.timeout)
        selection = Selection(repo.spec.ignore, repo.spec.sparse_checkout, repo.spec.recurse_submodules)
        with scope.step("fetch"), _told_by_git(), _told_by_copying():
            commit = remote.commit_nowait(target)
            if commit is None:
                commit = await scope.wait(remote.commit(target, timeout), note="commit from the git server")

            async def produce(directory: Path) -> None:
                async with opened(included, self._trees) as inclusions, self._base(repo, included) as base:
                    changed = await self._remotes.check_out(
                        remote, target, selection, directory, timeout, inclusions, base=base
                    )
                # Before others go on with this content: those whom it is about have to be first in line by then.
                self._storage.hasten(remote.reference, changed, scope)

            key = f"{remote.key} {target.commit} {selection.key} {included.key}"
            packed = await self._store.content(key, produce)
        news = await self._storage.concerns(packed, scope)
        with scope.step("store"), told_by_storage():
            artifact = await self._storage.publish(
                repo.metadata, f"{target.commit}.tar.gz", packed, target.revision, before=repo.status.artifact
            )
            await self._forget_mirrors()
        return self._stored(repo, artifact, included, scope, subject=commit.subject, news=news)

    @contextlib.asynccontextmanager
    async def _base(self, repo: GitRepository, included: Included) -> AsyncIterator[Base | None]:
        """The files of the artifact before this one, if they can serve for those that have not changed."""
        before, spec, status = repo.status.artifact, repo.spec, repo.status
        same = status.observed_ignore == spec.ignore and status.observed_sparse_checkout == spec.sparse_checkout
        plain = not (included.entries or status.observed_include or status.observed_recurse_submodules)
        digest = self._store.known_tar_digest(before.digest) if before and same and plain else ""
        async with self._trees.opened(digest) as tree:
            if tree is None or before is None:
                yield None
            else:
                yield Base(before.revision.rpartition("sha1:")[2], tree.directory)

    async def _keep(self, repo: GitRepository, held: Artifact, included: Included, scope: Scope) -> Outcome:
        """Nothing moved."""
        scope.note("no changes since last reconciliation")
        artifact = await self._storage.keep(repo.metadata, held)
        await self._forget_mirrors()
        artifact = msgspec.structs.replace(artifact, revision=canonical_revision(held.revision))
        outcome = self._stored(repo, artifact, included, scope)
        return msgspec.structs.replace(outcome, remove=left_over(repo))

    async def _forget_mirrors(self) -> None:
        """Those that nobody uses any more; a failure of that is nobody's trouble."""
        with contextlib.suppress(OSError):
            await self._remotes.collect()

    def _stored(
        self, repo: GitRepository, artifact: Artifact, included: Included, scope: Scope, *, subject: str = "",
        news: bool = True,
    ) -> Outcome:  # fmt: skip
        return stored(
            artifact,
            scope,
            before=repo.status.artifact,
            message=f"stored artifact for revision '{artifact.revision}'",
            interval=parse_duration(repo.spec.interval),
            event=_event(subject) if news else "",
            unchanged="GitOperationSucceeded",
            status=_observed(repo) | included.status,
        )


def _wanted(repo: GitRepository) -> WantedRef:
    try:
        return wanted(repo.spec.ref)
    except ValueError as error:
        raise refused(f"invalid spec.ref: {error}", "GitOperationFailed") from error


def _url(repo: GitRepository) -> RemoteUrl:
    try:
        return parse_url(repo.spec.url, ("http", "https", "ssh"))
    except UrlRefused as error:
        raise refused(str(error)) from error


def _is_current(repo: GitRepository, held: Artifact, target: Resolved, included: Included) -> bool:
    """Whether the artifact is what this run would make (SRC-GIT-12..15, SRC-GIT-34)."""
    status, spec = repo.status, repo.spec
    return (
        canonical_revision(held.revision) == target.revision
        and status.observed_ignore == spec.ignore
        and status.observed_sparse_checkout == spec.sparse_checkout
        and status.observed_recurse_submodules == spec.recurse_submodules
        and included.observed_by(status)
        and not needs_verification(repo)
    )


async def _announce(repo: GitRepository, target: Resolved, included: Included, scope: Scope) -> None:
    """What is new: the commit, or what is included (SRC-COM-12, SRC-GIT-34)."""
    before = repo.status.artifact
    same_commit = before is not None and canonical_revision(before.revision) == target.revision
    if same_commit and not included.observed_by(repo.status):
        await announce("IncludeChange", "included artifacts differ from last observed includes", scope)
    else:
        await announce("NewRevision", f"new upstream revision '{target.revision}'", scope)


def _with_proof(outcome: Outcome, proof: Verified) -> Outcome:
    """A full checkout says what was verified of it, or that nothing was (SRC-GIT-44)."""
    return msgspec.structs.replace(
        outcome,
        status={**outcome.status, "sourceVerificationMode": proof.mode or None},
        conditions=(*outcome.conditions, *proof.conditions),
        remove=() if proof.mode else (VERIFIED,),
    )


def _observed(repo: GitRepository) -> dict[str, object]:
    """The fields of the spec that shaped the artifact; None removes a field."""
    spec = repo.spec
    return {
        "observedIgnore": spec.ignore,
        "observedSparseCheckout": list(spec.sparse_checkout) or None,
        "observedRecurseSubmodules": spec.recurse_submodules or None,
    }


def _event(subject: str) -> str:
    if not subject:
        return "no changes since last reconciliation"
    return f"stored artifact for commit '{subject if len(subject) <= _SUBJECT else subject[:_SUBJECT] + '...'}'"


@contextlib.contextmanager
def _told_by_git() -> Iterator[None]:
    try:
        yield
    except (GitError, ValueError) as error:
        raise operation_failed(error if isinstance(error, GitError) else str(error)) from error


@contextlib.contextmanager
def _told_by_copying() -> Iterator[None]:
    """An include that cannot be copied where it should go (SRC-GIT-35), apart from the disk's own failures."""
    try:
        with told_by_storage():
            yield
    except CopyFailed as error:
        raise Retry("CopyFailure", str(error), condition=STORAGE_FAILED) from error
