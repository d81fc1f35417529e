"""What an ArtifactGenerator makes its artifacts of: the artifacts of its sources, by alias, and their files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from headrace.api.artifactgenerator import ArtifactGenerator, GeneratorSource
from headrace.api.meta import SOURCE_GROUP
from headrace.artifact.trees import Trees
from headrace.controllers.sources.artifact import ARTIFACT, artifact_of, plural
from headrace.kube.errors import KubeError, NoMatch
from headrace.model.artifact import Artifact, Tree
from headrace.model.errors import Retry, Stalled, StepError, Waiting
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.source.generate.pattern import is_object_name

ACCESS_DENIED = "AccessDenied"
VALIDATION_FAILED = "ValidationFailed"
SOURCE_FETCH_FAILED = "SourceFetchFailed"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorPolicy:
    """Upstream's flags of source-watcher."""

    no_cross_namespace_refs: bool = False
    requeue: float = 5.0
    """Seconds of the fallback timer while a source is missing or cannot be fetched; the event comes first."""
    timeout: float = 600.0
    """Seconds for one run."""


def validate(generator: ArtifactGenerator, policy: GeneratorPolicy) -> None:
    """Raises Stalled(ValidationFailed), and Stalled(AccessDenied) for a source elsewhere (SRC-AGN-01, SRC-AGN-02)."""
    aliases: set[str] = set()
    for source in generator.spec.sources:
        if source.alias in aliases:
            raise Stalled(VALIDATION_FAILED, f"duplicate source alias '{source.alias}' found")
        aliases.add(source.alias)
        if policy.no_cross_namespace_refs and source.namespace not in ("", generator.metadata.namespace):
            shown = f"{source.kind}/{source.namespace}/{source.name}"
            raise Stalled(ACCESS_DENIED, f"cross-namespace reference to source {shown} is not allowed")
    names: set[str] = set()
    for output in generator.spec.artifacts:
        if output.name in names:
            raise Stalled(VALIDATION_FAILED, f"duplicate artifact name '{output.name}' found")
        names.add(output.name)
        if not generator.spec.path_pattern and not is_object_name(output.name):
            text = f'artifact name "{output.name}" is not a valid Kubernetes object name'
            raise Stalled(VALIDATION_FAILED, text)
        for field, named in (("revision", output.revision), ("origin revision", output.origin_revision)):
            if named and named.removeprefix("@") not in aliases:
                text = f"artifact {output.name} {field} source alias '{named.removeprefix('@')}' not found"
                raise Stalled(VALIDATION_FAILED, text)


async def observe(generator: ArtifactGenerator, requeue: float, scope: Scope) -> dict[str, Artifact]:
    """The artifacts of the sources, by alias. All are read, so that each wakes.

    Raises Waiting(SourceFetchFailed) for the first that is missing or has no artifact (SRC-AGN-03).
    """
    found: dict[str, Artifact] = {}
    missing: list[tuple[Reference, str]] = []
    for source in generator.spec.sources:
        reference = _reference(generator, source)
        artifact, problem = await _read(reference, scope)
        if artifact is not None:
            found[source.alias] = artifact
        else:
            missing.append((reference, problem))
    if missing:
        on = tuple(reference for reference, _ in missing)
        raise Waiting(SOURCE_FETCH_FAILED, f"get sources failed: {missing[0][1]}", on=on, after=requeue)
    return found


async def _read(reference: Reference, scope: Scope) -> tuple[Artifact | None, str]:
    """The artifact of a source, or why there is none."""
    name = f"{reference.namespace}/{reference.name}"
    try:
        live = await scope.read(reference, ARTIFACT)
    except NoMatch as error:
        return None, f"unable to get source '{name}': {error}"
    except KubeError as error:
        raise Retry(SOURCE_FETCH_FAILED, f"get sources failed: unable to get source '{name}': {error}") from error
    if live is None:
        return None, f'{plural(reference)}.{SOURCE_GROUP} "{reference.name}" not found'
    artifact = artifact_of(live)
    if artifact is None or not artifact.digest or not artifact.url:
        return None, f"source '{reference.kind}/{name}' is not ready"
    return artifact, ""


def _reference(generator: ArtifactGenerator, source: GeneratorSource) -> Reference:
    return Reference(SOURCE_GROUP, source.kind, source.namespace or generator.metadata.namespace, source.name)


def sources_digest(sources: Mapping[str, Artifact]) -> str:
    """What the sources are at, in upstream's form; the origin of a revision does not count."""
    parts = sorted(
        f"{alias}=[digest={one.digest},revision={one.revision},url={one.url}]" for alias, one in sources.items()
    )
    return f"sha256:{hashlib.sha256('|'.join(parts).encode()).hexdigest()}"


@contextlib.asynccontextmanager
async def opened(
    sources: Mapping[str, Artifact], trees: Trees, requeue: float, scope: Scope
) -> AsyncIterator[dict[str, Tree]]:
    """The files of the sources by alias, for as long as the context is open. Raises Retry(SourceFetchFailed)."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_all() -> dict[str, Tree]:
            return {alias: await stack.enter_async_context(trees.open(one)) for alias, one in sources.items()}

        try:
            trees_by_alias = await scope.wait(open_all(), note="artifacts of the sources")
        except StepError as error:
            raise Retry(SOURCE_FETCH_FAILED, f"fetch sources failed: {error.message}", after=requeue) from error
        except OSError as error:
            text = f"fetch sources failed: {error.strerror or error}"
            raise Retry(SOURCE_FETCH_FAILED, text, after=requeue) from error
        yield trees_by_alias
