"""From a sourceRef to the Artifact to deliver: the first read of everything that delivers (spec 3.2 step 6)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from headrace.api.kinds import KINDS
from headrace.api.kustomization import SourceReference
from headrace.api.meta import SOURCE_GROUP
from headrace.core.duration import format_duration
from headrace.kube.errors import KubeError, NoMatch
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry, Stalled, Waiting
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope

ARTIFACT_FAILED = "ArtifactFailed"
ACCESS_DENIED = "AccessDenied"

SOURCE_KINDS = ("GitRepository", "OCIRepository", "Bucket", "ExternalArtifact")
"""What a delivery may name as its source (KS-SRC-01)."""


class _Status(msgspec.Struct, frozen=True, gc=False):
    artifact: Artifact | None = None


class _Source(msgspec.Struct, frozen=True, gc=False):
    status: _Status | None = None


def artifact_of(live: LiveObject) -> Artifact | None:
    """`status.artifact` of a source of any kind; None while it has none, or one that does not decode (SEC-39)."""
    try:
        source = live.decode(_Source)
    except msgspec.MsgspecError:
        return None
    return source.status.artifact if source.status is not None else None


def _extract(live: LiveObject) -> object:
    artifact = artifact_of(live)
    return None if artifact is None else [artifact.revision, artifact.digest, artifact.url, artifact.origin_revision]


ARTIFACT = Part("artifact", _extract)
"""What a delivery uses of its source. Neither its conditions nor the time of the artifact: a source that fails, or is
suspended, still serves what it has (KS-SRC-07)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """Which sources may be referred to (Flux's flags and gates)."""

    no_cross_namespace_refs: bool = False
    external_artifacts: bool = False
    requeue: float = 30.0
    """Seconds of the fallback timer while there is no artifact; the event comes first."""


class Sources:
    """Reads the artifacts of sources."""

    def __init__(self, policy: SourcePolicy) -> None:
        self._policy = policy

    async def artifact(self, source: SourceReference, namespace: str, retry: float, scope: Scope) -> Artifact:
        """The artifact to deliver. `namespace` is the referring object's, `retry` its retry interval in seconds.

        Raises Stalled(AccessDenied), and Waiting(ArtifactFailed) until the source, or its artifact, is there.
        """
        reference = Reference(SOURCE_GROUP, source.kind, source.namespace or namespace, source.name)
        self._check_access(reference, namespace)
        live = await self._read(reference, retry, scope)
        artifact = artifact_of(live)
        if artifact is None:
            text = f"Source artifact not found, retrying in {format_duration(self._policy.requeue)}"
            raise Waiting(ARTIFACT_FAILED, text, on=(reference,), after=self._policy.requeue, quiet=True)
        if not artifact.digest or not artifact.url:
            raise Retry(ARTIFACT_FAILED, f"the artifact of {reference} has no digest or no address")
        return artifact

    async def _read(self, reference: Reference, retry: float, scope: Scope) -> LiveObject:
        name = f"{reference.namespace}/{reference.name}"
        try:
            live = await scope.read(reference, ARTIFACT)
        except NoMatch as error:
            kind = Reference(reference.group, reference.kind, "", "")
            text = f"unable to get source '{name}': {error}"
            raise Waiting(ARTIFACT_FAILED, text, on=(kind,), after=retry, quiet=True) from error
        except KubeError as error:
            raise Retry(ARTIFACT_FAILED, f"unable to get source '{name}': {error}") from error
        if live is None:
            text = f'{plural(reference)}.{SOURCE_GROUP} "{reference.name}" not found'
            raise Waiting(ARTIFACT_FAILED, text, on=(reference,), after=retry, quiet=True)
        return live

    def _check_access(self, reference: Reference, namespace: str) -> None:
        """Raises Stalled(AccessDenied): KS-SRC-01, KS-SRC-03."""
        name = f"{reference.kind}/{reference.namespace}/{reference.name}"
        if reference.kind not in SOURCE_KINDS:
            raise Stalled(ARTIFACT_FAILED, f"source `{reference.name}` kind '{reference.kind}' not supported")
        if self._policy.no_cross_namespace_refs and reference.namespace != namespace:
            raise Stalled(ACCESS_DENIED, f"can't access '{name}', cross-namespace references have been blocked")
        if reference.kind == "ExternalArtifact" and not self._policy.external_artifacts:
            raise Stalled(ACCESS_DENIED, f"can't access '{name}', ExternalArtifact feature gate is disabled")


def plural(reference: Reference) -> str:
    """The plural of a source's kind, as error messages have it."""
    info = KINDS.get(reference.group_kind)
    return info.plural if info is not None else reference.kind.lower() + "s"
