"""HelmChart: one chart of a repository, or one made of a directory of another source (spec: sources.md 2.4).

The Structs are the union of v1 and v1beta2, so that no stored field is ever lost between versions.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from headrace.api.gitrepository import AccessFrom
from headrace.api.meta import UNOBSERVED, ApiStruct, LocalObjectReference, SourceArtifact, StatusCondition
from headrace.api.validation import Interval, Rule, Validation
from headrace.model.objects import Metadata

CHART_VERSION, REVISION = "ChartVersion", "Revision"
SOURCE_KINDS = ("HelmRepository", "GitRepository", "Bucket")


class HelmChartSourceReference(ApiStruct, frozen=True, gc=False):
    """Names the source of the chart, in the namespace of the chart."""

    kind: Annotated[str, Validation(enum=SOURCE_KINDS)]
    """Kind of the source."""

    name: str
    """Name of the source."""

    api_version: str = ""
    """Version of the source's API; has no effect."""


class ChartIdentity(ApiStruct, frozen=True, gc=False):
    """Who may have signed a chart without a key."""

    issuer: str
    """Regular expression for the issuer in the certificate."""

    subject: str
    """Regular expression for the subject in the certificate."""


class HelmChartVerification(ApiStruct, frozen=True, gc=False):
    """How the signature of a chart in a registry is verified."""

    provider: Annotated[str, Validation(enum=("cosign", "notation"), default="cosign")]
    """The tool that it was signed with."""

    secret_ref: LocalObjectReference | None = None
    """Secret with the trusted public keys."""

    match_oidc_identity: tuple[ChartIdentity, ...] = msgspec.field(default=(), name="matchOIDCIdentity")
    """Identities of which one must have signed, when there are no keys."""


class HelmChartSpec(ApiStruct, frozen=True, gc=False):
    """Which chart, in which version, with which values."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.verify) || self.sourceRef.kind == 'HelmRepository'",
            "spec.verify is only supported when spec.sourceRef.kind is 'HelmRepository'",
        ),
    )

    chart: str
    """Name of the chart in its repository, or its path in the source."""

    source_ref: HelmChartSourceReference
    """Where the chart is."""

    interval: Interval
    """How often the source is looked at; changes of it are told at once."""

    version: Annotated[str, Validation(default="*")] = "*"
    """Version or range of versions; without effect for charts that are directories or files of a source."""

    reconcile_strategy: Annotated[str, Validation(enum=(CHART_VERSION, REVISION), default=CHART_VERSION)] = (
        CHART_VERSION
    )
    """What makes a new artifact: another version of the chart, or another revision of its source."""

    values_files: tuple[str, ...] = ()
    """Files that make the default values together, later ones winning; values.yaml is not among them by itself."""

    ignore_missing_values_files: bool = False
    """Files of `valuesFiles` that are not there are left out."""

    suspend: bool = False
    """Stops reconciling while true."""

    verify: HelmChartVerification | None = None
    """Which signature is required, for charts of registries."""

    values_file: str = ""
    """Legacy. The first of the values files."""

    access_from: AccessFrom | None = None
    """Legacy. Accepted and without effect."""

    @property
    def all_values_files(self) -> tuple[str, ...]:
        """The values files, the legacy one first."""
        return (self.values_file, *self.values_files) if self.values_file else self.values_files


class HelmChartStatus(ApiStruct, frozen=True, gc=False):
    """What was made last and how the last run ended."""

    observed_generation: int = 0
    """The metadata.generation that was reconciled last; -1 before the first run."""

    observed_source_artifact_revision: str = ""
    """The revision of the source that was looked at last."""

    observed_chart_name: str = ""
    """The name of the chart in the artifact."""

    observed_values_files: tuple[str, ...] = ()
    """The values files in the artifact, where missing ones are left out."""

    conditions: tuple[StatusCondition, ...] = ()
    """The state of the object."""

    url: str = ""
    """Address of the latest chart."""

    artifact: SourceArtifact | None = None
    """The last chart that was stored."""

    last_handled_reconcile_at: str = ""
    """The value of the annotation reconcile.fluxcd.io/requestedAt that was handled last."""


class HelmChart(ApiStruct, frozen=True, gc=False):
    """A Helm chart, ready to be released."""

    metadata: Metadata
    spec: HelmChartSpec
    status: Annotated[HelmChartStatus, Validation(default={"observedGeneration": UNOBSERVED})] = HelmChartStatus()
