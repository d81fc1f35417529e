"""`spec.include`: the artifacts of other GitRepositories, copied into the one of this object (SRC-GIT-32..36).

They are read like everything else, so that an artifact that appears or changes wakes whoever includes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import msgspec

from headrace.api.gitrepository import GitRepository, GitRepositoryInclude, GitRepositoryStatus
from headrace.api.meta import SOURCE_GROUP
from headrace.artifact.trees import Trees
from headrace.controllers.sources.artifact import ARTIFACT, artifact_of
from headrace.controllers.sources.storage import STORAGE_FAILED, shown
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry, StepError, Waiting
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.source.git.inclusion import Inclusion

UNAVAILABLE = "IncludeUnavailable"


@dataclass(frozen=True, slots=True)
class Included:
    """What is included, in the order of the spec, with the artifact of each."""

    entries: tuple[tuple[GitRepositoryInclude, Artifact], ...] = ()

    @property
    def key(self) -> str:
        """Equal where the same content is copied to the same places."""
        return repr([(one.from_path, _target(one), artifact.digest) for one, artifact in self.entries])

    def observed_by(self, status: GitRepositoryStatus) -> bool:
        """Whether the artifact in the status was made with these."""
        known = [(artifact.revision, artifact.digest) for artifact in status.included_artifacts]
        wanted = [(artifact.revision, artifact.digest) for _, artifact in self.entries]
        return known == wanted and status.observed_include == tuple(one for one, _ in self.entries)

    @property
    def status(self) -> dict[str, object]:
        """The fields of the status that say so; None removes one."""
        specs = [{key: value for key, value in msgspec.to_builtins(one).items() if value} for one, _ in self.entries]
        artifacts = [shown(artifact) for _, artifact in self.entries]
        return {"observedInclude": specs or None, "includedArtifacts": artifacts or None}


def _target(include: GitRepositoryInclude) -> str:
    return include.to_path or include.repository.name


async def read_included(repo: GitRepository, scope: Scope) -> Included:
    """The artifacts to include. Raises Waiting(NotFound), Waiting(NoArtifact), which end by event."""
    return Included(tuple([(one, await _artifact(repo, one, scope)) for one in repo.spec.include]))


async def _artifact(repo: GitRepository, include: GitRepositoryInclude, scope: Scope) -> Artifact:
    name = include.repository.name
    reference = Reference(SOURCE_GROUP, "GitRepository", repo.metadata.namespace, name)
    live = await scope.read(reference, ARTIFACT)
    if live is None:
        message = f"could not get resource for include '{name}': gitrepositories.{SOURCE_GROUP} \"{name}\" not found"
        raise Waiting("NotFound", message, on=(reference,), condition=UNAVAILABLE, quiet=True)
    artifact = artifact_of(live)
    if artifact is None:
        message = f"no artifact available for include '{name}'"
        raise Waiting("NoArtifact", message, on=(reference,), condition=UNAVAILABLE, quiet=True)
    return artifact


@contextlib.asynccontextmanager
async def opened(included: Included, trees: Trees) -> AsyncIterator[Sequence[Inclusion]]:
    """The files of the included artifacts, for as long as the context is open. Raises Retry(CopyFailure)."""
    async with contextlib.AsyncExitStack() as stack:
        inclusions = []
        for include, artifact in included.entries:
            try:
                tree = await stack.enter_async_context(trees.open(artifact))
            except StepError as error:
                message = f"failed to copy '{include.repository.name}' include: {error.message}"
                raise Retry("CopyFailure", message, condition=STORAGE_FAILED) from error
            inclusions.append(Inclusion(include.repository.name, tree.directory, include.from_path, _target(include)))
        yield inclusions
