"""Kustomization: delivers a directory of a source with Kustomize (spec: kustomization.md section 1).

The Structs are the union of v1, v1beta2 and v1beta1, so that no stored field is ever lost between versions.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from headrace.api.meta import UNOBSERVED, ApiStruct, LocalObjectReference, StatusCondition
from headrace.api.validation import Interval, LegacyNamespace, Rule, Time, Validation
from headrace.model.objects import Metadata
from headrace.model.plan import InventoryEntry

OWNER_NAME = "kustomize.toolkit.fluxcd.io/name"
OWNER_NAMESPACE = "kustomize.toolkit.fluxcd.io/namespace"
"""The two labels that name the Kustomization an object belongs to."""
RECONCILE = "kustomize.toolkit.fluxcd.io/reconcile"
SSA = "kustomize.toolkit.fluxcd.io/ssa"
FORCE = "kustomize.toolkit.fluxcd.io/force"
PRUNE = "kustomize.toolkit.fluxcd.io/prune"
SUBSTITUTE = "kustomize.toolkit.fluxcd.io/substitute"
DECRYPT = "kustomize.toolkit.fluxcd.io/decrypt"
CHECKSUM = "kustomize.toolkit.fluxcd.io/checksum"
"""Labels or annotations with which an object steers its own delivery (spec section 4.4)."""
REVISION_ANNOTATION = "kustomize.toolkit.fluxcd.io/revision"
ORIGIN_REVISION_ANNOTATION = "kustomize.toolkit.fluxcd.io/originRevision"
"""Annotations of events."""


class SourceReference(ApiStruct, frozen=True, gc=False):
    """The source to deliver from."""

    kind: Annotated[str, Validation(enum=("OCIRepository", "GitRepository", "Bucket", "ExternalArtifact"))]
    """Kind of the source."""

    name: str
    """Name of the source."""

    namespace: str = ""
    """Namespace of the source; that of the Kustomization when empty."""

    api_version: str = ""
    """Not used: the version that the cluster prefers is read."""


class DependencyReference(ApiStruct, frozen=True, gc=False):
    """A Kustomization that must be ready first."""

    name: str
    """Name of the Kustomization."""

    namespace: str = ""
    """Namespace of the Kustomization; that of the dependent when empty."""

    ready_expr: str = ""
    """CEL expression over `self` and `dep` that says when the dependency is ready, in place of the built-in test."""


class KubeConfigSecretReference(ApiStruct, frozen=True, gc=False):
    """The Secret that holds a kubeconfig."""

    name: str
    """Name of the Secret."""

    key: str = ""
    """Key of the kubeconfig; `value`, then `value.yaml` when empty."""

    namespace: LegacyNamespace = None
    """Legacy. Honoured only when it is the namespace of the referring object."""


class KubeConfigReference(ApiStruct, frozen=True, gc=False):
    """The cluster to deliver to, by exactly one of two references."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.configMapRef) || has(self.secretRef)",
            "exactly one of spec.kubeConfig.configMapRef or spec.kubeConfig.secretRef must be specified",
        ),
        Rule(
            "!has(self.configMapRef) || !has(self.secretRef)",
            "exactly one of spec.kubeConfig.configMapRef or spec.kubeConfig.secretRef must be specified",
        ),
    )

    secret_ref: KubeConfigSecretReference | None = None
    """Secret with a kubeconfig that needs no files and no programs."""

    config_map_ref: LocalObjectReference | None = None
    """ConfigMap that names the cluster and the provider of its credentials."""


class Decryption(ApiStruct, frozen=True, gc=False):
    """How encrypted files and Secrets are decrypted before they are applied."""

    provider: Annotated[str, Validation(enum=("sops",))]
    """The decryption tool."""

    secret_ref: LocalObjectReference | None = None
    """Secret with private keys or credentials of a key service."""

    service_account_name: str = ""
    """ServiceAccount to authenticate to a cloud's key service as, where the Secret holds no credential for it."""


class SubstituteReference(ApiStruct, frozen=True, gc=False):
    """A ConfigMap or Secret whose data are variables."""

    kind: Annotated[str, Validation(enum=("Secret", "ConfigMap"))]
    """Secret or ConfigMap."""

    name: Annotated[str, Validation(min_length=1, max_length=253)]
    """Name of the object, in the namespace of the Kustomization."""

    optional: Annotated[bool, Validation(default=False)] = False
    """Tolerates that the object is absent."""


class PostBuild(ApiStruct, frozen=True, gc=False):
    """What happens to the built manifests before they are applied."""

    substitute: dict[str, str] = {}
    """Values of variables; they win over those of substituteFrom."""

    substitute_from: tuple[SubstituteReference, ...] = ()
    """Objects with the values of variables; later ones win."""

    substitute_strategy: Annotated[str, Validation(enum=("WithVariables", "Always"))] = ""
    """WithVariables (the default) substitutes only when there is a variable, Always in any case."""


class CommonMetadata(ApiStruct, frozen=True, gc=False):
    """Metadata that every delivered object gets."""

    labels: dict[str, str] = {}
    """Labels to set; they replace those of the object."""

    annotations: dict[str, str] = {}
    """Annotations to set; they replace those of the object."""


class Selector(ApiStruct, frozen=True, gc=False):
    """Selects objects; all fields that are set must match. Names are anchored regular expressions."""

    group: str = ""
    """API group."""

    version: str = ""
    """API version."""

    kind: str = ""
    """Kind."""

    namespace: str = ""
    """Namespace."""

    name: str = ""
    """Name."""

    label_selector: str = ""
    """Label selector in the syntax of kubectl."""

    annotation_selector: str = ""
    """Selector over annotations in the syntax of label selectors."""


class Patch(ApiStruct, frozen=True, gc=False):
    """A patch and the objects it applies to."""

    patch: str
    """Strategic merge patch, or list of JSON patch operations, as YAML text."""

    target: Selector | None = None
    """Objects to patch; a strategic merge patch may name its object itself."""


class Json6902Operation(ApiStruct, frozen=True, gc=False):
    """One operation of a JSON patch."""

    op: Annotated[str, Validation(enum=("test", "remove", "add", "replace", "move", "copy"))]
    """The operation."""

    path: str
    """JSON pointer to what is changed."""

    from_: str = msgspec.field(default="", name="from")
    """JSON pointer to what is moved or copied."""

    value: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    """The new value; null where the operation has none."""


class Json6902Patch(ApiStruct, frozen=True, gc=False):
    """A JSON patch and the objects it applies to, as the beta versions wrote it."""

    patch: tuple[Json6902Operation, ...]
    """The operations, in order."""

    target: Selector
    """Objects to patch."""


class Image(ApiStruct, frozen=True, gc=False):
    """A replacement of container images."""

    name: str
    """Name of the image to replace, without tag."""

    new_name: str = ""
    """New name."""

    new_tag: str = ""
    """New tag."""

    digest: str = ""
    """New digest; newTag is ignored beside it."""


class HealthCheck(ApiStruct, frozen=True, gc=False):
    """An object whose health counts."""

    kind: str
    """Kind of the object."""

    name: str
    """Name of the object."""

    api_version: str = ""
    """API version of the object; apps/v1 when empty."""

    namespace: str = ""
    """Namespace of the object."""


class HealthCheckExpr(ApiStruct, frozen=True, gc=False):
    """How the health of a kind is judged, in CEL over the object's fields."""

    api_version: str
    """API version of the kind."""

    current: str
    """True when the object is as wanted."""

    kind: str = ""
    """The kind; every kind of the group when empty."""

    in_progress: str = ""
    """True while the object is on its way."""

    failed: str = ""
    """True when the object will not get there."""


class IgnoreRule(ApiStruct, frozen=True, gc=False):
    """Fields that are left as they are found on the cluster."""

    paths: tuple[str, ...]
    """JSON pointers to the fields."""

    target: Selector | None = None
    """Objects concerned; all when absent."""


class KustomizationSpec(ApiStruct, frozen=True, gc=False):
    """What to deliver, from where, where to, and how."""

    source_ref: SourceReference
    """The source to deliver from."""

    interval: Interval
    """How often the delivery is checked when nothing changes; jitter is added."""

    prune: bool
    """Deletes what is no longer in the source."""

    retry_interval: Interval = ""
    """How long to wait after a failure; the interval when empty."""

    timeout: Interval = ""
    """Limit for health checks and deletions; the interval less 30 seconds when empty."""

    path: str = ""
    """Directory in the source; its root when empty."""

    deletion_policy: Annotated[
        str, Validation(enum=("MirrorPrune", "Delete", "WaitForTermination", "Orphan"))
    ] = ""
    """What happens to delivered objects when the Kustomization is deleted; MirrorPrune (as `prune` says) when empty."""

    wait: bool = False
    """Waits until everything that was applied is healthy; healthChecks are ignored then."""

    health_checks: tuple[HealthCheck, ...] = ()
    """Objects whose health is waited for."""

    health_check_exprs: tuple[HealthCheckExpr, ...] = ()
    """How the health of custom resources is judged."""

    depends_on: tuple[DependencyReference, ...] = ()
    """Kustomizations that must be ready first."""

    target_namespace: Annotated[str, Validation(min_length=1, max_length=63)] = ""
    """Namespace that every object is moved to."""

    name_prefix: Annotated[str, Validation(min_length=1, max_length=200)] = ""
    """Prefix of every name."""

    name_suffix: Annotated[str, Validation(min_length=1, max_length=200)] = ""
    """Suffix of every name."""

    common_metadata: CommonMetadata | None = None
    """Metadata that every object gets."""

    patches: tuple[Patch, ...] = ()
    """Patches that are applied after those of the kustomization file."""

    patches_strategic_merge: tuple[msgspec.Raw, ...] = ()
    """Legacy. Strategic merge patches as objects; `patches` is the way now."""

    patches_json6902: tuple[Json6902Patch, ...] = ()
    """Legacy. JSON patches; `patches` is the way now."""

    images: tuple[Image, ...] = ()
    """Images to replace."""

    components: tuple[str, ...] = ()
    """Relative paths of Kustomize components."""

    ignore_missing_components: bool = False
    """Tolerates that a component's directory is absent."""

    build_metadata: tuple[Annotated[str, Validation(enum=("originAnnotations", "transformerAnnotations"))], ...] = ()
    """Annotations that tell where objects come from."""

    post_build: PostBuild | None = None
    """Variables that are substituted in the built manifests."""

    decryption: Decryption | None = None
    """How encrypted content is decrypted."""

    ignore: tuple[IgnoreRule, ...] = ()
    """Fields that are left as they are found on the cluster."""

    kube_config: KubeConfigReference | None = None
    """The cluster to deliver to; the own one when absent."""

    service_account_name: str = ""
    """ServiceAccount in the namespace of the Kustomization in whose name everything is done."""

    force: Annotated[bool, Validation(default=False)] = False
    """Recreates objects that cannot be patched because an immutable field changed."""

    suspend: bool = False
    """Stops reconciling while true."""

    validation: Annotated[str, Validation(enum=("none", "client", "server"))] = ""
    """Legacy. Accepted and without effect: every apply is validated by the API server."""


class Inventory(ApiStruct, frozen=True, gc=False):
    """The objects that belong to the Kustomization."""

    entries: tuple[InventoryEntry, ...]
    """One entry for each object."""


class Snapshot(ApiStruct, frozen=True, gc=False):
    """Consecutive runs that delivered the same manifests with the same result."""

    digest: str
    """Digest of the manifests as `algorithm:hex`."""

    first_reconciled: Time
    """When the first of these runs ended."""

    last_reconciled: Time
    """When the last of these runs ended."""

    last_reconciled_duration: str
    """How long the last of these runs took."""

    last_reconciled_status: str
    """Reason of the Ready condition after the last of these runs."""

    total_reconciliations: int
    """How many runs there were."""

    metadata: dict[str, str] = {}
    """Revision and origin revision."""


class LegacySnapshotEntry(ApiStruct, frozen=True, gc=False):
    """Kinds delivered to one namespace, as v1beta1 recorded them."""

    kinds: dict[str, str]
    """Kinds by group and version."""

    namespace: str = ""
    """The namespace; empty for cluster-scoped objects."""


class LegacySnapshot(ApiStruct, frozen=True, gc=False):
    """What v1beta1 recorded in place of an inventory."""

    checksum: str
    """Checksum of the manifests."""

    entries: tuple[LegacySnapshotEntry, ...]
    """Kinds by namespace."""


class KustomizationStatus(ApiStruct, frozen=True, gc=False):
    """What was delivered last and how the last run ended."""

    observed_generation: int = 0
    """The metadata.generation that was reconciled last; -1 before the first run."""

    conditions: tuple[StatusCondition, ...] = ()
    """The state of the object."""

    last_applied_revision: str = ""
    """Revision of the source that was delivered last."""

    last_applied_origin_revision: str = ""
    """Origin revision of what was delivered last."""

    last_attempted_revision: str = ""
    """Revision of the source that was tried last."""

    inventory: Inventory | None = None
    """The objects that belong to the Kustomization."""

    history: tuple[Snapshot, ...] = ()
    """The last deliveries, newest first."""

    last_handled_reconcile_at: str = ""
    """The value of the annotation reconcile.fluxcd.io/requestedAt that was handled last."""

    snapshot: LegacySnapshot | None = None
    """Legacy. What v1beta1 recorded in place of an inventory."""


class Kustomization(ApiStruct, frozen=True, gc=False):
    """Delivers a directory of a source to a cluster and keeps it there."""

    metadata: Metadata
    spec: KustomizationSpec
    status: Annotated[KustomizationStatus, Validation(default={"observedGeneration": UNOBSERVED})] = (
        KustomizationStatus()
    )
