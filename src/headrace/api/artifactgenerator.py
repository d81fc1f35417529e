"""ArtifactGenerator: artifacts made of the files of other sources (spec: sources.md 2.7).

Each output becomes an ExternalArtifact with its own content and digest, so that what it consists of changes only when
its own files do.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from headrace.api.meta import ApiStruct, StatusCondition
from headrace.api.validation import Rule, Validation
from headrace.model.objects import Metadata

RECONCILE = "source.extensions.fluxcd.io/reconcile"
"""Annotation: `disabled` stops reconciling."""
GENERATOR = "source.extensions.fluxcd.io/generator"
"""Label of an ExternalArtifact: the uid of the ArtifactGenerator that makes it."""
MANAGED_BY = "app.kubernetes.io/managed-by"

_ALIAS = "[a-z0-9]([a-z0-9_-]*[a-z0-9])?"
_DNS_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


class CommonMetadata(ApiStruct, frozen=True, gc=False):
    """Labels and annotations of every ExternalArtifact that is made."""

    annotations: dict[str, str] = {}
    """Annotations to set."""

    labels: dict[str, str] = {}
    """Labels to set."""


class GeneratorSource(ApiStruct, frozen=True, gc=False):
    """A source whose files are used."""

    alias: Annotated[str, Validation(pattern=f"^{_ALIAS}$", max_length=63)]
    """Name by which the copy operations refer to the source."""

    kind: Annotated[
        str, Validation(enum=("Bucket", "GitRepository", "OCIRepository", "HelmChart", "ExternalArtifact"))
    ]
    """Kind of the source."""

    name: Annotated[str, Validation(pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=253)]
    """Name of the source."""

    namespace: Annotated[str, Validation(pattern=f"^{_DNS_NAME}$", min_length=1, max_length=63)] = ""
    """Namespace of the source; that of the generator when empty."""


class CopyOperation(ApiStruct, frozen=True, gc=False):
    """Files to take from a source, and where they go."""

    from_: Annotated[str, Validation(pattern=f"^@({_ALIAS})/(.*)$", min_length=1, max_length=1024)] = msgspec.field(
        name="from"
    )
    """What to copy: `@alias/path`, where the path may be a file, a directory or a glob pattern."""

    to: Annotated[str, Validation(pattern="^@(artifact)/(.*)$", min_length=1, max_length=1024)]
    """Where it goes: `@artifact/path`."""

    exclude: Annotated[tuple[str, ...], Validation(max_items=100)] = ()
    """Glob patterns of files and directories to leave out."""

    strategy: Annotated[str, Validation(enum=("Overwrite", "Merge", "Extract"))] = ""
    """What to do with a file: Overwrite (the default) replaces the one that is there, Merge merges YAML maps into it,
    Extract unpacks a tarball."""


class OutputArtifact(ApiStruct, frozen=True, gc=False):
    """An artifact to make, and the name of its ExternalArtifact."""

    name: Annotated[str, Validation(min_length=1, max_length=253)]
    """Name of the ExternalArtifact; with `pathPattern` it may hold captures such as `{app}`."""

    copy: Annotated[tuple[CopyOperation, ...], Validation(min_items=1)]
    """What it consists of, copied in this order."""

    revision: Annotated[str, Validation(pattern=f"^@({_ALIAS})$", max_length=64)] = ""
    """`@alias` of the source whose revision the artifact has; `latest@<digest>` when empty."""

    origin_revision: Annotated[str, Validation(pattern=f"^@({_ALIAS})$", max_length=64)] = ""
    """`@alias` of the source whose origin revision stands in the metadata of the artifact."""


class ArtifactGeneratorSpec(ApiStruct, frozen=True, gc=False):
    """Sources, and what to make of them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.pathPattern) && size(self.pathPattern) > 0 || self.artifacts.all(a, "
            r"a.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))",
            "artifact names must be valid Kubernetes object names when pathPattern is not set",
        ),
    )

    sources: Annotated[tuple[GeneratorSource, ...], Validation(min_items=1, max_items=1000)]
    """The sources whose files are used."""

    artifacts: Annotated[tuple[OutputArtifact, ...], Validation(min_items=1, max_items=1000)]
    """The artifacts to make; with `pathPattern`, those of each directory that matches."""

    path_pattern: Annotated[str, Validation(pattern=f"^@({_ALIAS})/(.*)$", max_length=1024)] = ""
    """`@alias/path` of directories, of which a segment may be or hold a capture such as `{app}`."""

    common_metadata: CommonMetadata | None = None
    """Labels and annotations of every ExternalArtifact that is made."""


class GeneratedArtifact(ApiStruct, frozen=True, gc=False):
    """An ExternalArtifact that was made."""

    name: str
    """Name of the ExternalArtifact."""

    namespace: str
    """Namespace of the ExternalArtifact."""

    digest: str
    """Digest of the stored file."""

    filename: str
    """Name of the stored file."""


class ArtifactGeneratorStatus(ApiStruct, frozen=True, gc=False):
    """What was made last and how the last run ended."""

    conditions: tuple[StatusCondition, ...] = ()
    """The state of the object."""

    inventory: tuple[GeneratedArtifact, ...] = ()
    """The ExternalArtifacts that were made."""

    observed_sources_digest: str = ""
    """Digest of what the sources were at."""

    last_handled_reconcile_at: str = ""
    """The value of the annotation reconcile.fluxcd.io/requestedAt that was handled last."""


class ArtifactGenerator(ApiStruct, frozen=True, gc=False):
    """Makes artifacts of the files of other sources."""

    metadata: Metadata
    spec: ArtifactGeneratorSpec
    status: ArtifactGeneratorStatus = ArtifactGeneratorStatus()

    @property
    def disabled(self) -> bool:
        """Whether an annotation says that nothing is to be done (SRC-AGN-19)."""
        return self.metadata.annotation(RECONCILE).lower() == "disabled"
