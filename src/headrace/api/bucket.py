"""Bucket: the objects of an object storage, offered as an artifact (spec: sources.md 2.5).

The Structs are the union of v1 and v1beta2, so that no stored field is ever lost between versions.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from headrace.api.gitrepository import AccessFrom
from headrace.api.meta import (
    UNOBSERVED,
    ApiStruct,
    LocalObjectReference,
    SourceArtifact,
    StatusCondition,
)
from headrace.api.validation import Interval, Rule, ShortTimeout, Validation
from headrace.model.objects import Metadata


class BucketSts(ApiStruct, frozen=True, gc=False):
    """A security token service that gives temporary credentials."""

    provider: Annotated[str, Validation(enum=("aws", "ldap"))]
    """How the service is asked: `aws` with a web identity, `ldap` with user name and password."""

    endpoint: Annotated[str, Validation(pattern=r"^(http|https)://.*$")]
    """Address of the service."""

    secret_ref: LocalObjectReference | None = None
    """Secret with `username` and `password`, for `ldap`."""

    cert_secret_ref: LocalObjectReference | None = None
    """Secret with `ca.crt`, or `tls.crt` and `tls.key`, for the service; for `ldap`."""


class BucketSpec(ApiStruct, frozen=True, gc=False):
    """What to fetch, how often and with which credentials."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.provider == 'aws' || self.provider == 'generic' || !has(self.sts)",
            "STS configuration is only supported for the 'aws' and 'generic' Bucket providers",
        ),
        Rule(
            "self.provider != 'aws' || !has(self.sts) || self.sts.provider == 'aws'",
            "'aws' is the only supported STS provider for the 'aws' Bucket provider",
        ),
        Rule(
            "self.provider != 'generic' || !has(self.sts) || self.sts.provider == 'ldap'",
            "'ldap' is the only supported STS provider for the 'generic' Bucket provider",
        ),
        Rule(
            "!has(self.sts) || self.sts.provider != 'aws' || !has(self.sts.secretRef)",
            "spec.sts.secretRef is not required for the 'aws' STS provider",
        ),
        Rule(
            "!has(self.sts) || self.sts.provider != 'aws' || !has(self.sts.certSecretRef)",
            "spec.sts.certSecretRef is not required for the 'aws' STS provider",
        ),
        Rule(
            "self.provider != 'generic' || !has(self.serviceAccountName)",
            "ServiceAccountName is not supported for the 'generic' Bucket provider",
        ),
        Rule(
            "!has(self.secretRef) || !has(self.serviceAccountName)",
            "cannot set both .spec.secretRef and .spec.serviceAccountName",
        ),
    )

    bucket_name: str
    """Name of the bucket, or of the container."""

    endpoint: str
    """Address of the server: `host` or `host:port`; for azure the URL of the storage account."""

    interval: Interval
    """How often the bucket is listed; jitter is added."""

    provider: Annotated[str, Validation(enum=("generic", "aws", "gcp", "azure"), default="generic")] = "generic"
    """Protocol and origin of credentials: `generic` and `aws` are S3."""

    sts: BucketSts | None = None
    """A service that gives temporary credentials, for `generic` and `aws`."""

    insecure: bool = False
    """Speaks http instead of https."""

    region: str = ""
    """Region of the bucket; found out when empty."""

    prefix: str = ""
    """Only objects whose keys begin with this are fetched."""

    secret_ref: LocalObjectReference | None = None
    """Secret with credentials: `accesskey` and `secretkey`; for gcp `serviceaccount`; for azure see the page of the
    kind."""

    service_account_name: str = ""
    """ServiceAccount to authenticate as, for the providers aws, gcp and azure."""

    cert_secret_ref: LocalObjectReference | None = None
    """Secret with `ca.crt`, or `tls.crt` and `tls.key`, for S3 over https."""

    proxy_secret_ref: LocalObjectReference | None = None
    """Secret with `address` and optionally `username` and `password` of a proxy."""

    timeout: Annotated[ShortTimeout, Validation(default="60s")] = "60s"
    """Limit for the listing, and for all downloads together."""

    ignore: str | None = None
    """Patterns of objects to leave out, in the format of .gitignore."""

    suspend: bool = False
    """Stops reconciling while true."""

    access_from: AccessFrom | None = None
    """Legacy. Accepted and without effect."""


class BucketStatus(ApiStruct, frozen=True, gc=False):
    """What was fetched last and how the last run ended."""

    observed_generation: int = 0
    """The metadata.generation that was reconciled last; -1 before the first run."""

    conditions: tuple[StatusCondition, ...] = ()
    """The state of the object."""

    url: str = ""
    """Address that stays the same, of the latest artifact."""

    artifact: SourceArtifact | None = None
    """The last content that was stored."""

    observed_ignore: str | None = None
    """The spec.ignore that the artifact was made with."""

    last_handled_reconcile_at: str = ""
    """The value of the annotation reconcile.fluxcd.io/requestedAt that was handled last."""


class Bucket(ApiStruct, frozen=True, gc=False):
    """A bucket of an object storage whose content is fetched and offered as an artifact."""

    metadata: Metadata
    spec: BucketSpec
    status: Annotated[BucketStatus, Validation(default={"observedGeneration": UNOBSERVED})] = BucketStatus()
