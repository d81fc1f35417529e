"""The ExternalArtifacts of an ArtifactGenerator: applied, kept as they are wanted, and deleted with their files.

An object is written only where it differs, and each is a read: whoever edits or deletes one wakes its generator, which
puts it right at once (SRC-AGN-05). Deleted is only what carries this generator's uid, and is still what was seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec

from headrace.api.artifactgenerator import GENERATOR, MANAGED_BY, ArtifactGenerator
from headrace.api.kinds import ARTIFACT_GENERATOR, EXTERNAL_ARTIFACT
from headrace.apply.applier import disregard
from headrace.apply.rivalry import Rivalry
from headrace.controllers.sources.storage import SourceStorage
from headrace.core.backoff import Backoff
from headrace.core.clock import Clock
from headrace.core.duration import format_duration
from headrace.core.random import Random
from headrace.kube.client import Client
from headrace.kube.errors import KubeError, NotFound
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry
from headrace.model.objects import LiveObject, Metadata
from headrace.model.read import Part, Read
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.status.external import RESOURCE, ExternalStatus, offered

FIELD_MANAGER = "source-watcher"
RECONCILIATION_FAILED = "ReconciliationFailed"

_LONGEST_PAUSE = 900.0


def _extract(live: LiveObject) -> object:
    meta, content = live.metadata, live.content()
    status = content.get("status") or {}
    told = [[one.get("type"), one.get("status")] for one in status.get("conditions") or ()]
    return [meta.uid, meta.deleting, meta.labels, meta.annotations, content.get("spec"), status.get("artifact"), told]


GENERATED = Part("generated", _extract)
"""Everything of an ExternalArtifact that its generator has made as it is."""

IDENTITY = Part("uid", lambda live: live.metadata.uid, metadata_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One ExternalArtifact as it is to be: its name, the labels of captures, and whether it is only put right: nothing
    is new, somebody has changed it."""

    name: str
    labels: Mapping[str, str]
    correction: bool


def reference_of(generator: ArtifactGenerator, name: str) -> Reference:
    """The ExternalArtifact of an output."""
    return EXTERNAL_ARTIFACT.reference(generator.metadata.namespace, name)


def metadata_of(generator: ArtifactGenerator, name: str) -> Metadata:
    """The name and namespace of an output's ExternalArtifact, by which its files are stored."""
    return Metadata(name=name, namespace=generator.metadata.namespace)


class GeneratedArtifacts:
    """Writes and deletes ExternalArtifacts with the engine's own identity, as upstream's field manager."""

    def __init__(self, client: Client, storage: SourceStorage, clock: Clock, random: Random) -> None:
        self._client = client
        self._storage = storage
        self._status = ExternalStatus(client, clock, FIELD_MANAGER)
        self._rivalry = Rivalry(clock, Backoff(1.0, _LONGEST_PAUSE, random))

    async def write(
        self, generator: ArtifactGenerator, wanted: Wanted, artifact: Artifact, live: LiveObject | None, scope: Scope
    ) -> None:
        """Make the object what is wanted, by server-side apply, and its status that it offers `artifact`.

        Raises Retry(ReconciliationFailed).
        """
        reference = reference_of(generator, wanted.name)
        try:
            await self._pace(reference, wanted, scope)
            disregard(scope, reference, GENERATED)
            body = manifest(generator, wanted)
            applied = await self._client.apply(
                RESOURCE, reference.namespace, reference.name, msgspec.json.encode(body), field_manager=FIELD_MANAGER
            )
            written = await self._status.offer(applied.live, artifact)
        except KubeError as error:
            raise Retry(RECONCILIATION_FAILED, f"{wanted.name} reconcile failed: {error}") from error
        scope.record(Read(reference, GENERATED.name, GENERATED.digest(written), written.metadata.resource_version))

    async def check_owner(self, generator: ArtifactGenerator, live: LiveObject | None, scope: Scope) -> None:
        """Two generators that make the same artifact would write it in turns for ever; the first one has it, and the
        place of its files. Raises Retry(ReconciliationFailed)."""
        owner = live.metadata.label(GENERATOR) if live is not None else ""
        if live is None or owner in ("", generator.metadata.uid):
            return
        named = (live.content().get("spec") or {}).get("sourceRef") or {}
        other = ARTIFACT_GENERATOR.reference(live.metadata.namespace, str(named.get("name", "")))
        if other.name in ("", generator.metadata.name):
            return
        try:
            found = await scope.read(other, IDENTITY)
        except KubeError as error:
            raise Retry(RECONCILIATION_FAILED, f"{live.reference} reconcile failed: {error}") from error
        if found is not None and found.metadata.uid == owner:
            raise Retry(RECONCILIATION_FAILED, f"{live.reference} belongs to {other}")

    async def _pace(self, reference: Reference, wanted: Wanted, scope: Scope) -> None:
        """The first corrections are immediate; a fight with another writer is not fought at wire speed."""
        if not wanted.correction:
            self._rivalry.forget([reference])
            return
        pause = self._rivalry.delay(reference)
        if pause:
            disregard(scope, reference, GENERATED)
            text = f"{reference} is changed by somebody else again and again"
            raise Retry(RECONCILIATION_FAILED, f"{text}: put right in {format_duration(round(pause))}", after=pause)
        self._rivalry.corrected(reference)

    async def remove_others(self, generator: ArtifactGenerator, wanted: Collection[str]) -> list[str]:
        """Delete the objects of this generator whose names are not `wanted`, and their files. Returns their names.

        Raises Retry(ReconciliationFailed); what could not be deleted is found again by the label (SRC-AGN-10, 11).
        """
        uid, namespace = generator.metadata.uid, generator.metadata.namespace
        known = {entry.name for entry in generator.status.inventory if entry.namespace == namespace}
        try:
            listing = await self._client.list(RESOURCE, namespace, label_selector=f"{GENERATOR}={uid}")
            mine = {live.metadata.name: live for live in listing.items}
            for live in mine.values():
                if live.metadata.name not in wanted and (live.metadata.name in known or _made_here(live)):
                    await self._delete(live)
                    known.add(live.metadata.name)
            gone = sorted(name for name in known if name not in wanted)
            for name in gone:
                if name in mine or not await self._exists(namespace, name):
                    await self._storage.remove(metadata_of(generator, name))
        except KubeError as error:
            raise Retry(RECONCILIATION_FAILED, f"failed to delete ExternalArtifacts: {error}") from error
        return gone

    async def _delete(self, live: LiveObject) -> None:
        meta = live.metadata
        try:
            await self._client.delete(
                RESOURCE, meta.namespace, meta.name, uid=meta.uid, resource_version=meta.resource_version
            )
        except NotFound:
            return

    async def _exists(self, namespace: str, name: str) -> bool:
        """Whether somebody else's object of the name is there, whose files are in the same place."""
        try:
            await self._client.get(RESOURCE, namespace, name, metadata_only=True)
        except NotFound:
            return False
        return True


def manifest(generator: ArtifactGenerator, wanted: Wanted) -> dict[str, object]:
    """The ExternalArtifact as it is applied. No label of the user stands above ours (SRC-AGN-18)."""
    common = generator.spec.common_metadata
    labels = {**(common.labels if common else {}), **wanted.labels}
    labels |= {MANAGED_BY: FIELD_MANAGER, GENERATOR: generator.metadata.uid}
    metadata: dict[str, object] = {
        "name": wanted.name, "namespace": generator.metadata.namespace, "labels": labels,
    }  # fmt: skip
    if common is not None and common.annotations:
        metadata["annotations"] = dict(common.annotations)
    return {
        "apiVersion": EXTERNAL_ARTIFACT.api_version,
        "kind": EXTERNAL_ARTIFACT.kind,
        "metadata": metadata,
        "spec": {"sourceRef": _source_ref(generator)},
    }


def is_as_left(generator: ArtifactGenerator, wanted: Wanted, artifact: Artifact, live: LiveObject | None) -> bool:
    """Whether a live object is what `write` makes of it, as far as can be told. A revision that is empty in `artifact`
    is not compared."""
    if live is None or live.metadata.deleting:
        return False
    body = manifest(generator, wanted)
    metadata = body["metadata"]
    assert isinstance(metadata, dict)
    content = live.content()
    held = (content.get("status") or {}).get("artifact") or {}
    return (
        metadata["labels"].items() <= (live.metadata.labels or {}).items()
        and metadata.get("annotations", {}).items() <= (live.metadata.annotations or {}).items()
        and content.get("spec") == body["spec"]
        and (held.get("path"), held.get("url"), held.get("digest")) == (artifact.path, artifact.url, artifact.digest)
        and artifact.revision in ("", held.get("revision"))
        and offered(live)
    )


def _source_ref(generator: ArtifactGenerator) -> dict[str, str]:
    return {
        "apiVersion": ARTIFACT_GENERATOR.api_version,
        "kind": ARTIFACT_GENERATOR.kind,
        "name": generator.metadata.name,
        "namespace": generator.metadata.namespace,
    }


def _made_here(live: LiveObject) -> bool:
    """Whether the object was applied by a generator, and is no copy that somebody made of one, label and all."""
    fields = live.metadata.managed_fields or ()
    return any(one.manager == FIELD_MANAGER and one.operation == "Apply" for one in fields)
