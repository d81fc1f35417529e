"""HelmRepository: an index of charts that is fetched over HTTP, or the address of charts in an OCI registry (spec:
sources.md 2.3).

The Structs are the union of v1 and v1beta2, so that no stored field is ever lost between versions.
"""

from __future__ import annotations

from typing import Annotated

from headrace.api.gitrepository import AccessFrom
from headrace.api.meta import UNOBSERVED, ApiStruct, LocalObjectReference, SourceArtifact, StatusCondition
from headrace.api.validation import Interval, ShortTimeout, Validation
from headrace.model.objects import Metadata

DEFAULT_TYPE, OCI_TYPE = "default", "oci"
_DEFAULT_DURATION = "1m"


class HelmRepositorySpec(ApiStruct, frozen=True, gc=False):
    """Where the charts are, how often to look and with which credentials."""

    url: Annotated[str, Validation(pattern=r"^(http|https|oci)://.*$")]
    """Address of the repository, or of the registry and the path above the charts."""

    type: Annotated[str, Validation(enum=(DEFAULT_TYPE, OCI_TYPE))] = ""
    """`default` for an index over HTTP, `oci` for a registry; default when empty."""

    interval: Interval = ""
    """How often the index is fetched; jitter is added. One minute when absent."""

    timeout: ShortTimeout = ""
    """Limit for one request of the index or of a chart. One minute when absent."""

    secret_ref: LocalObjectReference | None = None
    """Secret with `username` and `password`; for oci also `.dockerconfigjson`. TLS keys in it are deprecated."""

    cert_secret_ref: LocalObjectReference | None = None
    """Secret with `ca.crt`, or `tls.crt` and `tls.key`, or all of them. Wins over TLS keys of `secretRef`."""

    pass_credentials: bool = False
    """Sends the credentials to other hosts, too, when the index names them as those of the charts."""

    insecure: bool = False
    """For oci: plain HTTP will do."""

    suspend: bool = False
    """Stops reconciling while true."""

    access_from: AccessFrom | None = None
    """Legacy. Accepted and without effect."""

    provider: Annotated[str, Validation(enum=("generic", "aws", "azure", "gcp"), default="generic")] = "generic"
    """For oci: where credentials come from when there is no Secret."""

    @property
    def is_oci(self) -> bool:
        return self.type == OCI_TYPE

    @property
    def interval_or_default(self) -> str:
        return self.interval or _DEFAULT_DURATION

    @property
    def timeout_or_default(self) -> str:
        return self.timeout or _DEFAULT_DURATION


class HelmRepositoryStatus(ApiStruct, frozen=True, gc=False):
    """What was fetched last and how the last run ended."""

    observed_generation: int = 0
    """The metadata.generation that was reconciled last; -1 before the first run."""

    conditions: tuple[StatusCondition, ...] = ()
    """The state of the object."""

    url: str = ""
    """Address of the latest index."""

    artifact: SourceArtifact | None = None
    """The last index that was stored."""

    last_handled_reconcile_at: str = ""
    """The value of the annotation reconcile.fluxcd.io/requestedAt that was handled last."""


class HelmRepository(ApiStruct, frozen=True, gc=False):
    """A repository of Helm charts."""

    metadata: Metadata
    spec: HelmRepositorySpec
    status: Annotated[HelmRepositoryStatus, Validation(default={"observedGeneration": UNOBSERVED})] = (
        HelmRepositoryStatus()
    )
