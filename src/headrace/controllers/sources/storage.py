"""The storage step of every kind whose artifact this engine keeps: found sound, made anew, published, cleaned up.

What differs between kinds is where content comes from; what a lost file, a full disk or a success does to the status
is the same for all (sources.md section 1).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import msgspec

from headrace.api.meta import SOURCE_GROUP, UNOBSERVED
from headrace.artifact.pack import Packed
from headrace.artifact.store import FILE, Integrity, Place, Store, stored_reference
from headrace.artifact.trees import Trees
from headrace.controllers.consumers import Consumers, with_parents
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry, StepError
from headrace.model.objects import Metadata
from headrace.model.outcome import Condition, Outcome
from headrace.model.read import Read
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.model.trace import Cause

log = logging.getLogger(__name__)

IN_STORAGE = "ArtifactInStorage"
OUTDATED = "ArtifactOutdated"
STORAGE_FAILED = "StorageOperationFailed"
NEW_ARTIFACT = "NewArtifact"
LATEST = "latest.tar.gz"
"""The name under which the current artifact of an object can always be had (SRC-OCI-15)."""


class SourceStorage:
    """The artifacts of all objects of one kind; `kind` is the first segment of their paths, in lower case.

    `consumers` know what those who deliver from here have read; without them every new content concerns all.
    """

    def __init__(self, kind: str, store: Store, trees: Trees, consumers: Consumers | None = None) -> None:
        self._kind = kind
        self._store = store
        self._trees = trees
        self._consumers = consumers or Consumers()

    def place(self, metadata: Metadata) -> Place:
        """Where the artifacts of an object are."""
        return Place(self._kind, metadata.namespace, metadata.name)

    async def held(
        self, artifact: Artifact | None, scope: Scope, *, place: Place | None = None
    ) -> Artifact | None:
        """The artifact of the status, if its file is still what it was; None else (SRC-COM-20..22).

        `place` is where it belongs, that of the object itself if not given: a status may name any file (SEC-25).
        """
        await begun(scope)
        if artifact is None:
            return None
        with scope.step("verify"):
            ours = artifact.path.startswith(f"{place or self.place(scope.live.metadata)}/")
            found = await self._store.verify(artifact, delete=True) if ours else Integrity.LOST
        if found is Integrity.SOUND:
            return artifact
        if found is Integrity.TAMPERED:
            # Somebody changed a stored file: that is told though the artifact is the same again (SRC-COM-21).
            event = f"artifact '{artifact.path}' did not match its digest and was deleted"
            scope.event("ArtifactVerificationFailed", event, warning=True)
        reason = "disappeared from storage" if found is Integrity.LOST else "does not match its digest"
        scope.note(f"artifact '{artifact.path}' {reason}: it is made anew")
        log.warning("artifact is made anew", extra={"artifact": artifact.path, "reason": reason})
        return None

    async def concerns(self, packed: Packed, scope: Scope) -> bool:
        """Whether a new content is news to anybody; those to whom it is none are spared (they run in the last lane).

        When all are, and nobody asked for the run, it goes on in the last lane itself: the delivery that a commit is
        about comes first. A source without readers is news. Raises Superseded.
        """
        readers = scope.readers(scope.live.reference)
        async with self._trees.opened(packed.tar_digest) as tree:
            spared = await self._consumers.unconcerned(readers, tree) if tree else frozenset()
        scope.spare(spared)
        if not readers or len(spared) < len(readers) or was_requested(scope.causes):
            return True
        await scope.defer("the new content is none that any delivery has read")
        return False

    def hasten(self, origin: Reference, changed: frozenset[str] | None, scope: Scope) -> None:
        """Have the sources of one origin whose deliveries a change of these paths may concern go before the others.

        `None` is any change. Sources that nobody delivers from, and those of unknown deliveries, count as concerned.
        """
        touched = None if changed is None else with_parents(changed)
        for source in scope.readers(origin):
            readers = scope.readers(source)
            if not readers or touched is None or self._consumers.may_concern(readers, touched):
                scope.hasten(source)

    async def publish(
        self,
        metadata: Metadata,
        file_name: str,
        packed: Packed,
        revision: str,
        *,
        before: Artifact | None,
        alias: str = "",
        annotations: dict[str, str] | None = None,
    ) -> Artifact:
        """Put a content in its place and clean up. `before` is the artifact of the status; one equal to it keeps its
        time. `alias` is a second name of the current file (`latest.tar.gz`), `annotations` the artifact's metadata.

        Raises OSError.
        """
        artifact = await self._store.publish(
            self.place(metadata), file_name, packed, revision, annotations, alias=alias
        )
        if before is not None and (before.path, before.digest) == (artifact.path, artifact.digest):
            artifact = msgspec.structs.replace(artifact, last_update_time=before.last_update_time)
        await self.clean_up(metadata, artifact)
        return artifact

    async def keep(self, metadata: Metadata, held: Artifact) -> Artifact:
        """Nothing moved; only the address in the URL may be another one (SRC-COM-23)."""
        await self.clean_up(metadata, held)
        return msgspec.structs.replace(held, url=self._store.url(held.path))

    def is_settled(self, metadata: Metadata) -> bool:
        """Whether a run that finds nothing new would leave the storage as it is."""
        return self._store.is_settled(self.place(metadata))

    async def collect_trees(self) -> None:
        """Delete unpacked contents, of whatever object, that nobody has read for a while; a failure of that is nobody's
        trouble."""
        with contextlib.suppress(OSError):
            await self._trees.collect()

    def alias_url(self, metadata: Metadata, alias: str) -> str:
        """The address that stays the same from one artifact to the next: `status.url`."""
        return self._store.url(f"{self.place(metadata)}/{alias}")

    async def clean_up(self, metadata: Metadata, current: Artifact) -> None:
        """What is old goes; a failure of that is nobody's trouble."""
        with contextlib.suppress(OSError):
            await self._store.collect(self.place(metadata), current)
        await self.collect_trees()

    async def remove(self, metadata: Metadata) -> None:
        """Delete all artifacts of an object (SRC-COM-02)."""
        await self._store.remove(self.place(metadata))


def stored(
    artifact: Artifact,
    scope: Scope,
    *,
    before: Artifact | None,
    message: str,
    interval: float,
    event: str,
    unchanged: str,
    reason: str = "Succeeded",
    new_reason: str = NEW_ARTIFACT,
    status: dict[str, object] | None = None,
) -> Outcome:
    """The outcome of a run after which `artifact` is in storage, watched for the loss of its file.

    `event` is told with `new_reason` when the content is new, with `unchanged` as reason when a person asked for the
    run (SRC-COM-24..26). `status` are the kind's own fields beside the artifact; None removes one.
    """
    scope.record(Read(stored_reference(artifact.path), FILE, artifact.digest))
    is_new = before is None or before.digest != artifact.digest
    return Outcome(
        reason=reason,
        message=message,
        status={"artifact": shown(artifact), **(status or {})},
        conditions=(Condition(IN_STORAGE, "True", reason, message),),
        event=event if is_new or was_requested(scope.causes) else "",
        event_reason=new_reason if is_new else unchanged,
        event_annotations={
            f"{SOURCE_GROUP}/revision": artifact.revision,
            f"{SOURCE_GROUP}/digest": artifact.digest,
        },
        revision=artifact.revision,
        after=interval,
    )


def shown(artifact: Artifact) -> dict[str, object]:
    """An artifact as the status shows it."""
    return {key: value for key, value in msgspec.to_builtins(artifact).items() if value is not None}


def was_requested(causes: Sequence[Cause]) -> bool:
    """Whether a person, or a webhook, asked for this run."""
    return any(cause.what == "requested" for cause in causes)


class _Status(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    observed_generation: int = UNOBSERVED


class _Object(msgspec.Struct, frozen=True, gc=False):
    status: _Status = _Status()


async def begun(scope: Scope) -> None:
    """What a run is about, for a spec that no run has ended with yet (SRC-COM-10): seen only while it takes long."""
    if scope.live.reference.group != SOURCE_GROUP:
        return
    new, old = scope.live.metadata.generation, scope.live.decode(_Object).status.observed_generation
    if new != old:
        await scope.progress("Progressing", f"processing object: new generation {old} -> {new}")


async def announce(reason: str, news: str, scope: Scope) -> None:
    """Drift: seen by users only when building takes longer than a moment (SRC-COM-12)."""
    await scope.progress("Progressing", f"building artifact: {news}", [Condition(OUTDATED, "True", reason, news)])


@contextlib.contextmanager
def told_by_storage() -> Iterator[None]:
    """A full or failing disk leaves the artifact that was there as it was (REL-18)."""
    try:
        yield
    except OSError as error:
        message = f"unable to archive artifact to storage: {error.strerror or error}"
        raise Retry("ArchiveOperationFailed", message, condition=STORAGE_FAILED) from error


@contextlib.contextmanager
def withdrawn_unless(held: Artifact | None, before: Artifact | None) -> Iterator[None]:
    """A run that fails after the file was lost takes the artifact out of the status: it is not there (REL-17)."""
    try:
        yield
    except StepError as error:
        if held is None and before is not None:
            error.status = {**error.status, "artifact": None}
        raise
