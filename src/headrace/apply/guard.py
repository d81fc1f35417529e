"""What strict tenancy refuses of single objects that Flux applies; all of it is off by default. Pure.

An object that somebody else holds is not taken over, data is not deleted by `force`, and no token is made with the
engine's own rights. Each has an annotation with which people consent, on the object that it is about.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from headrace.api.kustomization import OWNER_NAME, OWNER_NAMESPACE
from headrace.api.meta import ADOPT, ADOPTABLE_BY, ALLOW_DATA_LOSS
from headrace.model.manifests import Manifest
from headrace.model.objects import Metadata

DATA_KINDS = frozenset({
    ("", "Namespace"), ("", "PersistentVolume"), ("", "PersistentVolumeClaim"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
})
"""Kinds with which data goes, or everything that they hold (SEC-55)."""

TOKEN_TYPES = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})
"""Types of Secrets that the cluster makes credentials of (SEC-28)."""

HELM_RELEASE = ("helm.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/namespace")
HELM_ANNOTATIONS = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Which refusals are on."""

    ownership: bool = False
    recreation: bool = False
    tokens: bool = False

    def conflict(self, manifest: Manifest, live: Metadata) -> str:
        """Why a live object may not be taken over; empty when it may (SEC-27)."""
        holder = holder_of(manifest, live) if self.ownership else ""
        if not holder or adopted(manifest, live):
            return ""
        return f"is held by {holder}; both sides must consent: {ADOPT} here, {ADOPTABLE_BY} on the live object"

    def recreation_refused(self, manifest: Manifest, live: Metadata) -> str:
        """Why `force` may not recreate an object; empty when it may."""
        if not self.recreation or manifest.reference.group_kind not in DATA_KINDS:
            return ""
        if _true(manifest, ALLOW_DATA_LOSS) or _true(live, ALLOW_DATA_LOSS):
            return ""
        return f"is not recreated by force, since data would be lost; {ALLOW_DATA_LOSS} on the object allows it"

    def token_refused(self, manifest: Manifest, *, impersonated: bool) -> str:
        """Why a Secret may not be applied; empty when it may. A tenant's own rights decide about a tenant's."""
        if not self.tokens or impersonated or manifest.reference.group_kind != ("", "Secret"):
            return ""
        kind = msgspec.json.decode(manifest.body, type=_Typed).type
        return f"of type {kind} is applied only as an account of the object's" if kind in TOKEN_TYPES else ""


class _Typed(msgspec.Struct, frozen=True, gc=False):
    type: str = ""


def holder_of(manifest: Manifest, live: Metadata) -> str:
    """Who holds a live object, other than the tenant that delivers `manifest`; empty for nobody.

    Kustomizations of one namespace are one tenant's: between them objects move as in Flux.
    """
    home = (manifest.labels or {}).get(OWNER_NAMESPACE, "")
    owner = live.label(OWNER_NAMESPACE)
    if live.label(OWNER_NAME) and owner:
        return "" if owner == home else f"Kustomization/{owner}/{live.label(OWNER_NAME)}"
    if release := live.label(HELM_RELEASE[0]):
        return f"HelmRelease/{live.label(HELM_RELEASE[1])}/{release}"
    if release := live.annotation(HELM_ANNOTATIONS[0]):
        return f"the Helm release {live.annotation(HELM_ANNOTATIONS[1])}/{release}"
    controller = next((each for each in live.owner_references or () if each.controller), None)
    if controller is not None and controller.uid.encode() not in manifest.body:
        return f"its controller {controller.kind}/{controller.name}"
    return ""


def adopted(manifest: Manifest, live: Metadata) -> bool:
    """Whether both sides agree: the manifest that it adopts, and the live object that it may be adopted by us."""
    labels = manifest.labels or {}
    home, name = labels.get(OWNER_NAMESPACE, ""), labels.get(OWNER_NAME, "")
    named = {each.strip() for each in live.annotation(ADOPTABLE_BY).split(",")}
    return _true(manifest, ADOPT) and bool({f"{home}/{name}", f"{home}/*"} & named)


def _true(obj: Manifest | Metadata, key: str) -> bool:
    return (obj.annotations or {}).get(key, "").lower() == "true"


OFF = Guard()
"""As Flux."""
