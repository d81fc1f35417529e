"""What identities are asked with and what they give."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.core.egress import NO_TRUST, RemoteUrl, Trust


class IdentityError(Exception):
    """No identity can be had; the message is for users and holds no token."""


class IssuerUnreachable(IdentityError):
    """Nobody answers where identities are handed out."""


class NoIdentity(IdentityError):
    """The engine has no identity at this cloud: the environment names none, and the machine has none."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A Kubernetes ServiceAccount that an object authenticates as."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and when it ends, in seconds since the epoch."""

    text: str = field(repr=False)
    expires: float


@dataclass(frozen=True, slots=True)
class ClusterPlace:
    """Where the API server of a cloud's cluster is, and its CA in PEM, as the cloud says."""

    server: str = ""
    ca: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedCluster:
    """A cluster of a cloud by the name that the cloud has for it. Where it is, is looked up unless it is `known`; one
    that has several addresses is the one at `address`, a URL, if that is not empty."""

    provider: str
    name: str
    address: str = ""
    known: bool = False


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """What opens a cluster of a cloud. `principal` stands for who that is: another one is somebody else."""

    token: Token
    place: ClusterPlace
    principal: str


@dataclass(frozen=True, slots=True)
class LdapLogin:
    """A user of a token service that knows its users by LDAP, and the way there."""

    endpoint: RemoteUrl
    username: str
    password: str = field(repr=False)
    trust: Trust = NO_TRUST
    proxy: RemoteUrl | None = None

    @property
    def identity(self) -> bytes:
        """Bytes that are equal only for equal logins. A secret."""
        parts = (self.endpoint.text, self.username, self.password)
        return b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)
