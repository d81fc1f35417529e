"""GitRepository: a git repository that is fetched at a ref and offered as an artifact (spec: sources.md 2.1).

The Structs are the union of v1 and v1beta2, so that no stored field is ever lost between versions.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from headrace.api.meta import (
    UNOBSERVED,
    ApiStruct,
    LocalObjectReference,
    SecretReference,
    SourceArtifact,
    StatusCondition,
)
from headrace.api.validation import Interval, Rule, ShortTimeout, Validation
from headrace.model.objects import Metadata


class GitRepositoryRef(ApiStruct, frozen=True, gc=False):
    """Which commit of the repository is wanted: commit wins over name, then tag, semver and branch."""

    branch: str = ""
    """Branch to follow; `master` when nothing else is given."""

    tag: str = ""
    """Tag to follow."""

    semver: str = ""
    """Range of versions; the highest tag in it is taken."""

    name: str = ""
    """Full name of a ref, such as refs/heads/main or refs/pull/420/head."""

    commit: str = ""
    """Commit by its full hash; with `branch`, one that is on that branch."""


class GitRepositoryVerification(ApiStruct, frozen=True, gc=False):
    """How signatures are verified before content is accepted."""

    secret_ref: SecretReference
    """Secret with the trusted public keys: PGP as *.asc, SSH as *.sshpub."""

    mode: Annotated[str, Validation(enum=("head", "HEAD", "Tag", "TagAndHEAD"), default="HEAD")] = "HEAD"
    """What must be signed: the commit (HEAD), the tag (Tag), or both (TagAndHEAD)."""


class GitRepositoryInclude(ApiStruct, frozen=True, gc=False):
    """Another GitRepository whose artifact is copied into this one's."""

    repository: LocalObjectReference
    """The GitRepository to include."""

    from_path: str = ""
    """Directory of the included artifact to copy; its root when empty."""

    to_path: str = ""
    """Directory to copy to; the name of the included repository when empty."""

    @property
    def destination(self) -> str:
        return self.to_path or self.repository.name


class LabelMatch(ApiStruct, frozen=True, gc=False):
    """Selects namespaces by their labels."""

    match_labels: dict[str, str] = {}
    """Labels that must all be there."""


class AccessFrom(ApiStruct, frozen=True, gc=False):
    """Legacy access list of the beta versions; accepted and, as upstream, without effect."""

    namespace_selectors: tuple[LabelMatch, ...]
    """Namespaces that may refer to the source."""


class GitRepositorySpec(ApiStruct, frozen=True, gc=False):
    """What to fetch, how often and with which credentials."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.serviceAccountName) || (has(self.provider) && (self.provider == 'azure' || "
            "self.provider == 'aws'))",
            "serviceAccountName can only be set when provider is 'azure' or 'aws'",
        ),
    )

    url: Annotated[str, Validation(pattern=r"^(http|https|ssh)://.*$")]
    """Address of the repository: http, https or ssh."""

    interval: Interval
    """How often the repository is asked for news; jitter is added."""

    timeout: Annotated[ShortTimeout, Validation(default="60s")] = "60s"
    """Limit for one git operation."""

    secret_ref: SecretReference | None = None
    """Secret with credentials: `username` and `password`, or `bearerToken`; for ssh `identity` and `known_hosts`;
    optionally `ca.crt`, `tls.crt` and `tls.key`."""

    provider: Annotated[str, Validation(enum=("generic", "aws", "azure", "github"))] = ""
    """Where credentials come from; generic (the Secret) when empty."""

    service_account_name: str = ""
    """ServiceAccount to authenticate as, for the providers aws and azure."""

    ref: GitRepositoryRef | None = None
    """Which commit is wanted; branch master when absent."""

    verify: GitRepositoryVerification | None = None
    """Which signatures are required."""

    proxy_secret_ref: LocalObjectReference | None = None
    """Secret with `address` and optionally `username` and `password` of a proxy."""

    ignore: str | None = None
    """Patterns of files to leave out, in the format of .gitignore. They replace the defaults."""

    suspend: bool = False
    """Stops reconciling while true."""

    recurse_submodules: bool = False
    """Fetches submodules too."""

    include: tuple[GitRepositoryInclude, ...] = ()
    """Other repositories whose artifacts are copied into this one's."""

    sparse_checkout: tuple[str, ...] = ()
    """Directories to keep; all when empty."""

    git_implementation: Annotated[str, Validation(enum=("go-git", "libgit2"))] = ""
    """Legacy. Accepted and without effect."""

    access_from: AccessFrom | None = None
    """Legacy. Accepted and without effect."""


class GitRepositoryStatus(ApiStruct, frozen=True, gc=False):
    """What was fetched last and how the last run ended."""

    observed_generation: int = 0
    """The metadata.generation that was reconciled last; -1 before the first run."""

    conditions: tuple[StatusCondition, ...] = ()
    """The state of the object."""

    artifact: SourceArtifact | None = None
    """The last content that was stored."""

    included_artifacts: tuple[SourceArtifact, ...] = ()
    """The artifacts that were included, in the order of spec.include."""

    observed_ignore: str | None = None
    """The spec.ignore that the artifact was made with."""

    observed_recurse_submodules: bool = False
    """The spec.recurseSubmodules that the artifact was made with."""

    observed_include: tuple[GitRepositoryInclude, ...] = ()
    """The spec.include that the artifact was made with."""

    observed_sparse_checkout: tuple[str, ...] = ()
    """The spec.sparseCheckout that the artifact was made with."""

    source_verification_mode: str | None = None
    """Which git objects were verified."""

    last_handled_reconcile_at: str = ""
    """The value of the annotation reconcile.fluxcd.io/requestedAt that was handled last."""

    url: str = ""
    """Legacy. Address of the latest artifact."""

    content_config_checksum: str = ""
    """Legacy. Digest of the settings that shaped the artifact."""


class GitRepository(ApiStruct, frozen=True, gc=False):
    """A git repository whose content is fetched and offered as an artifact."""

    metadata: Metadata
    spec: GitRepositorySpec
    status: Annotated[GitRepositoryStatus, Validation(default={"observedGeneration": UNOBSERVED})] = (
        GitRepositoryStatus()
    )
