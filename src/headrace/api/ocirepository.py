"""OCIRepository: an artifact in an OCI registry that is offered as an artifact of the cluster (spec: sources.md 2.2).

The Structs are the union of v1 and v1beta2, so that no stored field is ever lost between versions.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from headrace.api.meta import (
    UNOBSERVED,
    ApiStruct,
    LocalObjectReference,
    SourceArtifact,
    StatusCondition,
)
from headrace.api.validation import Interval, ShortTimeout, Validation
from headrace.model.objects import Metadata

EXTRACT, COPY = "extract", "copy"


class OCIRepositoryRef(ApiStruct, frozen=True, gc=False):
    """Which artifact of the repository is wanted: digest wins over semver, semver over tag."""

    digest: str = ""
    """Digest of the artifact, as `sha256:<hex>`."""

    semver: str = ""
    """Range of versions; the highest tag in it is taken."""

    semver_filter: str = ""
    """Regular expression that tags must match before they are taken for versions."""

    tag: str = ""
    """Tag to follow; `latest` when nothing else is given."""


class OCILayerSelector(ApiStruct, frozen=True, gc=False):
    """Which layer of the artifact is used, and what is done with it."""

    media_type: str = ""
    """Media type of the layer; the first one of this type is taken. The first layer of all when empty."""

    operation: Annotated[str, Validation(enum=(EXTRACT, COPY))] = ""
    """`extract` unpacks the layer and packs its files anew, `copy` keeps it as it is. `extract` when empty."""


class OIDCIdentityMatch(ApiStruct, frozen=True, gc=False):
    """Who may have signed without a key: both expressions must match the certificate."""

    issuer: str
    """Regular expression for the issuer of the identity."""

    subject: str
    """Regular expression for the subject of the identity."""


class OCIRepositoryVerification(ApiStruct, frozen=True, gc=False):
    """How signatures are verified before content is accepted."""

    provider: Annotated[str, Validation(enum=("cosign", "notation"), default="cosign")] = "cosign"
    """What signed the artifact: cosign, or notation of the Notary project."""

    secret_ref: LocalObjectReference | None = None
    """Secret with what is trusted: for cosign public keys as *.pub, for notation `trustpolicy.json` and certificates
    as *.crt or *.pem. Without it cosign's signatures are verified by identities."""

    match_oidc_identity: tuple[OIDCIdentityMatch, ...] = msgspec.field(default=(), name="matchOIDCIdentity")
    """Who may have signed without a key; anyone when empty."""

    trusted_root_secret_ref: LocalObjectReference | None = None
    """Secret with `trusted_root.json`: the authorities and logs that signatures without a key are verified by."""


class OCIRepositorySpec(ApiStruct, frozen=True, gc=False):
    """What to fetch, how often and with which credentials."""

    url: Annotated[str, Validation(pattern=r"^oci://.*$")]
    """Address of the repository, without a tag: `oci://<host>/<org>/<repository>`."""

    interval: Interval
    """How often the registry is asked for news; jitter is added."""

    ref: OCIRepositoryRef | None = None
    """Which artifact is wanted; the tag latest when absent."""

    layer_selector: OCILayerSelector | None = None
    """Which layer is used; the first one, extracted, when absent."""

    provider: Annotated[str, Validation(enum=("generic", "aws", "azure", "gcp"), default="generic")] = "generic"
    """Where credentials come from: generic takes those of Secrets, the others the identity in a cloud."""

    secret_ref: LocalObjectReference | None = None
    """Secret of type kubernetes.io/dockerconfigjson with credentials for the registry."""

    verify: OCIRepositoryVerification | None = None
    """Which signatures are required."""

    service_account_name: str = ""
    """ServiceAccount whose imagePullSecrets are used, and to authenticate as with a provider."""

    cert_secret_ref: LocalObjectReference | None = None
    """Secret with `ca.crt`, or `tls.crt` and `tls.key`, for the registry."""

    proxy_secret_ref: LocalObjectReference | None = None
    """Secret with `address` and optionally `username` and `password` of a proxy."""

    timeout: Annotated[ShortTimeout, Validation(default="60s")] = "60s"
    """Limit for one operation with the registry."""

    ignore: str | None = None
    """Patterns of files to leave out, in the format of .gitignore. They replace the defaults."""

    insecure: bool = False
    """Accepts a registry without TLS or, without certSecretRef, with any certificate."""

    suspend: bool = False
    """Stops reconciling while true."""


class OCIRepositoryStatus(ApiStruct, frozen=True, gc=False):
    """What was fetched last and how the last run ended."""

    observed_generation: int = 0
    """The metadata.generation that was reconciled last; -1 before the first run."""

    conditions: tuple[StatusCondition, ...] = ()
    """The state of the object."""

    url: str = ""
    """Address of the latest artifact, whichever that is."""

    artifact: SourceArtifact | None = None
    """The last content that was stored."""

    content_config_checksum: str = ""
    """Legacy. Digest of the settings that shaped the artifact."""

    observed_ignore: str | None = None
    """The spec.ignore that the artifact was made with."""

    observed_layer_selector: OCILayerSelector | None = None
    """The spec.layerSelector that the artifact was made with."""

    last_handled_reconcile_at: str = ""
    """The value of the annotation reconcile.fluxcd.io/requestedAt that was handled last."""


class OCIRepository(ApiStruct, frozen=True, gc=False):
    """An artifact in an OCI registry whose content is fetched and offered as an artifact."""

    metadata: Metadata
    spec: OCIRepositorySpec
    status: Annotated[OCIRepositoryStatus, Validation(default={"observedGeneration": UNOBSERVED})] = (
        OCIRepositoryStatus()
    )
