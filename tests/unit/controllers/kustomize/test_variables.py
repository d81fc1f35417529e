"""Which values variables have: several references, inline ones, newlines, and references that name nothing."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import Kustomization
from headrace.controllers.kustomize.variables import Variables, read_variables
from headrace.kube.objects import decode_object
from headrace.model.errors import Retry
from headrace.model.objects import LiveObject
from tests.servers.sources import RecordedScope


def stored(kind: str, name: str, namespace: str = "default", **content: Any) -> LiveObject:
    metadata = {"name": name, "namespace": namespace, "uid": "u1", "resourceVersion": "1"}
    api_version = KUSTOMIZATION.api_version if kind == "Kustomization" else "v1"
    return decode_object(
        msgspec.json.encode({"apiVersion": api_version, "kind": kind, "metadata": metadata} | content))


def secret(name: str, **data: str) -> LiveObject:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return stored("Secret", name, data=encoded)


async def variables(*objects: LiveObject, inline: dict[str, str] | None = None, optional: bool = False) -> Variables:
    """What a Kustomization reads that names a Secret, a ConfigMap and another Secret, in this order."""
    named = (("Secret", "first"), ("ConfigMap", "second"), ("Secret", "third"))
    spec = {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"}, "postBuild": {
        "substitute": inline or {},
        "substituteFrom": [{"kind": kind, "name": name, "optional": optional} for kind, name in named]}}
    myself = stored("Kustomization", "app", spec=spec)
    scope = RecordedScope(myself, objects={live.reference: live for live in objects})
    return await read_variables(myself.decode(Kustomization), scope)


FIRST, THIRD = secret("first", a="first", b="first", c="first"), secret("third", a="third")
SECOND = stored("ConfigMap", "second", data={"a": "second", "b": "second"})


@pytest.mark.spec("KS-SUB-01")
async def test_a_later_reference_beats_an_earlier_one_and_inline_beats_all() -> None:
    read = await variables(FIRST, SECOND, THIRD, inline={"b": "inline", "d": "inline"})
    assert read.values == {"a": "third", "b": "inline", "c": "first", "d": "inline"}
    assert set(read.secrets) == {"first", "third"}


@pytest.mark.spec("KS-SUB-02")
async def test_no_value_keeps_a_newline_wherever_it_is_from() -> None:
    objects = (secret("first", a="1\n2\n"), stored("ConfigMap", "second", data={"b": "\n3"}), secret("third"))
    assert (await variables(*objects, inline={"c": "4\n5"})).values == {"a": "12", "b": "3", "c": "45"}


@pytest.mark.spec("KS-SUB-06")
@pytest.mark.parametrize(("left", "missing"), [
    ((SECOND, THIRD), "Secret/first"), ((FIRST, THIRD), "ConfigMap/second"), ((FIRST, SECOND), "Secret/third"),
])
async def test_what_is_missing_fails_the_build_unless_it_is_optional(
    left: tuple[LiveObject, ...], missing: str
) -> None:
    with pytest.raises(Retry, match=f"substitute from '{missing}' error: .* not found") as refused:
        await variables(*left)
    assert refused.value.reason == "BuildFailed"
    values = {key: value for live in left for key, value in (await variables(live, optional=True)).values.items()}
    assert (await variables(*left, optional=True)).values == values


@pytest.mark.spec("KS-SUB-06")
async def test_an_optional_reference_that_comes_to_be_is_another_input() -> None:
    before, after = await variables(FIRST, optional=True), await variables(FIRST, secret("third"), optional=True)
    assert before.values == after.values
    assert before.versions != after.versions


async def test_objects_of_other_namespaces_count_for_nothing() -> None:
    elsewhere = stored("ConfigMap", "second", "other", data={"a": "x"})
    assert (await variables(elsewhere, optional=True)).values == {}


@pytest.mark.spec("KS-SUB-09")
@pytest.mark.parametrize("name", ["1a", "a-b", "", "a.b", "ä"])
async def test_a_name_that_cannot_be_used_fails_though_nothing_uses_it(name: str) -> None:
    with pytest.raises(Retry, match="var name is invalid"):
        await variables(FIRST, SECOND, THIRD, inline={name: "x"})
    with pytest.raises(Retry, match="var name is invalid"):
        await variables(FIRST, stored("ConfigMap", "second", data={name: "x"}), THIRD)
