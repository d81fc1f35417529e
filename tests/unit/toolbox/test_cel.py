"""CEL as Flux speaks it, and its limits."""

from __future__ import annotations

import json

import pytest

from headrace.toolbox import CelAsk, CelValue, Toolbox

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_many_expressions_over_many_inputs_are_one_call(toolbox: Toolbox):
    inputs = [json.dumps({"status": {"n": n}}).encode() for n in range(3)]
    result = await toolbox.cel(
        ["status.n > 1", "status.x == 1"], inputs, [CelAsk([0], 0), CelAsk([0, 1], 2), CelAsk([], 1)])
    assert result.invalid == ("", "")
    assert result.values[0] == (CelValue(value=False),)
    assert result.values[1][0] == CelValue(value=True)
    assert "no such key: x" in result.values[1][1].error
    assert result.values[2] == ()


async def test_an_invalid_expression_is_told_from_one_that_cannot_be_evaluated(toolbox: Toolbox):
    result = await toolbox.cel(["a ==", "b == 1"], [b"{}"], [CelAsk([1], 0)])
    assert "Syntax error" in result.invalid[0]
    assert result.invalid[1] == ""
    assert result.values == ()


@pytest.mark.parametrize(("text", "message"), [
    pytest.param("dep.status", "expected bool", id="no boolean"),
    pytest.param("deb.status == 1", "undeclared reference", id="unknown variable"),
    pytest.param("dep.status == 'x' && self.x == 1", "", id="valid"),
])
async def test_declared_variables_are_checked(toolbox: Toolbox, text: str, message: str):
    result = await toolbox.cel([text], variables=("self", "dep"))
    assert message in result.invalid[0] if message else result.invalid[0] == ""


@pytest.mark.spec("SEC-43")
async def test_an_expression_made_to_run_for_ever_is_stopped(toolbox: Toolbox):
    bomb = "l.all(a, l.all(b, l.all(c, l.all(d, a == b && c == d))))"
    result = await toolbox.cel([bomb], [json.dumps({"l": [1] * 1000}).encode()], [CelAsk([0], 0)])
    error = result.values[0][0].error
    assert "cost limit" in error or "interrupted" in error
    await toolbox.ping()


@pytest.mark.spec("SEC-43")
@pytest.mark.parametrize("text", ["(" * 300 + "true" + ")" * 300, "'" + "x" * 20000 + "' == ''"], ids=["depth", "size"])
async def test_an_oversized_expression_is_invalid(toolbox: Toolbox, text: str):
    assert (await toolbox.cel([text])).invalid[0]
