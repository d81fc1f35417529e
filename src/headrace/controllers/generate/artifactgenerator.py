"""ArtifactGenerator: files of sources, put together anew and offered as ExternalArtifacts (sources.md 2.7).

Woken by new artifacts of its sources, by whoever changes what it has made, and by the loss of a stored file. A run in
which nothing differs writes nothing. Contents are remembered by what they consist of, so that a run builds only the
outputs whose sources moved.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.api.artifactgenerator import ArtifactGenerator, GeneratedArtifact, OutputArtifact
from headrace.api.kinds import KINDS
from headrace.api.meta import EXTENSIONS_GROUP, ORIGIN_REVISION, READY
from headrace.artifact.pack import Packed
from headrace.artifact.store import FILE, Store, stored_reference
from headrace.artifact.trees import Trees
from headrace.controllers.generate.artifacts import (
    GENERATED,
    GeneratedArtifacts,
    Wanted,
    is_as_left,
    metadata_of,
    reference_of,
)
from headrace.controllers.generate.sources import GeneratorPolicy, observe, opened, sources_digest, validate
from headrace.controllers.sources.artifact import ARTIFACT, artifact_of
from headrace.controllers.sources.storage import SourceStorage, was_requested
from headrace.core.clock import Clock
from headrace.core.paths import PathRefused
from headrace.core.random import Random
from headrace.core.unpack import ArchiveRefused
from headrace.kube.client import Client
from headrace.kube.errors import KubeError
from headrace.model.artifact import Artifact, Tree
from headrace.model.errors import Retry, Stalled
from headrace.model.objects import LiveObject
from headrace.model.outcome import Outcome
from headrace.model.read import Part, Read
from headrace.model.scope import Scope
from headrace.source.generate.assembly import assemble, finish
from headrace.source.generate.copying import source_of
from headrace.source.generate.errors import CopyRefused, PatternRefused
from headrace.source.generate.pattern import Output, alias_of, expand
from headrace.toolbox import Toolbox, ToolboxError

BUILD_FAILED = "BuildFailed"
FINALIZER = "source.extensions.fluxcd.io/finalizer"

_RECHECK = 3600.0
"""Seconds until everything is looked at again, as upstream does."""
_NAMES = 8192
"""Contents whose file names are remembered: more than the store remembers contents."""


class ArtifactGeneratorController:
    """Reconciles ArtifactGenerator objects; see `engine.controller` for the contract."""

    kind = KINDS[(EXTENSIONS_GROUP, "ArtifactGenerator")]
    finalizer = FINALIZER
    parts: tuple[Part, ...] = (ARTIFACT, GENERATED)

    def __init__(
        self, client: Client, toolbox: Toolbox, store: Store, trees: Trees, *, clock: Clock, random: Random,
        policy: GeneratorPolicy | None = None,
    ) -> None:  # fmt: skip
        self._toolbox = toolbox
        self._store = store
        self._trees = trees
        self._policy = policy or GeneratorPolicy()
        self._storage = SourceStorage("externalartifact", store, trees)
        self._externals = GeneratedArtifacts(client, self._storage, clock, random)
        self._names: OrderedDict[str, str] = OrderedDict()

    def timeout(self, generator: ArtifactGenerator) -> float:
        """Upstream's flag reconciliation-timeout."""
        return self._policy.timeout

    def suspended(self, generator: ArtifactGenerator) -> bool:
        """By annotation (SRC-AGN-19)."""
        return generator.disabled

    def retry_interval(self, generator: ArtifactGenerator) -> float | None:
        """Exponential backoff."""
        return None

    async def reconcile(self, generator: ArtifactGenerator, scope: Scope) -> Outcome:
        """Build what differs, offer it, and delete what is wanted no more.

        Reasons: ValidationFailed, AccessDenied (stalled), SourceFetchFailed, BuildFailed, ReconciliationFailed.
        """
        validate(generator, self._policy)
        sources = await observe(generator, self._policy.requeue, scope)
        changed = await self._changed(generator, sources, scope)
        if not changed:
            return self._kept(generator, scope)
        scope.note(changed)
        await scope.progress("Progressing", "Reconciliation in progress")
        async with opened(sources, self._trees, self._policy.requeue, scope) as trees:
            run = _Run(generator, sources, trees, scope)
            made = [await self._make(run, output) for output in await _outputs(generator, trees)]
        await self._externals.remove_others(generator, {one.name for one in made})
        return self._generated(run, made)

    async def finalize(self, generator: ArtifactGenerator, scope: Scope) -> None:
        """Delete the ExternalArtifacts and their files (SRC-AGN-11)."""
        await self._externals.remove_others(generator, ())

    # -- whether anything differs --------------------------------------------------------------------------------

    async def _changed(self, generator: ArtifactGenerator, sources: Mapping[str, Artifact], scope: Scope) -> str:
        """Why there is something to do, or an empty string (SRC-AGN-04..06). Everything made is read all the same."""
        inventory = generator.status.inventory
        damaged = [one.name for one in inventory if not await self._is_held(generator, one, scope)]
        edited = [one.name for one in inventory if not await self._is_left(generator, one, sources, scope)]
        reasons = {
            "the last run did not succeed": not _succeeded(generator),
            "the sources changed": generator.status.observed_sources_digest != sources_digest(sources),
            "the number of artifacts changed": not _complete(generator),
            f"stored files are missing or damaged: {', '.join(damaged)}": bool(damaged),
            "ExternalArtifacts were changed": bool(edited) or GENERATED.name in {one.part for one in scope.causes},
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    async def _is_held(self, generator: ArtifactGenerator, entry: GeneratedArtifact, scope: Scope) -> bool:
        artifact = self._stored(generator, entry)
        scope.record(Read(stored_reference(artifact.path), FILE, artifact.digest))
        place = self._storage.place(metadata_of(generator, entry.name))
        return await self._storage.held(artifact, scope, place=place) is not None

    async def _is_left(
        self, generator: ArtifactGenerator, entry: GeneratedArtifact, sources: Mapping[str, Artifact], scope: Scope
    ) -> bool:
        live = await _read(generator, entry.name, scope)
        artifact = self._stored(generator, entry)
        output = next((one for one in generator.spec.artifacts if one.name == entry.name), None)
        if output is not None and not generator.spec.path_pattern:
            artifact = msgspec.structs.replace(artifact, revision=_revision(output, sources, entry.digest))
        wanted = Wanted(name=entry.name, labels={}, correction=True)
        return is_as_left(generator, wanted, artifact, live)

    def _stored(self, generator: ArtifactGenerator, entry: GeneratedArtifact) -> Artifact:
        path = f"{self._storage.place(metadata_of(generator, entry.name))}/{entry.filename}"
        return Artifact(path=path, url=self._store.url(path), revision="", digest=entry.digest)

    # -- building ------------------------------------------------------------------------------------------------

    async def _make(self, run: _Run, output: Output) -> GeneratedArtifact:
        """Build, store and offer one artifact."""
        generator, scope, name = run.generator, run.scope, output.artifact.name
        live = await _read(generator, name, scope)
        await self._externals.check_owner(generator, live, scope)
        with scope.step("build"):
            packed, file_name = await self._build(output.artifact, run.trees)
        with scope.step("store"):
            artifact = await self._publish(run, output.artifact, packed, file_name, live)
        scope.record(Read(stored_reference(artifact.path), FILE, artifact.digest))
        wanted = Wanted(name=name, labels=output.labels, correction=run.corrects(name, artifact.digest))
        if not _observed(generator) or not is_as_left(generator, wanted, artifact, live):
            await self._externals.write(generator, wanted, artifact, live, scope)
        return GeneratedArtifact(name, generator.metadata.namespace, artifact.digest, file_name)

    async def _build(self, output: OutputArtifact, trees: Mapping[str, Tree]) -> tuple[Packed, str]:
        """The packed content and the name of its file; what is known of the same files is not built anew."""
        used = sorted({source_of(one.from_)[0] for one in output.copy} & trees.keys())
        operations = msgspec.json.encode(output.copy).decode()
        key = f"generated {output.name} {operations} {[trees[one].digest for one in used]}"
        directories = {alias: trees[alias].directory for alias in used}

        async def produce(directory: Path) -> None:
            await assemble(output.copy, directories, directory, self._toolbox.yaml_to_json)
            self._names[key] = await asyncio.to_thread(finish, directory, output.name)

        try:
            packed = await self._store.content(key, produce)
        except (CopyRefused, PathRefused, ArchiveRefused, ToolboxError) as error:
            raise Retry(BUILD_FAILED, f"{output.name} build failed: {error}") from error
        except OSError as error:
            raise Retry(BUILD_FAILED, f"{output.name} build failed: {error.strerror or error}") from error
        self._names.move_to_end(key)
        if len(self._names) > _NAMES:
            self._names.popitem(last=False)
        return packed, self._names[key]

    async def _publish(
        self, run: _Run, output: OutputArtifact, packed: Packed, file_name: str, live: LiveObject | None
    ) -> Artifact:
        origin = run.sources.get(output.origin_revision.removeprefix("@"))
        annotations = {ORIGIN_REVISION: origin.origin_revision or origin.revision} if origin is not None else None
        try:
            return await self._storage.publish(
                metadata_of(run.generator, output.name),
                file_name,
                packed,
                _revision(output, run.sources, packed.digest),
                before=artifact_of(live) if live is not None else None,
                annotations=annotations,
            )
        except OSError as error:
            text = f"{output.name} build failed: unable to archive artifact to storage: {error.strerror or error}"
            raise Retry(BUILD_FAILED, text) from error

    # -- the end -------------------------------------------------------------------------------------------------

    def _kept(self, generator: ArtifactGenerator, scope: Scope) -> Outcome:
        count = len(generator.status.inventory)
        said = f"No drift detected, {count} artifact(s) up to date"
        scope.note(said)
        return _succeeding(count, said if was_requested(scope.causes) else "", {})

    def _generated(self, run: _Run, made: Sequence[GeneratedArtifact]) -> Outcome:
        news = [one for one in made if one not in run.generator.status.inventory]
        said = ""
        if news:
            lines = "\n".join(f"{one.namespace}/{one.name} ({one.digest})" for one in news)
            said = f"external artifacts reconciled: {lines}"
        elif was_requested(run.scope.causes):
            said = f"{len(made)} artifact(s) are what they were"
        status = {"inventory": msgspec.to_builtins(made), "observedSourcesDigest": sources_digest(run.sources)}
        return _succeeding(len(made), said, status)


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run builds from."""

    generator: ArtifactGenerator
    sources: Mapping[str, Artifact]
    trees: Mapping[str, Tree]
    scope: Scope

    def corrects(self, name: str, digest: str) -> bool:
        """Whether an ExternalArtifact that differs was changed by somebody else: what we want of it is nothing new."""
        status = self.generator.status
        same = _observed(self.generator) and status.observed_sources_digest == sources_digest(self.sources)
        return same and any((one.name, one.digest) == (name, digest) for one in status.inventory)


async def _outputs(generator: ArtifactGenerator, trees: Mapping[str, Tree]) -> list[Output]:
    """The artifacts to make. Raises Stalled(BuildFailed) (SRC-AGN-21)."""
    spec = generator.spec
    if not spec.path_pattern:
        return [Output(artifact, {}) for artifact in spec.artifacts]
    try:
        source = trees.get(alias_of(spec.path_pattern))
        if source is not None:
            return await asyncio.to_thread(expand, spec.path_pattern, spec.artifacts, source.directory)
        text = f"pathPattern '{spec.path_pattern}': its source alias is not found"
    except PatternRefused as error:
        text = str(error)
    raise Stalled(BUILD_FAILED, f"failed to expand path pattern: {text}")


def _succeeding(count: int, event: str, status: dict[str, object]) -> Outcome:
    message = f"reconciliation succeeded, generated {count} artifact(s)"
    return Outcome(
        reason="Succeeded", message=message, status=status, event=event, event_reason=READY, after=_RECHECK
    )


def _succeeded(generator: ArtifactGenerator) -> bool:
    """Whether the last run did all that this generation asks for."""
    ready = next((one for one in generator.status.conditions if one.type == READY), None)
    return ready is not None and ready.status == "True" and _observed(generator)


def _observed(generator: ArtifactGenerator) -> bool:
    """Whether a run for this generation has ended; what another one applied may hold labels that are gone by now."""
    ready = next((one for one in generator.status.conditions if one.type == READY), None)
    return ready is not None and ready.observed_generation == generator.metadata.generation


def _complete(generator: ArtifactGenerator) -> bool:
    spec = generator.spec
    return bool(spec.path_pattern) or len(generator.status.inventory) == len(spec.artifacts)


def _revision(output: OutputArtifact, sources: Mapping[str, Artifact], digest: str) -> str:
    """That of a source, or what the content is (SRC-AGN-08)."""
    source = sources.get(output.revision.removeprefix("@"))
    return source.revision if source is not None else f"latest@{digest}"


async def _read(generator: ArtifactGenerator, name: str, scope: Scope) -> LiveObject | None:
    """An ExternalArtifact; whoever changes it wakes us. Raises Retry(ReconciliationFailed)."""
    try:
        return await scope.read(reference_of(generator, name), GENERATED)
    except KubeError as error:
        raise Retry("ReconciliationFailed", f"{name} reconcile failed: {error}") from error
