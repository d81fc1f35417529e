"""Signatures as strangers write them."""

from __future__ import annotations

import base64

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.source.oci.cosign import signed_by

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize("signatures", [5, "text", {"sig": ""}, None, [1, {"sig": 2}]])
def test_a_bundle_that_is_none_is_no_signature_and_no_failure(signatures: object) -> None:
    statement = {
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "subject": [{"digest": {"sha256": "a" * 64}}],
    }  # fmt: skip
    payload = base64.b64encode(msgspec.json.encode(statement)).decode()
    envelope = {"payloadType": "application/vnd.in-toto+json", "payload": payload, "signatures": signatures}
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert not signed_by(key, DIGEST, [], [msgspec.json.encode({"dsseEnvelope": envelope})])
