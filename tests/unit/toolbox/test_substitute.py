"""The grammar of substitution, row by row."""

from __future__ import annotations

import pytest

from headrace.toolbox import Toolbox, ToolboxError

pytestmark = pytest.mark.asyncio(loop_scope="module")

VARIABLES = {"v": "value", "empty": "", "path": "a/b/c.tar.gz", "d": "default", "UP": "ABC", "n": "2"}


@pytest.mark.spec("KS-SUB-03", "KS-SUB-13")
@pytest.mark.parametrize(("text", "result"), [
    ("${v}", "value"), ("$v", "$v"), ("$(v)", "$(v)"),
    ("$${v}", "${v}"), ("$$a", "$a"), ("$$${v}", "$value"),
    ("${x:=d}", "d"), ("${x:-d}", "d"), ("${x=d}", "d"), ("${x:?d}", "d"), ("${x:+d}", "d"),
    ("${v:=d}", "value"), ("${v:-d}", "value"), ("${v=d}", "value"), ("${v:?d}", "value"), ("${v:+d}", "value"),
    ("${empty:-d}", "d"), ("${empty=d}", "d"), ("${x:-${d}}", "default"), ("${x:-a}b}", "ab}"),
    ("${#v}", "5"), ("${UP,}", "aBC"), ("${UP,,}", "abc"), ("${v^}", "Value"), ("${v^^}", "VALUE"),
    ("${v:2}", "lue"), ("${v:1:2}", "al"), ("${v:x}", "value"), ("${v:9}", ""),
    # Flux 2.9 panics here; from envsubst 1.7 on a negative length counts from the end, as in bash
    ("${v:1:-1}", "alu"), ("${v:3:-3}", ""),
    ("${path#*/}", "b/c.tar.gz"), ("${path##*/}", "c.tar.gz"), ("${path%.*}", "a/b/c.tar"), ("${path%%.*}", "a/b/c"),
    ("${path#?/}", "b/c.tar.gz"), ("${v#[a-z]}", "value"[1:]), ("${v#[^a]}", "alue"),
    ("${path/a/x}", "x/b/c.tar.gz"), ("${path//a/x}", "x/b/c.txr.gz"), ("${path/#a/x}", "x/b/c.tar.gz"),
    ("${path/%gz/x}", "a/b/c.tar.x"), (r"${path/\/b/x}", "ax/c.tar.gz"), ("${path//a/}", "/b/c.tr.gz"),
    ("${path/#a/}", "a/b/c.tar.gz"), ("${v/${v}/${d}}", "default"),
    ("no variable", "no variable"), ("", ""),
])
async def test_grammar(toolbox: Toolbox, text: str, result: str):
    assert await toolbox.substitute(text, VARIABLES) == result


@pytest.mark.spec("KS-SUB-03")
@pytest.mark.parametrize(("text", "message"), [
    ("${v-d}", "missing closing brace"), ("${v+d}", "missing closing brace"), ("${v?d}", "missing closing brace"),
    ("${v.x}", "missing closing brace"), ("${v }", "missing closing brace"), ("${v", "missing closing brace"),
    ("${}", "unable to parse variable name"), ("${ v}", "unable to parse variable name"),
    ("${!v}", "unable to parse variable name"), ("${v/p}", "substitution failed"),
])
async def test_text_that_is_no_substitution(toolbox: Toolbox, text: str, message: str):
    with pytest.raises(ToolboxError, match=message) as caught:
        await toolbox.substitute(text, VARIABLES)
    assert caught.value.code == "SubstituteFailed"


@pytest.mark.spec("KS-SUB-04", "KS-SUB-13")
@pytest.mark.parametrize("text", ["${x}", "${x^^}", "${#x}", "${x/a/b}", "${x:1}"])
async def test_only_defaults_save_a_missing_variable(toolbox: Toolbox, text: str):
    with pytest.raises(ToolboxError, match=r"variable not set \(strict mode\)"):
        await toolbox.substitute(text, VARIABLES)
    assert await toolbox.substitute(text, VARIABLES, strict=False) in ("", "0")


async def test_substitution_cannot_be_made_to_explode(toolbox: Toolbox):
    with pytest.raises(ToolboxError) as caught:
        await toolbox.substitute("${v}" * 1000, {"v": "x" * 1_000_000})
    assert caught.value.code == "LimitExceeded"
