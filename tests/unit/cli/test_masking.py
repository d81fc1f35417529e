import base64
from typing import Any

import msgspec
import pytest

from headrace.cli import sops_mask
from headrace.cli.diff_text import field_changes
from headrace.cli.masking import AFTER, BEFORE, MASK, is_secret, mask_secret
from headrace.kube.objects import LAST_APPLIED, decode_object
from headrace.model.manifests import Manifest
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

ENCRYPTED = "sops: {mac: ENC[AES256_GCM]}"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(annotations: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    metadata = {"name": "s", "namespace": "n"} | ({"annotations": annotations} if annotations else {})
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def live(content: dict[str, Any]) -> LiveObject:
    return decode_object(msgspec.json.encode(content))


def manifest(content: dict[str, Any]) -> Manifest:
    reference = Reference("", content["kind"], "n", "s")
    return Manifest(reference, "v1", msgspec.json.encode(content), "digest")


@pytest.mark.spec("SEC-36")
def test_no_value_of_a_secret_is_shown_the_annotation_of_kubectl_included() -> None:
    before = secret({LAST_APPLIED: '{"data":{"a":"c2VjcmV0"}}', "note": "old"}, same="c2FtZQ==", a="c2VjcmV0")
    after = secret({"note": "new"}, same="c2FtZQ==", a="b3RoZXI=", new="bmV3")
    shown = mask_secret(before, after)
    assert shown[0]["data"] == {"same": MASK, "a": BEFORE}
    assert shown[1]["data"] == {"same": MASK, "a": AFTER, "new": AFTER}
    assert shown[0]["metadata"]["annotations"] == {LAST_APPLIED: BEFORE, "note": "old"}
    assert not any(value in str(shown) for value in ("c2VjcmV0", "b3RoZXI=", "bmV3", "c2FtZQ=="))
    assert {c.path for c in field_changes(*shown)} == {
        "data.a", "data.new", f"metadata.annotations.[{LAST_APPLIED}]", "metadata.annotations.note"}


@pytest.mark.spec("SEC-36")
def test_a_secret_is_one_by_what_the_cluster_says_whatever_it_was_asked_for_as() -> None:
    disguised = msgspec.structs.replace(live(secret()), reference=Reference("", "ConfigMap", "n", "s"))
    assert is_secret(disguised)
    assert is_secret(None, live(secret()))
    assert not is_secret(None, live(secret() | {"kind": "ConfigMap"}))
    assert not is_secret(live(secret() | {"apiVersion": "example.com/v1"}))


def test_data_that_is_no_map_is_masked_as_a_whole() -> None:
    before, _ = mask_secret(secret() | {"data": "leak"}, secret())
    assert "leak" not in str(before)


def test_an_encrypted_secret_has_masks_for_values() -> None:
    document = secret(a="ENC[x]") | {"stringData": {"b": "ENC[y]"}, "sops": {"mac": "ENC[z]"}}
    shown = sops_mask.mask_object(document)
    assert (shown["data"], shown["stringData"]) == ({"a": encoded("**SOPS**")}, {"b": "**SOPS**"})
    assert "sops" not in shown


def test_an_encrypted_docker_config_stays_json() -> None:
    document = secret(**{".dockerconfigjson": "ENC[x]"}) | {"type": "kubernetes.io/dockerconfigjson", "sops": {}}
    assert sops_mask.mask_object(document)["data"] == {".dockerconfigjson": encoded('{"mask":"**SOPS**"}')}


def test_another_encrypted_object_only_loses_what_sops_added() -> None:
    assert sops_mask.mask_object({"kind": "ConfigMap", "data": {"a": "1"}, "sops": {}}) == {
        "kind": "ConfigMap", "data": {"a": "1"}}


def test_a_generated_secret_has_a_mask_only_for_files_that_are_encrypted() -> None:
    shown = sops_mask.mask_manifest(manifest(secret(file=encoded(ENCRYPTED), plain=encoded("x"))))
    assert msgspec.json.decode(shown.body)["data"] == {"file": encoded("**SOPS**"), "plain": encoded("x")}
    config = manifest(secret(file=encoded(ENCRYPTED)) | {"kind": "ConfigMap"})
    assert sops_mask.mask_manifest(config) is config


def test_only_the_keys_of_an_encrypted_secret_are_compared() -> None:
    held = live(secret(a=encoded("real")))
    assert sops_mask.unmasked_values(live(secret(a=encoded("**SOPS**"))), held) == held.content()
    more = sops_mask.unmasked_values(live(secret(a=encoded("**SOPS**"), b=encoded("**SOPS**"))), held)
    assert more["data"] == {"a": encoded("real"), "b": encoded("**SOPS**")}
