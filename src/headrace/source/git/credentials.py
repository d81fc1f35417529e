"""Credentials for git over HTTP and SSH out of a Secret and a URL (sources.md 2.1, SRC-GIT-19..24, SRC-COM-28..30)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.core.egress import NO_TRUST, RemoteUrl, Trust
from headrace.source.access import TLS_KEYS, joined, text_of, trust_of

SECRET_KEYS = (
    "username", "password", "bearerToken", "identity", "known_hosts", *TLS_KEYS,
    "githubAppID", "githubAppInstallationID", "githubAppInstallationOwner", "githubAppPrivateKey", "githubAppBaseURL",
)  # fmt: skip
"""What is read of a Secret; a change of anything else in it wakes nobody."""


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
        return joined(self.user.encode(), self.key, self.passphrase.encode(), self.known_hosts.encode())


@dataclass(frozen=True, slots=True)
class Credentials:
    """An identity towards a server. Equal credentials are one identity, whoever names them (SEC-49)."""

    authorization: str = field(default="", repr=False)
    trust: Trust = NO_TRUST
    ssh: SshIdentity | None = None
    proxy: RemoteUrl | None = None
    principal: bytes = field(default=b"", repr=False)
    """Whom an `authorization` stands for that is issued anew from time to time; empty when it is the identity."""

    @property
    def identity(self) -> bytes:
        """Bytes that are equal only for equal credentials. A secret."""
        ssh = self.ssh.identity if self.ssh else b""
        proxy = self.proxy
        way = joined(*(part.encode() for part in (proxy.text, proxy.username, proxy.password))) if proxy else b""
        who = joined(b"principal", self.principal) if self.principal else self.authorization.encode()
        return joined(who, self.trust.ca, self.trust.certificate, self.trust.key, ssh, way)


def http_credentials(secret: Mapping[str, bytes], url: RemoteUrl) -> Credentials:
    """Credentials for an http or https URL; `secret` is the Secret's data, decoded, empty when there is none.

    Raises ValueError saying which keys are wrong; never with a value.
    """
    if any(key.startswith("githubApp") for key in secret):
        raise ProviderMismatch("secret has github app data but provider is not set to github")
    return Credentials(_authorization(secret, url), trust_of(secret) if url.scheme == "https" else NO_TRUST)


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
        passphrase=text_of(secret, "password"),
        known_hosts=secret["known_hosts"].decode("utf-8", "replace"),
    )
    return Credentials(ssh=identity)


def _authorization(secret: Mapping[str, bytes], url: RemoteUrl) -> str:
    token = text_of(secret, "bearerToken")
    username, password = text_of(secret, "username"), text_of(secret, "password")
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
