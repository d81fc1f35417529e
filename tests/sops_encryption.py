"""Encrypting a Secret as SOPS does, for key services that exist only while a test runs.

The format: docs of SOPS, "Encryption protocol". The message authentication code is present and not right: Flux does not
look at it, nor do we.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

STAMP = "2026-01-01T00:00:00Z"


def new_data_key() -> bytes:
    return secrets.token_bytes(32)


def encrypted_secret(data_key: bytes, name: str, values: dict[str, str], **recipients: list[dict[str, Any]]) -> str:
    """A Secret whose values are encrypted with the data key; `recipients` are the sections of its metadata, such as
    `kms`, each entry with the data key in `enc`."""
    said = {section: [{"created_at": STAMP} | entry for entry in entries] for section, entries in recipients.items()}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {key: _encrypted(data_key, value, f"stringData:{key}:") for key, value in values.items()},
            "sops": said
            | {
                "lastmodified": STAMP,
                "mac": _encrypted(data_key, "0" * 128, STAMP),
                "encrypted_regex": "^(data|stringData)$",
                "version": "3.13.2",
            },
        }
    )


def _encrypted(data_key: bytes, value: str, additional: str) -> str:
    nonce = secrets.token_bytes(32)
    sealed = AESGCM(data_key).encrypt(nonce, value.encode(), additional.encode())
    parts = {"data": sealed[:-16], "iv": nonce, "tag": sealed[-16:]}
    told = ",".join(f"{part}:{base64.b64encode(content).decode()}" for part, content in parts.items())
    return f"ENC[AES256_GCM,{told},type:str]"
