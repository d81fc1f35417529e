"""A custom resource as commands show it: what all kinds have in common, read from the stored JSON."""

from __future__ import annotations

import re

import msgspec

from headrace.api.artifactgenerator import RECONCILE, GeneratedArtifact
from headrace.api.helmrepository import OCI_TYPE
from headrace.api.kinds import EXTERNAL_ARTIFACT, HELM_REPOSITORY
from headrace.api.meta import READY, RECONCILE_REQUEST, RECONCILING, STALLED, StatusCondition
from headrace.model.artifact import Artifact
from headrace.model.objects import LiveObject, Metadata
from headrace.model.plan import InventoryEntry
from headrace.model.reference import Reference

_HEX = re.compile(r"([0-9a-f]{8})[0-9a-f]{32,56}\b")


class NamedReference(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """sourceRef, dependsOn[]: an object by name, in the own namespace when it says no other."""

    name: str
    kind: str = ""
    namespace: str = ""


class AliasedReference(NamedReference, frozen=True, gc=False):
    """sources[] of an ArtifactGenerator."""

    alias: str = ""


class FluxSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Fields of specs that several kinds have."""

    suspend: bool = False
    interval: str = ""
    path: str = ""
    url: str = ""
    type: str = ""
    source_ref: NamedReference | None = None
    sources: tuple[AliasedReference, ...] = ()
    depends_on: tuple[NamedReference, ...] = ()
    kube_config: msgspec.Raw | None = None


class FluxInventory(msgspec.Struct, frozen=True, gc=False):
    entries: tuple[InventoryEntry, ...] = ()


class FluxStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Fields of statuses that several kinds have."""

    observed_generation: int = 0
    conditions: tuple[StatusCondition, ...] = ()
    artifact: Artifact | None = None
    last_applied_revision: str = ""
    last_attempted_revision: str = ""
    observed_source_artifact_revision: str = ""
    observed_sources_digest: str = ""
    last_handled_reconcile_at: str = ""
    inventory: FluxInventory | tuple[GeneratedArtifact, ...] | None = None


class FluxObject(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One custom resource of ours."""

    metadata: Metadata
    kind: str = ""
    api_version: str = ""
    spec: FluxSpec = FluxSpec()
    status: FluxStatus = FluxStatus()

    @property
    def reference(self) -> Reference:
        group = self.api_version.rpartition("/")[0]
        return Reference(group, self.kind, self.metadata.namespace, self.metadata.name)

    def condition(self, kind: str) -> StatusCondition | None:
        return next((c for c in self.status.conditions if c.type == kind), None)

    @property
    def ready(self) -> StatusCondition | None:
        return self.condition(READY)

    @property
    def ready_status(self) -> str:
        """True, False, or Unknown, also before anybody has looked at the object. A registry of charts is always so."""
        if self.static:
            return "True"
        return self.ready.status if self.ready else "Unknown"

    @property
    def stalled(self) -> bool:
        stalled = self.condition(STALLED)
        return stalled is not None and stalled.status == "True"

    @property
    def reconciling(self) -> bool:
        reconciling = self.condition(RECONCILING)
        return reconciling is not None and reconciling.status == "True" and reconciling.reason == "Progressing"

    @property
    def suspended(self) -> bool:
        """Whether a person has stopped it, by its spec or, where that has no such field, by annotation."""
        return self.spec.suspend or self.metadata.annotation(RECONCILE).lower() == "disabled"

    @property
    def observed(self) -> bool:
        """Whether the conditions speak of the spec as it is, and of the newest request."""
        if self.unserved:
            return True
        requested = self.metadata.annotation(RECONCILE_REQUEST)
        handled = not requested or requested == self.status.last_handled_reconcile_at
        ready = self.ready
        return handled and ready is not None and ready.observed_generation == self.metadata.generation

    @property
    def revision(self) -> str:
        if self.status.artifact is not None:
            return self.status.artifact.revision
        return self.status.last_applied_revision

    @property
    def source_revision(self) -> str:
        """The revision of its source that the object has dealt with; that of a chart is another one than its own."""
        return self.status.last_applied_revision or self.status.observed_source_artifact_revision

    @property
    def static(self) -> bool:
        """Whether it is a registry of charts: data for others, without a status."""
        return self.kind == HELM_REPOSITORY.kind and self.spec.type == OCI_TYPE

    @property
    def unserved(self) -> bool:
        """Whether no controller of ours ever writes its status: a registry of charts, what others produce."""
        return self.static or self.kind == EXTERNAL_ARTIFACT.kind

    @property
    def message(self) -> str:
        if self.static:
            return "Helm repository is Ready"
        return self.ready.message if self.ready else "waiting to be reconciled"

    @property
    def inventory(self) -> tuple[InventoryEntry, ...]:
        inventory = self.status.inventory
        if isinstance(inventory, tuple):
            of = f"{EXTERNAL_ARTIFACT.group}_{EXTERNAL_ARTIFACT.kind}"
            return tuple(InventoryEntry(f"{e.namespace}_{e.name}_{of}", "v1") for e in inventory)
        return inventory.entries if inventory else ()

    def source(self, group: str) -> Reference | None:
        """The source that the object delivers from."""
        ref = self.spec.source_ref
        return None if ref is None else Reference(group, ref.kind, ref.namespace or self.metadata.namespace, ref.name)

    def sources(self, group: str) -> dict[str, Reference]:
        """The sources that the object makes artifacts of, by alias."""
        own = self.metadata.namespace
        return {s.alias: Reference(group, s.kind, s.namespace or own, s.name) for s in self.spec.sources}

    def dependencies(self) -> tuple[Reference, ...]:
        """The objects of the same kind that must be ready first."""
        own = self.reference
        return tuple(
            Reference(own.group, d.kind or own.kind, d.namespace or own.namespace, d.name) for d in self.spec.depends_on
        )


def view(live: LiveObject) -> FluxObject:
    """`live` as commands see it."""
    decoded = live.decode(FluxObject)
    return msgspec.structs.replace(decoded, kind=live.reference.kind, api_version=live.api_version)


def inventory_reference(entry: InventoryEntry, cluster: str = "") -> Reference:
    """The object that an inventory entry names (`<namespace>_<name>_<group>_<kind>`, `__` in names for `:`)."""
    namespace, _, rest = entry.id.partition("_")
    rest, _, kind = rest.rpartition("_")
    name, _, group = rest.rpartition("_")
    return Reference(group, kind, namespace, name.replace("__", ":"), cluster)


def shorten(text: str) -> str:
    """Commit ids and digests cut to eight digits, as the flux command line shows them."""
    return _HEX.sub(r"\1", text)
