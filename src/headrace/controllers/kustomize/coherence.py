"""Commit coherence: with `headrace.dev/coherence: "true"` a dependency counts as ready only at the same or a newer
revision of the source, also where both have a GitRepository of their own for one repository and ref.

Which of two revisions is newer is not guessed from times or names. A dependency counts at the same revision, or when
it is at its own source's, has delivered ours before, and we have never delivered its: then it has moved on past ours.
Where that is not known, one of the two sources is behind the other. Both look at one ref, so the one that is behind
moves, and that is waited for (decision 010).
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from headrace.api.gitrepository import GitRepository, GitRepositoryRef
from headrace.api.kinds import GIT_REPOSITORY
from headrace.api.kustomization import Kustomization
from headrace.api.meta import COHERENCE
from headrace.controllers.sources.artifact import artifact_of
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope

KEPT = 32
"""Revisions of each Kustomization that are remembered, besides those of its history."""


class Repository(msgspec.Struct, frozen=True, gc=False):
    """Which commits a GitRepository follows, and the one that it has."""

    url: str
    ref: GitRepositoryRef
    revision: str = ""

    def follows_the_same(self, other: Repository) -> bool:
        """Whether both look at one ref of one repository."""
        return (self.url, self.ref) == (other.url, other.ref)


def repository(live: LiveObject | None) -> Repository | None:
    """The view of a GitRepository; None for what is none."""
    if live is None or live.reference.group_kind != GIT_REPOSITORY.group_kind:
        return None
    try:
        spec = live.decode(GitRepository).spec
    except msgspec.MsgspecError:
        return None
    artifact = artifact_of(live)
    followed = spec.ref if spec.ref not in (None, GitRepositoryRef()) else GitRepositoryRef(branch="master")
    return Repository(same_url(spec.url), followed or GitRepositoryRef(), artifact.revision if artifact else "")


def same_url(url: str) -> str:
    """The address in one form: without credentials, a final slash and `.git`. One that is none stays as it is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    host = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme.lower()}://{host}{parts.path.rstrip('/').removesuffix('.git')}"


REPOSITORY = Part("repository", repository)


def coherent(ks: Kustomization) -> bool:
    """Whether the Kustomization asks for coherence."""
    return ks.metadata.annotation(COHERENCE).lower() == "true"


ASKED = Part("coherence", lambda live: live.metadata.annotation(COHERENCE), metadata_only=True)


class Coherence:
    """Decides whether a dependency is at the revision that its dependent is about to deliver."""

    def __init__(self) -> None:
        self._handled: dict[str, dict[str, None]] = {}

    def handled(self, uid: str, revision: str) -> None:
        """A Kustomization has delivered a revision."""
        revisions = self._handled.setdefault(uid, {})
        revisions.pop(revision, None)
        revisions[revision] = None
        if len(revisions) > KEPT:
            del revisions[next(iter(revisions))]

    def forget(self, uid: str) -> None:
        """The Kustomization is gone."""
        self._handled.pop(uid, None)

    async def problem(
        self, ks: Kustomization, revision: str, sources: tuple[Reference, Reference], dependency: Kustomization,
        scope: Scope,
    ) -> str:
        """Why a ready dependency does not count yet for `ks`, which is about to deliver `revision`; empty when it
        does. `sources` are those of `ks` and of the dependency; both are subscribed to."""
        at = dependency.status.last_applied_revision
        if sources[0] != sources[1]:
            own = repository(await scope.read(sources[0], REPOSITORY))
            other = repository(await scope.read(sources[1], REPOSITORY))
            if own is None or other is None or not own.follows_the_same(other) or at == revision:
                return ""
            if at == other.revision:
                newer = knows(dependency, self._revisions(dependency), revision) and not knows(
                    ks, self._revisions(ks), at)
                return "" if newer else f"is at revision {at}, which is not known to be newer than {revision}"
        return "" if at == revision else "revision is not up to date"

    def _revisions(self, ks: Kustomization) -> frozenset[str]:
        return frozenset(self._handled.get(ks.metadata.uid, ()))


def knows(ks: Kustomization, handled: frozenset[str], revision: str) -> bool:
    """Whether a Kustomization has delivered a revision before, as its history or `handled` tell. Pure."""
    return revision in handled or any(
        (snapshot.metadata or {}).get("revision") == revision
        for snapshot in ks.status.history if snapshot.last_reconciled_status == "ReconciliationSucceeded"
    )
