"""Values of variables that try to be more than values (SEC-44)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace.engine.engine import Engine
from headrace.toolbox import BuildRequest, Substitute, Toolbox, ToolboxError
from tests.attack.strict import CONFIG_MAPS, grant
from tests.cluster.kustomization.world import World, condition

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: ${x}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: b"


@pytest.fixture
async def toolbox() -> AsyncIterator[Toolbox]:
    async with Toolbox(size=1) as made:
        yield made


async def build(toolbox: Toolbox, directory: Path, text: str, **variables: str) -> list[dict[str, Any]]:
    """The objects of one file with the variables of strict tenancy."""
    directory.mkdir(exist_ok=True)
    (directory / "a.yaml").write_text(text)
    request = BuildRequest(root=str(directory), substitute=Substitute(variables=variables, scalars=True))
    built = await toolbox.build(request)
    return [json.loads(manifest.body) for manifest in built.manifests().items]


@pytest.mark.spec("SEC-44")
@pytest.mark.parametrize("value", [
    pytest.param(f"v\n---\n{SECRET}", id="a document"),
    pytest.param("v\nkind: Secret", id="a field"),
    pytest.param("v\r\n---\r\nkind: Secret", id="carriage returns"),
    pytest.param("v\u2028kind: Secret", id="a line separator"),
    pytest.param("v\u0085kind: Secret", id="a next line"),
    pytest.param("'v'\n...\n---\n", id="an end"),
])
async def test_a_value_makes_no_document_and_no_field(toolbox: Toolbox, tmp_path: Path, value: str) -> None:
    objects = []
    with contextlib.suppress(ToolboxError):
        objects = await build(toolbox, tmp_path, MAP, x=value)

    assert [(o["kind"], o["metadata"]["name"], sorted(o)) for o in objects] == [
        ("ConfigMap", "a", ["apiVersion", "data", "kind", "metadata"])][: len(objects)]
    assert all(list(found["data"]) == ["k"] for found in objects)


@pytest.mark.spec("SEC-44")
@pytest.mark.parametrize(("text", "value"), [
    pytest.param(MAP, "{kind: Secret}", id="a map"),
    pytest.param(MAP, "[1, 2]", id="a list"),
    pytest.param(MAP, "{}", id="an empty map"),
    pytest.param(MAP.replace("${x}", "['${x}']"), "[1, 2]", id="a list in a list"),
    pytest.param(MAP.replace("${x}", "['${x}']"), "k: v", id="a map in a list"),
    pytest.param(MAP.replace("kind: ConfigMap", "kind: ${x}"), "Secret", id="another kind"),
    pytest.param(MAP.replace("apiVersion: v1", "apiVersion: ${x}"), "v2", id="another version"),
])
async def test_a_value_that_changes_the_structure_is_refused(
    toolbox: Toolbox, tmp_path: Path, text: str, value: str
) -> None:
    with pytest.raises(ToolboxError) as caught:
        await build(toolbox, tmp_path, text, x=value)

    assert caught.value.code == "SubstituteFailed"
    assert value not in caught.value.message


async def test_what_is_a_scalar_before_and_after_is_put_in(toolbox: Toolbox, tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a-${x}\ndata:\n  '${x}': v\n  n: '${x} and ${y}'\n"

    objects = await build(toolbox, tmp_path, text, x="b", y="c:d")

    assert objects[0]["metadata"]["name"] == "a-b"
    assert objects[0]["data"] == {"b": "v", "n": "b and c:d"}


@pytest.mark.spec("SEC-44")
async def test_under_strict_tenancy_structure_cannot_come_out_of_a_variable(world: World, strict: Engine) -> None:
    await grant(world, "default", CONFIG_MAPS)
    world.commit({"a.yaml": MAP})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, postBuild={"substitute": {"x": "{kind: Secret}"}})

    ks = await world.failed(reason="BuildFailed")

    assert "changes the structure of the object at '.data.k'" in condition(ks, "Ready")["message"]
