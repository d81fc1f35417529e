"""Health by spec.healthCheckExprs: CEL over the fields of an object instead of the built-in rules (spec section 4.6).

Everything that a batch of objects needs is asked of the toolbox in one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from headrace.api.kustomization import HealthCheckExpr
from headrace.apply.health import CURRENT, Health, Status
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference, split_api_version
from headrace.toolbox import CelAsk, CelResult, CelValue, ToolboxError

_UNMOVED = ("resourceVersion", "managedFields")


def _content(live: LiveObject) -> object:
    if live.reference.group_kind == ("", "Secret"):
        return live.metadata.resource_version  # nothing of its values, not even their digest
    content = live.content()
    metadata = content.get("metadata")
    if isinstance(metadata, dict):
        content["metadata"] = {key: value for key, value in metadata.items() if key not in _UNMOVED}
    return content


CONTENT = Part("content", _content)
"""The whole object but for its bookkeeping: what an expression may look at."""


class InvalidExpression(ValueError):
    """An expression does not parse, does not type, or stands twice; the message is upstream's."""


class Cel(Protocol):
    """What is needed of the toolbox."""

    async def cel(
        self, expressions: Sequence[str], inputs: Sequence[bytes] = (), asks: Sequence[CelAsk] = (),
        *, variables: Sequence[str] = (), timeout: float | None = None,
    ) -> CelResult:
        """See `Toolbox.cel`. Raises ToolboxError."""
        ...


class _Generations(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    generation: int | None = None
    observed_generation: int | None = None


class _Observed(msgspec.Struct, frozen=True, gc=False):
    metadata: _Generations = _Generations()
    status: _Generations | None = None


class HealthRules:
    """The rules of one object's specification. Make with `parse`, and `check` before use."""

    def __init__(self, cel: Cel, rules: Mapping[tuple[str, str], HealthCheckExpr]) -> None:
        self._cel = cel
        self._rules = rules
        texts = dict.fromkeys(text for rule in rules.values() for text in _texts(rule))
        self._indices = {text: index for index, text in enumerate(texts)}

    @classmethod
    def parse(cls, cel: Cel, stated: Iterable[HealthCheckExpr]) -> HealthRules:
        """Raises InvalidExpression when two rules are for the same kind."""
        rules: dict[tuple[str, str], HealthCheckExpr] = {}
        for index, rule in enumerate(stated):
            key = split_api_version(rule.api_version)[0], rule.kind
            if key in rules:
                name = ".".join(part for part in (rule.kind, key[0]) if part)
                raise InvalidExpression(f"duplicate health check for GroupKind {name} at healthchecks[{index}]")
            if not rule.current:
                raise InvalidExpression(f"healthchecks[{index}]: expression Current not specified")
            rules[key] = rule
        return cls(cel, rules)

    async def check(self) -> None:
        """Compile everything. Raises InvalidExpression naming the expression, ToolboxError."""
        if not self._rules:
            return
        result = await self._cel.cel(list(self._indices))
        for index, rule in enumerate(self._rules.values()):
            for name, text in (("Current", rule.current), ("Failed", rule.failed), ("InProgress", rule.in_progress)):
                problem = result.invalid[self._indices[text]] if text else ""
                if problem:
                    failed = f"failed to parse the expression {name}: {problem}"
                    raise InvalidExpression(
                        f"failed to create custom status reader for healthchecks[{index}]: {failed}")

    def covers(self, reference: Reference) -> bool:
        """Whether the kind is judged by an expression: its own, else that of its group (KS-HC-08)."""
        return bool(self._rules) and self._rule(reference) is not None

    def _rule(self, reference: Reference) -> HealthCheckExpr | None:
        return self._rules.get(reference.group_kind) or self._rules.get((reference.group, ""))

    async def assess(self, objects: Iterable[LiveObject]) -> dict[Reference, Health]:
        """The health of objects that rules cover. An expression that cannot be evaluated leaves it Unknown."""
        verdicts: dict[Reference, Health] = {}
        asked: list[LiveObject] = []
        for live in objects:
            if early := _unobserved(live):
                verdicts[live.reference] = early
            else:
                asked.append(live)
        if asked:
            verdicts |= await self._ask(asked)
        return verdicts

    async def _ask(self, asked: Sequence[LiveObject]) -> dict[Reference, Health]:
        rules = [self._rule(live.reference) for live in asked]
        asks = [CelAsk([self._indices[text] for text in _texts(rule)] if rule else [], index)
                for index, rule in enumerate(rules)]
        try:
            result = await self._cel.cel(list(self._indices), [live.raw for live in asked], asks)
        except ToolboxError as error:
            return {live.reference: Health(Status.UNKNOWN, error.message) for live in asked}
        return {
            live.reference: _decided(rule, values, told=live.reference.group_kind != ("", "Secret"))
            for live, rule, values in zip(asked, rules, result.values, strict=True) if rule is not None
        }


def _texts(rule: HealthCheckExpr) -> list[str]:
    """The expressions in the order in which they decide."""
    return [text for text in (rule.in_progress, rule.failed, rule.current) if text]


def _unobserved(live: LiveObject) -> Health | None:
    """In progress when the controller has not seen the object's generation yet; that comes before any expression. Where
    the kind writes something else there than a number, the expressions alone decide."""
    try:
        seen = live.decode(_Observed)
    except msgspec.MsgspecError:
        return None
    generation, observed = seen.metadata.generation, seen.status.observed_generation if seen.status else None
    if observed is None or generation is None or observed == generation:
        return None
    return Health(Status.IN_PROGRESS, f"generation is {generation}, but observed is {observed}")


def _decided(rule: HealthCheckExpr, values: Sequence[CelValue], *, told: bool) -> Health:
    """The first expression that is true decides, one that cannot be evaluated ends the search. `told` lets the
    error be shown, which may quote a value of the object."""
    stated = ((Status.IN_PROGRESS, rule.in_progress), (Status.FAILED, rule.failed), (Status.CURRENT, rule.current))
    for status, value in zip([status for status, text in stated if text], values, strict=True):
        if value.error:
            return Health(Status.UNKNOWN, value.error if told else "an expression cannot be evaluated")
        if value.value:
            return CURRENT if status is Status.CURRENT else Health(status, f"as its {_NAMES[status]} expression says")
    return Health(Status.IN_PROGRESS, "no health expression is true")


_NAMES = {Status.IN_PROGRESS: "inProgress", Status.FAILED: "failed"}
