"""The registry of custom resource kinds: everything that is known of a kind before any object is read."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from headrace.api.artifactgenerator import ArtifactGenerator
from headrace.api.bucket import Bucket
from headrace.api.externalartifact import ExternalArtifact
from headrace.api.gitrepository import GitRepository
from headrace.api.helmchart import HelmChart
from headrace.api.helmrepository import HelmRepository
from headrace.api.kustomization import Kustomization
from headrace.api.meta import EXTENSIONS_GROUP, KUSTOMIZE_GROUP, SOURCE_GROUP
from headrace.api.ocirepository import OCIRepository
from headrace.model.reference import MANAGEMENT_CLUSTER, Reference

T = TypeVar("T")


class KindInfo(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """One custom resource kind. `versions` are the served ones, the storage version first; `columns` the printer
    columns besides Age, Ready and Status, as (name, JSON path)."""

    group: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    versions: tuple[str, ...]
    type: type[T]
    columns: tuple[tuple[str, str], ...] = ()
    component: str = ""
    """Name of the upstream controller of the kind: in labels, and as the reporter of events."""
    last_columns: tuple[tuple[str, str], ...] = ()
    """Printer columns after Age, Ready and Status."""
    age_last: bool = False
    """Whether the column Age comes after Ready and Status."""
    reconciled: bool = True
    """Whether a controller of ours serves the kind; its objects are written by others else."""
    observes_generation: bool = True
    """Whether the status has `observedGeneration`; its conditions always do."""

    @property
    def storage_version(self) -> str:
        return self.versions[0]

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.storage_version}"

    @property
    def group_kind(self) -> tuple[str, str]:
        return self.group, self.kind

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{self.group}"

    def reference(self, namespace: str, name: str, cluster: str = MANAGEMENT_CLUSTER) -> Reference:
        return Reference(self.group, self.kind, namespace, name, cluster)

    def manifest(self, obj: T) -> bytes:
        """`obj` as JSON with apiVersion and kind, ready to be created or applied; the status is left out."""
        content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(obj))
        content.pop("status", None)
        content["metadata"] = {k: v for k, v in content["metadata"].items() if v not in ("", 0, None)}
        return msgspec.json.encode({"apiVersion": self.api_version, "kind": self.kind} | content)


GIT_REPOSITORY = KindInfo(
    group=SOURCE_GROUP,
    kind="GitRepository",
    plural="gitrepositories",
    singular="gitrepository",
    short_names=("gitrepo",),
    categories=("all", "fluxcd", "fluxcd-sources"),
    versions=("v1", "v1beta2"),
    type=GitRepository,
    columns=(("URL", ".spec.url"),),
    component="source-controller",
)

OCI_REPOSITORY = KindInfo(
    group=SOURCE_GROUP,
    kind="OCIRepository",
    plural="ocirepositories",
    singular="ocirepository",
    short_names=("ocirepo",),
    categories=("all", "fluxcd", "fluxcd-sources"),
    versions=("v1", "v1beta2"),
    type=OCIRepository,
    columns=(("URL", ".spec.url"),),
    component="source-controller",
    age_last=True,
)

BUCKET = KindInfo(
    group=SOURCE_GROUP,
    kind="Bucket",
    plural="buckets",
    singular="bucket",
    short_names=(),
    categories=("all", "fluxcd", "fluxcd-sources"),
    versions=("v1", "v1beta2"),
    type=Bucket,
    columns=(("Endpoint", ".spec.endpoint"),),
    component="source-controller",
)

EXTERNAL_ARTIFACT = KindInfo(
    group=SOURCE_GROUP,
    kind="ExternalArtifact",
    plural="externalartifacts",
    singular="externalartifact",
    short_names=("ea",),
    categories=("all", "fluxcd", "fluxcd-sources"),
    versions=("v1",),
    type=ExternalArtifact,
    component="source-controller",
    last_columns=(("Source", ".spec.sourceRef.name"),),
    reconciled=False,
    observes_generation=False,
)

ARTIFACT_GENERATOR = KindInfo(
    group=EXTENSIONS_GROUP,
    kind="ArtifactGenerator",
    plural="artifactgenerators",
    singular="artifactgenerator",
    short_names=("ag",),
    categories=("all", "fluxcd", "fluxcd-sources"),
    versions=("v1beta1",),
    type=ArtifactGenerator,
    component="source-watcher",
    observes_generation=False,
)

HELM_REPOSITORY = KindInfo(
    group=SOURCE_GROUP,
    kind="HelmRepository",
    plural="helmrepositories",
    singular="helmrepository",
    short_names=("helmrepo",),
    categories=("all", "fluxcd", "fluxcd-sources"),
    versions=("v1", "v1beta2"),
    type=HelmRepository,
    columns=(("URL", ".spec.url"),),
    component="source-controller",
)

HELM_CHART = KindInfo(
    group=SOURCE_GROUP,
    kind="HelmChart",
    plural="helmcharts",
    singular="helmchart",
    short_names=("hc",),
    categories=("all", "fluxcd", "fluxcd-sources"),
    versions=("v1", "v1beta2"),
    type=HelmChart,
    columns=(
        ("Chart", ".spec.chart"),
        ("Version", ".spec.version"),
        ("Source Kind", ".spec.sourceRef.kind"),
        ("Source Name", ".spec.sourceRef.name"),
    ),
    component="source-controller",
)

KUSTOMIZATION = KindInfo(
    group=KUSTOMIZE_GROUP,
    kind="Kustomization",
    plural="kustomizations",
    singular="kustomization",
    short_names=("ks",),
    categories=("all", "fluxcd", "fluxcd-appliers"),
    versions=("v1", "v1beta2", "v1beta1"),
    type=Kustomization,
    component="kustomize-controller",
)

KINDS: dict[tuple[str, str], KindInfo[Any]] = {
    kind.group_kind: kind
    for kind in (
        GIT_REPOSITORY,
        OCI_REPOSITORY,
        BUCKET,
        EXTERNAL_ARTIFACT,
        ARTIFACT_GENERATOR,
        HELM_REPOSITORY,
        HELM_CHART,
        KUSTOMIZATION,
    )
}
"""All kinds by (group, kind)."""
