from __future__ import annotations

import json

import msgspec
import pytest

from headrace.kube.objects import LAST_APPLIED, decode_items, decode_list, decode_object, newer, slim
from headrace.kube.resource import Resource
from headrace.model.reference import Reference

CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)


def encoded(**metadata: object) -> bytes:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns", **metadata}}
    return json.dumps(body | {"data": {"x": "1"}}).encode()


def test_an_object_keeps_its_bytes_and_tells_its_metadata() -> None:
    raw = encoded(uid="u", resourceVersion="7", labels={"l": "1"}, deletionTimestamp="2026-01-01T00:00:00Z")
    live = decode_object(raw, cluster="east")
    assert live.reference == Reference("", "ConfigMap", "ns", "a", "east")
    assert live.raw is raw
    assert live.metadata.resource_version == "7"
    assert live.metadata.deleting
    assert live.content()["data"] == {"x": "1"}


def test_items_of_a_list_take_their_kind_from_the_resource() -> None:
    raw = b'{"metadata":{"name":"a","namespace":"ns"}}'
    assert decode_object(raw, CONFIG_MAP).reference.kind == "ConfigMap"
    partial = b'{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"a"}}'
    live = decode_object(partial, CONFIG_MAP, partial=True)
    assert (live.reference.group_kind, live.api_version) == (("", "ConfigMap"), "v1")


@pytest.mark.spec("SEC-39")
def test_one_object_that_cannot_be_decoded_does_not_hide_the_others() -> None:
    items = [json.loads(encoded(name="a")), {"metadata": {"name": 7}}, "text", json.loads(encoded(name="c"))]
    listed = decode_list(json.dumps({"metadata": {"resourceVersion": "9", "continue": "t"}, "items": items}).encode())
    objects, quarantined = decode_items(listed.items or (), CONFIG_MAP)
    assert [live.metadata.name for live in objects] == ["a", "c"]
    assert quarantined == 2
    assert listed.metadata.continue_ == "t"


def test_a_list_of_nothing_may_be_null() -> None:
    assert decode_list(b'{"metadata":{"resourceVersion":"1"},"items":null}').items is None


def test_slim_metadata_knows_that_kubectl_applied_but_not_what() -> None:
    raw = encoded(annotations={LAST_APPLIED: "x" * 5000, "b": "2"}, managedFields=[{"manager": "m"}])
    live = slim(decode_object(raw, partial=True))
    assert live.metadata.annotations == {LAST_APPLIED: "", "b": "2"}
    assert len(live.raw) < 1000
    assert msgspec.json.decode(live.raw)["metadata"]["name"] == "a"


@pytest.mark.parametrize(
    ("a", "b", "expected"), [("10", "9", True), ("9", "10", False), ("x", "9", None), ("", "9", None)]
)
def test_versions_compare_as_numbers(a: str, b: str, expected: bool | None) -> None:
    assert newer(a, b) is expected
