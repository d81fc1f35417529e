"""What Secrets say of the way to a server, for every kind of source: TLS data and proxies (SRC-COM-28..31)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from headrace.core.egress import RemoteUrl, Trust, UrlRefused, parse_url

TLS_KEYS = ("ca.crt", "tls.crt", "tls.key", "caFile", "certFile", "keyFile")
"""What is read of a Secret with TLS data; the last three are the legacy names."""
PROXY_KEYS = ("address", "username", "password")
"""What is read of a proxy's Secret."""
_PROXY_ADDRESS = 2048


def trust_of(secret: Mapping[str, bytes]) -> Trust:
    """CAs and client certificate of a Secret's data; nothing when it has none of them.

    Raises ValueError for half a pair (SRC-COM-28), never with a value.
    """
    ca = secret.get("ca.crt") or secret.get("caFile") or b""
    certificate = secret.get("tls.crt") or secret.get("certFile") or b""
    key = secret.get("tls.key") or secret.get("keyFile") or b""
    if bool(certificate) != bool(key):
        raise ValueError("invalid secret: 'tls.crt' and 'tls.key' must be given together")
    return Trust(ca=ca, certificate=certificate, key=key)


def proxy_of(secret: Mapping[str, bytes]) -> RemoteUrl:
    """The proxy that a Secret describes (SRC-COM-31). Raises ValueError saying what is wrong, never with a value."""
    address = text_of(secret, "address").strip()
    if not address:
        raise ValueError("invalid proxy secret: key 'address' is missing")
    if len(address) > _PROXY_ADDRESS:
        raise ValueError(f"invalid proxy secret: 'address' is longer than {_PROXY_ADDRESS} characters")
    try:
        url = parse_url(address, ("http", "https", "socks5"))
    except UrlRefused as error:
        raise ValueError(f"invalid proxy secret: {error}") from None
    username, password = text_of(secret, "username"), text_of(secret, "password")
    return replace(url, username=username or url.username, password=password or url.password)


def text_of(secret: Mapping[str, bytes], key: str) -> str:
    """A value as text, empty when it is missing. Raises ValueError when it would break out of a header."""
    value = secret.get(key, b"").decode("utf-8", "replace")
    if any(ord(char) < 32 for char in value.rstrip("\r\n")):
        raise ValueError(f"invalid secret: '{key}' contains control characters")
    return value.rstrip("\r\n") if key == "bearerToken" else value


def joined(*parts: bytes) -> bytes:
    """Bytes that are equal only for equal parts: what makes an identity out of several values."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
