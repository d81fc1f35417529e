"""ExternalArtifact: an artifact that somebody else produces and describes here (spec: sources.md 2.6).

Nothing reconciles it: its producer writes metadata, spec and status, and consumers read `status.artifact` as that of
any other source.
"""

from __future__ import annotations

from headrace.api.meta import ApiStruct, SourceArtifact, StatusCondition
from headrace.model.objects import Metadata


class ProducerReference(ApiStruct, frozen=True, gc=False):
    """Names the object that an artifact is made for."""

    kind: str
    """Kind of the object."""

    name: str
    """Name of the object."""

    api_version: str = ""
    """API version of the object, as group/version."""

    namespace: str = ""
    """Namespace of the object."""


class ExternalArtifactSpec(ApiStruct, frozen=True, gc=False):
    """Where the artifact comes from."""

    source_ref: ProducerReference | None = None
    """The object that the artifact is made for."""


class ExternalArtifactStatus(ApiStruct, frozen=True, gc=False):
    """What its producer says of the artifact."""

    artifact: SourceArtifact | None = None
    """The last content that was stored."""

    conditions: tuple[StatusCondition, ...] = ()
    """The state of the object."""


class ExternalArtifact(ApiStruct, frozen=True, gc=False):
    """An artifact that is produced by a controller of its own and consumed as any other source's."""

    metadata: Metadata
    spec: ExternalArtifactSpec = ExternalArtifactSpec()
    status: ExternalArtifactStatus = ExternalArtifactStatus()
