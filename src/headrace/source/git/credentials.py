"""Credentials for git over HTTP and SSH out of a Secret and a URL (sources.md 2.1, SRC-GIT-19..24, SRC-COM-28..30)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headrace.core.egress import NO_TRUST, RemoteUrl, Trust, UrlRefused, parse_url

SECRET_KEYS = (
    "username", "password", "bearerToken", "identity", "known_hosts",
    "ca.crt", "tls.crt", "tls.key", "caFile", "certFile", "keyFile",
    "githubAppID", "githubAppInstallationID", "githubAppInstallationOwner", "githubAppPrivateKey",
)  # fmt: skip
"""What is read of a Secret; a change of anything else in it wakes nobody."""


PROXY_KEYS = ("address", "username", "password")
"""What is read of a proxy's Secret."""
_PROXY_ADDRESS = 2048


class ProviderMismatch(ValueError):
    """The Secret is meant for another `spec.provider` (SRC-GIT-26)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshIdentity:
    """A private key for a user, and the host keys that are trusted."""

    user: str
    key: bytes = field(repr=False)
    passphrase: str = field(default="", repr=False)
    known_hosts: str = field(default="", repr=False)

    @property
    def identity(self) -> bytes:
        """Bytes that are equal only for equal identities. A secret."""
        return _joined(self.user.encode(), self.key, self.passphrase.encode(), self.known_hosts.encode())


@dataclass(frozen=True, slots=True)
class Credentials:
    """An identity towards a server. Equal credentials are one identity, whoever names them (SEC-49)."""

    authorization: str = field(default="", repr=False)
    trust: Trust = NO_TRUST
    ssh: SshIdentity | None = None
    proxy: RemoteUrl | None = None

    @property
    def identity(self) -> bytes:
        """Bytes that are equal only for equal credentials. A secret."""
        ssh = self.ssh.identity if self.ssh else b""
        proxy = self.proxy
        way = _joined(*(part.encode() for part in (proxy.text, proxy.username, proxy.password))) if proxy else b""
        return _joined(self.authorization.encode(), self.trust.ca, self.trust.certificate, self.trust.key, ssh, way)


def http_credentials(secret: Mapping[str, bytes], url: RemoteUrl) -> Credentials:
    """Credentials for an http or https URL; `secret` is the Secret's data, decoded, empty when there is none.

    Raises ValueError saying which keys are wrong; never with a value.
    """
    if any(key.startswith("githubApp") for key in secret):
        raise ProviderMismatch("secret has github app data but provider is not set to github")
    return Credentials(_authorization(secret, url), _trust(secret) if url.scheme == "https" else NO_TRUST)


def ssh_credentials(secret: Mapping[str, bytes], url: RemoteUrl) -> Credentials:
    """Credentials for an ssh URL: a key and the host keys that are trusted, never a password (SRC-GIT-22).

    Raises ValueError saying which key is missing.
    """
    for key in ("identity", "known_hosts"):
        if not secret.get(key, b"").strip():
            raise ValueError(f"invalid 'ssh' auth option: '{key}' is required")
    identity = SshIdentity(
        user=url.username or "git",
        key=secret["identity"],
        passphrase=_text(secret, "password"),
        known_hosts=secret["known_hosts"].decode("utf-8", "replace"),
    )
    return Credentials(ssh=identity)


def proxy_of(secret: Mapping[str, bytes]) -> RemoteUrl:
    """The proxy that a Secret describes (SRC-COM-31). Raises ValueError saying what is wrong, never with a value."""
    address = _text(secret, "address").strip()
    if not address:
        raise ValueError("invalid proxy secret: key 'address' is missing")
    if len(address) > _PROXY_ADDRESS:
        raise ValueError(f"invalid proxy secret: 'address' is longer than {_PROXY_ADDRESS} characters")
    try:
        url = parse_url(address, ("http", "https", "socks5"))
    except UrlRefused as error:
        raise ValueError(f"invalid proxy secret: {error}") from None
    username, password = _text(secret, "username"), _text(secret, "password")
    return replace(url, username=username or url.username, password=password or url.password)


def _joined(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _authorization(secret: Mapping[str, bytes], url: RemoteUrl) -> str:
    token = _text(secret, "bearerToken")
    username, password = _text(secret, "username"), _text(secret, "password")
    if token and (url.username or url.password):
        raise ValueError("basic auth of the URL and bearerToken cannot be used together")
    if token and not username:
        return f"Bearer {token}"
    if bool(username) != bool(password):
        missing = "password" if username else "username"
        raise ValueError(f"invalid secret: '{missing}' is missing for basic auth")
    if not username:
        username, password = url.username, url.password
    if not username and not password:
        return ""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _trust(secret: Mapping[str, bytes]) -> Trust:
    ca = secret.get("ca.crt") or secret.get("caFile") or b""
    certificate = secret.get("tls.crt") or secret.get("certFile") or b""
    key = secret.get("tls.key") or secret.get("keyFile") or b""
    if bool(certificate) != bool(key):
        raise ValueError("invalid secret: 'tls.crt' and 'tls.key' must be given together")
    return Trust(ca=ca, certificate=certificate, key=key)


def _text(secret: Mapping[str, bytes], key: str) -> str:
    value = secret.get(key, b"").decode("utf-8", "replace")
    if any(ord(char) < 32 for char in value.rstrip("\r\n")):
        raise ValueError(f"invalid secret: '{key}' contains control characters")
    return value.rstrip("\r\n") if key == "bearerToken" else value
