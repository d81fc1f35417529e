from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from headrace.api.kustomization import HealthCheckExpr
from headrace.apply.expressions import CONTENT, HealthRules, InvalidExpression
from headrace.apply.health import Health, Status
from headrace.kube.objects import decode_object
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference
from headrace.toolbox import CelAsk, CelResult, CelValue

RULE = HealthCheckExpr("example.com/v1", "now", "Widget", in_progress="soon", failed="never")


def live(kind: str = "Widget", group: str = "example.com", status: Any = None, **metadata: Any) -> LiveObject:
    content = {"apiVersion": f"{group}/v1".lstrip("/"), "kind": kind, "status": status,
               "metadata": {"name": "w", "namespace": "default", "generation": 2, "resourceVersion": "7"} | metadata}
    return decode_object(msgspec.json.encode(content))


class Answers:
    """Gives each expression the value that it is set to; the language itself is tested in the toolbox."""

    def __init__(self, **values: bool | str) -> None:
        self.values = values
        self.calls = 0

    async def cel(
        self, expressions: Sequence[str], inputs: Sequence[bytes] = (), asks: Sequence[CelAsk] = (),
        *, variables: Sequence[str] = (), timeout: float | None = None,
    ) -> CelResult:
        self.calls += 1
        values = tuple(tuple(self._value(expressions[i]) for i in ask.expressions) for ask in asks)
        return CelResult(tuple("bad" if text == "bad" else "" for text in expressions), values)

    def _value(self, text: str) -> CelValue:
        value = self.values.get(text, False)
        return CelValue(error=value) if isinstance(value, str) else CelValue(value)


async def assessed(answers: Answers, obj: LiveObject, *rules: HealthCheckExpr) -> Health:
    return (await HealthRules.parse(answers, rules or (RULE,)).assess([obj]))[obj.reference]


@pytest.mark.spec("KS-HC-08")
@pytest.mark.parametrize(("values", "status"), [
    pytest.param({"soon": True, "never": True, "now": True}, Status.IN_PROGRESS, id="inProgress comes first"),
    pytest.param({"never": True, "now": True}, Status.FAILED, id="then failed"),
    pytest.param({"now": True}, Status.CURRENT, id="then current"),
    pytest.param({}, Status.IN_PROGRESS, id="none is true"),
    pytest.param({"soon": "no such key", "now": True}, Status.UNKNOWN, id="an error ends the search"),
    pytest.param({"never": True, "now": "no such key"}, Status.FAILED, id="an error behind the verdict is nothing"),
])
async def test_expressions_are_tried_in_order(values: dict[str, bool | str], status: Status) -> None:
    assert (await assessed(Answers(**values), live())).status is status


@pytest.mark.spec("KS-HC-08")
async def test_a_generation_not_observed_is_in_progress_before_any_expression() -> None:
    answers = Answers(never=True)
    for observed in (1, 3):
        unobserved = live(status={"observedGeneration": observed})
        assert (await assessed(answers, unobserved)).status is Status.IN_PROGRESS
    assert answers.calls == 0
    assert (await assessed(answers, live(status={"observedGeneration": 2}))).status is Status.FAILED
    assert (await assessed(answers, live(status={"observedGeneration": "1"}))).status is Status.FAILED, "no number"
    assert (await assessed(answers, live(status="odd"))).status is Status.FAILED


@pytest.mark.spec("KS-HC-08")
async def test_the_rule_of_a_kind_beats_that_of_its_group() -> None:
    group = HealthCheckExpr("example.com/v1beta1", "group")
    rules = HealthRules.parse(Answers(), [group, RULE])
    assert rules.covers(live().reference)
    assert rules.covers(live("Other").reference)
    assert not rules.covers(Reference("apps", "Widget", "default", "w"))
    answers = Answers(now=True)
    assert (await assessed(answers, live(), group, RULE)).status is Status.CURRENT
    assert (await assessed(answers, live("Other"), group, RULE)).status is Status.IN_PROGRESS


async def test_many_objects_are_one_call() -> None:
    answers = Answers(now=True)
    objects = [live(name=f"w{i}") for i in range(5)]
    verdicts = await HealthRules.parse(answers, [RULE]).assess(objects)
    assert {v.status for v in verdicts.values()} == {Status.CURRENT}
    assert (len(verdicts), answers.calls) == (5, 1)


@pytest.mark.spec("KS-HC-09")
async def test_duplicates_and_bad_expressions_are_told() -> None:
    with pytest.raises(InvalidExpression, match=r"duplicate health check for GroupKind Widget\.example\.com"):
        HealthRules.parse(Answers(), [RULE, HealthCheckExpr("example.com/v2", "x", "Widget")])
    with pytest.raises(InvalidExpression, match=r"healthchecks\[0\]: expression Current not specified"):
        HealthRules.parse(Answers(), [HealthCheckExpr("example.com/v1", "", failed="x")])
    stated = {"Current": ("bad", "", ""), "InProgress": ("now", "bad", ""), "Failed": ("now", "", "bad")}
    for name, (current, in_progress, failed) in stated.items():
        rule = HealthCheckExpr("apps/v1", current, in_progress=in_progress, failed=failed)
        with pytest.raises(InvalidExpression, match=rf"healthchecks\[1\]: failed to parse the expression {name}: bad"):
            await HealthRules.parse(Answers(), [RULE, rule]).check()


async def test_the_error_of_a_rule_for_secrets_quotes_nothing() -> None:
    rule = HealthCheckExpr("v1", "now", "Secret")
    verdict = await assessed(Answers(now="cannot convert 'hunter2'"), live("Secret", ""), rule)
    assert verdict == Health(Status.UNKNOWN, "an expression cannot be evaluated")


def test_bookkeeping_is_no_news_to_an_expression() -> None:
    assert CONTENT.digest(live(resourceVersion="8", managedFields=[])) == CONTENT.digest(live())
    assert CONTENT.digest(live(status={"x": 1})) != CONTENT.digest(live())
