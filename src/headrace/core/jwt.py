"""JSON Web Tokens signed with RSA: how an application proves to an issuer of tokens who it is."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


def load_rsa_key(pem: bytes, password: bytes | None = None) -> RSAPrivateKey:
    """A private key from PEM. Raises ValueError, never with a part of the key."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password)
    except (ValueError, TypeError):
        raise ValueError("the private key cannot be read") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the private key is not an RSA key")  # noqa: TRY004 - of the content, not of a type
    return key


def sign_rs256(claims: Mapping[str, object], key: RSAPrivateKey, header: Mapping[str, object] | None = None) -> str:
    """A compact token with the claims."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    head = {"alg": "RS256", "typ": "JWT", **(header or {})}
    signed = b".".join(base64url(msgspec.json.encode(part)) for part in (head, dict(claims)))
    return b".".join((signed, base64url(key.sign(signed, PKCS1v15(), SHA256())))).decode()


def base64url(data: bytes) -> bytes:
    """Base64 for URLs without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")
