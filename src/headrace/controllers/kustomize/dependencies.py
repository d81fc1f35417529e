"""spec.dependsOn of Kustomizations: nothing is delivered before what it depends on is ready (spec section 1.1).

Readiness is a part of the dependency that is read, so the event that makes it ready wakes the dependent at once.
"""

from __future__ import annotations

import msgspec

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import DependencyReference, Kustomization
from headrace.api.meta import READY, SOURCE_GROUP
from headrace.apply.expressions import CONTENT, Cel
from headrace.controllers.kustomize.coherence import ASKED, Coherence, coherent
from headrace.model.artifact import Artifact
from headrace.model.errors import Stalled, Waiting
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.toolbox import CelAsk, ToolboxError

DEPENDENCY_NOT_READY = "DependencyNotReady"
INVALID_EXPRESSION = "InvalidCELExpression"
TERMINAL = "Reconciliation failed terminally due to configuration error"


class Readiness(msgspec.Struct, frozen=True, gc=False):
    """What a dependent uses of its dependency."""

    ready: bool
    source: tuple[str, str, str] = ("", "", "")
    revision: str = ""


def readiness(live: LiveObject) -> Readiness:
    """Ready at the generation that it has now, from which source, and at which revision."""
    try:
        dependency = live.decode(Kustomization)
    except msgspec.MsgspecError:
        return Readiness(ready=False)
    status = dependency.status
    current = live.metadata.generation == status.observed_generation
    ready = current and any(c.type == READY and c.status == "True" for c in status.conditions)
    return Readiness(ready, source_of(dependency), status.last_applied_revision)


def source_of(ks: Kustomization) -> tuple[str, str, str]:
    """Kind, namespace and name of the source."""
    source = ks.spec.source_ref
    return source.kind, source.namespace or ks.metadata.namespace, source.name


def _source_reference(source: tuple[str, str, str]) -> Reference:
    kind, namespace, name = source
    return Reference(SOURCE_GROUP, kind, namespace, name)


READINESS = Part("readiness", lambda live: readiness(live).ready)
READINESS_AT_REVISION = Part("readiness at revision", readiness)
"""Where both deliver from one source, its revision counts too (KS-DEP-03, KS-DEP-04)."""


class Dependencies:
    """Checks dependencies, in the order in which they are listed; the first that is missing ends it."""

    def __init__(self, cel: Cel, requeue: float = 30.0, *, additive: bool = False,
                 coherence: Coherence | None = None) -> None:
        """`additive` has the built-in test count beside a readyExpr (gate AdditiveCELDependencyCheck)."""
        self._cel = cel
        self._coherence = coherence or Coherence()
        self._requeue = requeue
        self._additive = additive

    async def require(self, ks: Kustomization, artifact: Artifact, scope: Scope) -> None:
        """Raises Waiting(DependencyNotReady) until all are ready, Stalled(InvalidCELExpression) for a readyExpr that
        does not compile to a boolean (KS-DEP-06)."""
        for dependency in ks.spec.depends_on:
            reference = KUSTOMIZATION.reference(dependency.namespace or ks.metadata.namespace, dependency.name)
            problem = await self._problem(dependency, reference, ks, artifact, scope)
            if problem:
                raise Waiting(DEPENDENCY_NOT_READY, problem, on=(reference,), after=self._requeue)

    async def _problem(
        self, dependency: DependencyReference, reference: Reference, ks: Kustomization, artifact: Artifact, scope: Scope
    ) -> str:
        """What upstream says of a dependency that is not ready; empty when it is.

        With a readyExpr the whole dependency is what is read: whatever of it changes asks the expression again.
        """
        name = f"{reference.namespace}/{reference.name}"
        live = await scope.read(reference, CONTENT if dependency.ready_expr else READINESS)
        if live is None:
            missing = f'{KUSTOMIZATION.plural}.{KUSTOMIZATION.group} "{reference.name}" not found'
            return f"dependency '{name}' not found: {missing}"
        if dependency.ready_expr:
            problem = await self._unmet(dependency.ready_expr, name, scope.live, live)
            if problem or not self._additive:
                return problem
        state = readiness(live)
        if not state.ready:
            return f"dependency '{name}' is not ready"
        if coherent(ks):
            await scope.read(reference, READINESS_AT_REVISION)
            await scope.read(scope.live.reference, ASKED)
            sources = _source_reference(source_of(ks)), _source_reference(state.source)
            problem = await self._coherence.problem(
                ks, artifact.revision, sources, live.decode(Kustomization), scope)
            return f"dependency '{name}' {problem}" if problem else ""
        if state.source != source_of(ks):
            return ""
        await scope.read(reference, READINESS_AT_REVISION)
        return "" if state.revision == artifact.revision else f"dependency '{name}' revision is not up to date"

    async def _unmet(self, expression: str, name: str, myself: LiveObject, dependency: LiveObject) -> str:
        """Why the expression is not true of the dependency; empty when it is (KS-DEP-05, KS-DEP-06)."""
        variables = b'{"self":' + myself.raw + b',"dep":' + dependency.raw + b"}"
        try:
            result = await self._cel.cel([expression], [variables], [CelAsk([0], 0)], variables=("self", "dep"))
        except ToolboxError as error:
            return f"failed to evaluate dependency '{name}': {error.message}"
        if result.invalid[0]:
            raise Stalled(INVALID_EXPRESSION, f"{TERMINAL}: failed to evaluate dependency {name}: {result.invalid[0]}")
        value = result.values[0][0]
        if value.error:
            return f"failed to evaluate dependency '{name}': {value.error}"
        return "" if value.value else f"dependency '{name}' is not ready according to readyExpr eval"
