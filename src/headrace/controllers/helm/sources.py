"""The source of a HelmChart, read so that whatever of it shapes the chart wakes the chart (SRC-HCH-09)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from headrace.api.helmchart import SOURCE_KINDS, HelmChart
from headrace.api.helmrepository import HelmRepository
from headrace.api.kinds import HELM_REPOSITORY
from headrace.api.meta import SOURCE_GROUP
from headrace.controllers.sources.artifact import ARTIFACT, artifact_of
from headrace.controllers.sources.secrets import FETCH_FAILED
from headrace.kube.errors import KubeError, NoMatch
from headrace.model.artifact import Artifact
from headrace.model.cures import kind_reference
from headrace.model.errors import Retry, Stalled, Waiting
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope

PLURALS = {"HelmRepository": "helmrepositories", "GitRepository": "gitrepositories", "Bucket": "buckets"}
UNAVAILABLE, UNSUPPORTED, NO_ARTIFACT = "SourceUnavailable", "UnsupportedSourceKind", "NoSourceArtifact"


def _repository(live: LiveObject) -> object:
    try:
        spec = live.decode(HelmRepository).spec
    except msgspec.MsgspecError:
        return None
    said = msgspec.to_builtins(spec)
    for irrelevant in ("interval", "suspend", "accessFrom"):
        said.pop(irrelevant, None)
    return [said, ARTIFACT.extract(live)]


REPOSITORY = Part("helm-repository", _repository)
"""What a chart uses of its HelmRepository: how it is reached, and its index."""


@dataclass(frozen=True, slots=True)
class ChartSource:
    """Where a chart comes from: a repository, or the artifact of another source."""

    repository: HelmRepository | None
    artifact: Artifact | None

    @property
    def revision(self) -> str:
        return self.artifact.revision if self.artifact is not None else ""


class ChartSources:
    """Reads the sources of charts. `requeue` is the fallback timer in seconds while there is no artifact."""

    def __init__(self, *, requeue: float = 30.0) -> None:
        self._requeue = requeue

    async def read(self, chart: HelmChart, scope: Scope) -> ChartSource:
        """The source of a chart.

        Raises Stalled(UnsupportedSourceKind), Retry(SourceUnavailable), Waiting(NoSourceArtifact).
        """
        named = chart.spec.source_ref
        if named.kind not in SOURCE_KINDS:
            raise _unsupported(named.kind)
        reference = Reference(SOURCE_GROUP, named.kind, chart.metadata.namespace, named.name)
        is_repository = named.kind == HELM_REPOSITORY.kind
        live = await self._read(reference, REPOSITORY if is_repository else ARTIFACT, scope)
        repository = _decoded(live) if is_repository else None
        artifact = artifact_of(live)
        if repository is not None and repository.spec.is_oci:
            return ChartSource(repository, None)
        if artifact is None or not artifact.digest:
            text = f"no artifact available for {named.kind} source '{named.name}'"
            raise Waiting(NO_ARTIFACT, text, on=(reference,), after=self._requeue, condition=FETCH_FAILED, quiet=True)
        return ChartSource(repository, artifact)

    async def _read(self, reference: Reference, part: Part, scope: Scope) -> LiveObject:
        try:
            live = await scope.read(reference, part)
        except NoMatch as error:
            kind = kind_reference(reference.group, reference.kind)
            text = f"failed to get source: {error}"
            raise Retry(UNAVAILABLE, text, cures=(kind,), condition=FETCH_FAILED) from error
        except KubeError as error:
            raise Retry(UNAVAILABLE, f"failed to get source: {error}", condition=FETCH_FAILED) from error
        if live is None:
            missing = f'{PLURALS[reference.kind]}.{SOURCE_GROUP} "{reference.name}" not found'
            raise Retry(UNAVAILABLE, f"failed to get source: {missing}", condition=FETCH_FAILED)
        return live


def _decoded(live: LiveObject) -> HelmRepository:
    try:
        return live.decode(HelmRepository)
    except msgspec.MsgspecError as error:
        raise Retry(UNAVAILABLE, f"failed to get source: {error}", condition=FETCH_FAILED) from error


def _unsupported(kind: str) -> Stalled:
    """The event says what to do, the condition that there is no source."""
    text = f"failed to get source: unsupported source kind '{kind}', must be one of: [{' '.join(SOURCE_KINDS)}]"
    error = Stalled(UNSUPPORTED, text, condition=FETCH_FAILED)
    error.conditions = (Condition(FETCH_FAILED, "True", UNAVAILABLE, text),)
    return error
