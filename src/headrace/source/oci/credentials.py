"""Credentials for registries: those of docker configs, matched by host and path as Kubernetes matches them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from headrace.core.egress import NO_TRUST, RemoteUrl, Trust
from headrace.source.access import joined
from headrace.source.ignore import Glob
from headrace.source.oci.reference import DOCKER_HUB, Repository

CONFIG_JSON = ".dockerconfigjson"
CONFIG_LEGACY = ".dockercfg"
CONFIG_KEYS = (CONFIG_JSON, CONFIG_LEGACY)
"""The keys of pull secrets; the second is the older form."""
_ENTRIES = 1000
"""Registries that one config may name."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a registry knows somebody by. `identity_token` is exchanged for access tokens, `registry_token` is one."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def is_anonymous(self) -> bool:
        return not (self.username or self.password or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of a header for basic authentication."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be taken out of everything that is said."""
        values = (self.password, self.identity_token, self.registry_token)
        return tuple(value for value in values if value)


ANONYMOUS = Credential()


@dataclass(frozen=True, slots=True)
class Keychain:
    """Credentials by the pattern of host and path that they are for, the most exact first."""

    entries: tuple[tuple[str, Credential], ...] = ()

    def find(self, repository: Repository) -> Credential:
        """The first that is for the repository; anonymous without one (SRC-OCI-16)."""
        for pattern, credential in self.entries:
            if _is_for(pattern, repository):
                return credential
        return ANONYMOUS


def keychain_of(secrets: Iterable[Mapping[str, bytes]]) -> Keychain:
    """The credentials of pull secrets' data, earlier ones first. Raises ValueError, never with a value."""
    found: list[tuple[str, Credential]] = []
    for data in secrets:
        found += sorted(_entries(data), key=lambda entry: entry[0], reverse=True)
    return Keychain(tuple(found))


def keychain_for(repository: Repository, credential: Credential) -> Keychain:
    """One credential for the host of one repository: what identities of clouds give."""
    return Keychain(((repository.host, credential),))


def _entries(data: Mapping[str, bytes]) -> list[tuple[str, Credential]]:
    if CONFIG_JSON in data:
        config = _object(data[CONFIG_JSON], CONFIG_JSON)
        auths = config.get("auths") or {}
    elif CONFIG_LEGACY in data:
        auths = _object(data[CONFIG_LEGACY], CONFIG_LEGACY)
    else:
        raise ValueError(f"invalid secret: it has no key '{CONFIG_JSON}'")
    if not isinstance(auths, dict) or len(auths) > _ENTRIES:
        raise ValueError(f"invalid secret: '{CONFIG_JSON}' has no object 'auths', or one that is too large")
    return [(_pattern(str(name)), _credential(entry)) for name, entry in auths.items()]


def _object(data: bytes, key: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"invalid secret: '{key}' is no JSON object") from None


def _credential(entry: object) -> Credential:
    if not isinstance(entry, dict):
        raise ValueError("invalid secret: an entry of 'auths' is no object")  # noqa: TRY004
    texts = {key: value for key, value in entry.items() if isinstance(value, str)}
    username, password = texts.get("username", ""), texts.get("password", "")
    if texts.get("auth") and not (username and password):
        username, password = _decoded(texts["auth"])
    made = Credential(username, password, texts.get("identitytoken", ""), texts.get("registrytoken", ""))
    if any(ord(char) < 32 for value in (username, *made.secrets) for char in value):
        raise ValueError("invalid secret: a credential contains control characters")
    return made


def _decoded(auth: str) -> tuple[str, str]:
    """User and password of the field `auth`; its padding may be missing."""
    try:
        text = base64.b64decode(auth.strip().rstrip("=") + "=" * (-len(auth.strip().rstrip("=")) % 4), validate=True)
        username, colon, password = text.decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("invalid secret: a field 'auth' cannot be decoded") from None
    if not colon:
        raise ValueError("invalid secret: a field 'auth' holds no user and password")
    return username, password.rstrip("\0")


def _pattern(name: str) -> str:
    """The registry that an entry names, without what is only there for Docker."""
    name = name.removeprefix("https://").removeprefix("http://").rstrip("/")
    for version in ("/v1", "/v2"):
        name = name.removesuffix(version)
    host, slash, path = name.partition("/")
    host = host.lower()
    return (DOCKER_HUB if host in ("docker.io", "registry-1.docker.io") else host) + slash + path


def _is_for(pattern: str, repository: Repository) -> bool:
    """Each label of the host may be a glob, the port must be the same, and the path is a prefix by segments."""
    wanted, _, prefix = pattern.partition("/")
    if prefix and not f"{repository.path}/".startswith(f"{prefix}/"):
        return False
    wanted_host, wanted_port = _split(wanted)
    host, port = _split(repository.host)
    globs, labels = wanted_host.split("."), host.split(".")
    if wanted_port != port or len(globs) != len(labels):
        return False
    return all(Glob(glob).matches(label) for glob, label in zip(globs, labels, strict=True))


def _split(host: str) -> tuple[str, str]:
    """Host and port; the colons of an IPv6 address belong to the host."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and port.isdigit() else (host, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """With which identity, and by which way, a registry is talked to."""

    keychain: Keychain = Keychain()
    trust: Trust = NO_TRUST
    insecure: bool = False
    """Plain HTTP will do, and without a `trust` any certificate (SRC-OCI-19, SRC-OCI-20)."""
    proxy: RemoteUrl | None = None

    def credential(self, repository: Repository) -> Credential:
        return self.keychain.find(repository)

    def identity(self, repository: Repository) -> bytes:
        """Equal only for those who are the same to the registry and reach it alike (SEC-49)."""
        own = self.credential(repository)
        proxy = f"{self.proxy.origin} {self.proxy.username}:{self.proxy.password}" if self.proxy else ""
        texts = (own.username, own.password, own.identity_token, own.registry_token, proxy, str(self.insecure))
        return joined(*(text.encode() for text in texts), self.trust.ca, self.trust.certificate, self.trust.key)


PLAIN = Access()
"""Anonymous, by HTTPS, with the system's CAs."""
