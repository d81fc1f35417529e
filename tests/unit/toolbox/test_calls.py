"""The small calls: semantic versions as Flux compares them, YAML as kubectl reads it."""

from __future__ import annotations

import json

import pytest

from headrace.toolbox import Toolbox, ToolboxError

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(("constraint", "versions", "options", "result"), [
    pytest.param("1.x", ["1.0.0", "v1.2.0", "2.0.0", "1.10.0"], {}, ["1.10.0", "v1.2.0", "1.0.0"], id="newest first"),
    pytest.param(">=1.0.0", ["1.0.0", "1.1.0-rc.1", "latest"], {}, ["1.0.0"], id="no pre-releases, no nonsense"),
    pytest.param(">=1.0.0-0", ["1.0.0", "1.1.0-rc.1"], {}, ["1.1.0-rc.1", "1.0.0"], id="pre-releases when named"),
    pytest.param("1.x", ["1.2", "v1.1.0"], {"strict_parts": True}, ["v1.1.0"], id="two parts are no git tag"),
    pytest.param("1.x", ["1.2", "v1.1.0"], {}, ["1.2", "v1.1.0"], id="two parts elsewhere"),
    pytest.param("*", ["1.0.0-dev", "2.0.0", "3.0.0"], {"pattern": "^[12]"}, ["2.0.0"], id="filter"),
    pytest.param(">=3", ["1.0.0"], {}, [], id="none"),
])
async def test_semver(toolbox: Toolbox, constraint, versions, options, result):
    match = await toolbox.semver(constraint, versions, **options)
    assert list(match.sorted) == result
    assert match.best == (result[0] if result else None)


@pytest.mark.parametrize(("constraint", "pattern"), [("not a range", ""), ("1.x", "(")])
async def test_semver_refuses(toolbox: Toolbox, constraint: str, pattern: str):
    with pytest.raises(ToolboxError) as caught:
        await toolbox.semver(constraint, [], pattern=pattern)
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize(("text", "documents"), [
    pytest.param("a: yes\nb: 0777\nc: '1'\n", [{"a": True, "b": 511, "c": "1"}], id="YAML 1.1"),
    pytest.param("---\n# nothing\n---\na: 1\n---\n\n---\nb: 2\n", [{"a": 1}, {"b": 2}], id="empty documents"),
    pytest.param('{"a": [1, null]}', [{"a": [1, None]}], id="JSON"),
    pytest.param("", [], id="nothing"),
    pytest.param("a: |\n  text\n  ---more\n", [{"a": "text\n---more\n"}], id="dashes within a text"),
])
async def test_yaml(toolbox: Toolbox, text: str, documents: object):
    assert json.loads(await toolbox.yaml_to_json(text.encode())) == documents


@pytest.mark.parametrize(("text", "code", "message"), [
    ("a: 1\n---\n- b\n", "InvalidYAML", "document 1: not a map of fields"),
    ("a: [\n", "InvalidYAML", "document 0: "),
    ("a: " + "{b: " * 3000 + "}" * 3000, "LimitExceeded", "nested"),
])
async def test_yaml_refuses(toolbox: Toolbox, text: str, code: str, message: str):
    with pytest.raises(ToolboxError, match=message) as caught:
        await toolbox.yaml_to_json(text.encode())
    assert caught.value.code == code
