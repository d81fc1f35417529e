"""Access tokens of registries: asked for once for each repository, scope and identity, kept for 80 % of their life.

A token server gets credentials only when it belongs to the registry (SEC-30): whoever can answer for the registry
must not be able to name anybody as its token server.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from ssl import SSLContext
from urllib.parse import urlencode

import msgspec

from headrace.core import secrecy
from headrace.core.clock import Clock
from headrace.core.egress import Answer, Egress, RemoteUrl, UrlRefused, parse_url
from headrace.core.limits import MIB
from headrace.source.oci.challenge import Challenge
from headrace.source.oci.credentials import Credential
from headrace.source.oci.errors import Denied, OciError
from headrace.source.oci.reference import Repository

_TOKENS = 4096
_LIFE = 60.0
"""Seconds that a token is good for when the server does not say."""
_SHORTEST, _LONGEST = 10.0, 3600.0
_USED = 0.8
_ANSWER = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who asks for access to what, and how the token server is reached. `scope` as `repository:name:pull`."""

    registry: RemoteUrl
    repository: Repository
    scope: str
    credential: Credential
    identity: bytes
    tls: SSLContext | None
    proxy: RemoteUrl | None

    @property
    def key(self) -> bytes:
        text = f"{self.registry.origin} {self.scope}".encode()
        return hashlib.blake2b(text + b"\0" + self.identity, digest_size=16).digest()


class _Token(msgspec.Struct, frozen=True, gc=False):
    token: str = ""
    access_token: str = ""
    expires_in: float = _LIFE


class Tokens:
    """All access tokens of the engine, in memory only."""

    def __init__(self, egress: Egress, clock: Clock, *, trusted_hosts: frozenset[str] = frozenset()) -> None:
        self._egress = egress
        self._clock = clock
        self._trusted = trusted_hosts
        self._tokens: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Lock] = {}

    def known(self, asking: Asking) -> str:
        """A token that is good for a while yet, or empty."""
        token, until = self._tokens.get(asking.key, ("", 0.0))
        return token if self._clock.monotonic() < until else ""

    def forget(self, asking: Asking) -> None:
        """The registry did not take it."""
        self._tokens.pop(asking.key, None)

    async def fetch(self, asking: Asking, challenge: Challenge, timeout: float) -> str:
        """A token, from the server that the challenge names if there is none. Once at a time for the same key.

        Raises Denied, OciError, and what Egress raises.
        """
        lock = self._asking.setdefault(asking.key, asyncio.Lock())
        try:
            async with lock:
                return self.known(asking) or await self._fetch(asking, challenge, timeout)
        finally:
            if not lock.locked():
                self._asking.pop(asking.key, None)

    async def _fetch(self, asking: Asking, challenge: Challenge, timeout: float) -> str:
        realm = self._realm(asking, challenge)
        same_origin = realm.origin == asking.registry.origin
        tls = asking.tls if same_origin or realm.host == asking.registry.host else None
        asked = self._clock.monotonic()
        if asking.credential.identity_token:
            answer = await self._exchange(asking, challenge, realm, tls, timeout)
        else:
            query = urlencode(_parameters(challenge, asking))
            url = parse_url(f"{realm.text}{'&' if '?' in realm.text else '?'}{query}")
            secret = {} if asking.credential.is_anonymous else {"Authorization": asking.credential.basic}
            answer = await self._egress.request("GET", url, secret_headers=secret, tls=tls, proxy=asking.proxy,
                                                timeout=timeout, body_limit=_ANSWER)  # fmt: skip
        return self._keep(asking, realm, answer.status, answer.body, asked)

    async def _exchange(
        self, asking: Asking, challenge: Challenge, realm: RemoteUrl, tls: SSLContext | None, timeout: float
    ) -> Answer:
        form = {
            **_parameters(challenge, asking),
            "grant_type": "refresh_token",
            "refresh_token": asking.credential.identity_token,
            "client_id": "headrace",
        }
        # A body would be sent again to whoever a redirect names.
        return await self._egress.request(
            "POST", realm, headers={"Content-Type": "application/x-www-form-urlencoded"}, body=urlencode(form).encode(),
            tls=tls, proxy=asking.proxy, timeout=timeout, body_limit=_ANSWER, follow=False,
        )  # fmt: skip

    def _realm(self, asking: Asking, challenge: Challenge) -> RemoteUrl:
        try:
            realm = parse_url(challenge.realm)
        except UrlRefused as error:
            raise OciError(f"the token server of '{asking.repository.host}' is refused: {error}") from error
        if asking.registry.scheme == "https" and realm.scheme != "https":
            raise OciError(f"the token server of '{asking.repository.host}' is refused: it does not use https")
        if not asking.credential.is_anonymous and not self._belongs(realm, asking.registry):
            raise Denied(
                f"registry '{asking.repository.host}' names '{realm.host}' as its token server, which belongs to "
                "another domain: it is not given the credentials of the registry"
            )
        return realm

    def _belongs(self, realm: RemoteUrl, registry: RemoteUrl) -> bool:
        """The same host, one of the same domain by https, or one that the operator trusts."""
        if realm.host == registry.host or realm.host in self._trusted:
            return True
        return realm.scheme == "https" and _is_same_site(realm.host, registry.host)

    def _keep(self, asking: Asking, realm: RemoteUrl, status: int, body: bytes, asked: float) -> str:
        if status in (400, 401, 403):
            raise Denied(f"token server '{realm.host}' refuses access to '{asking.repository}'", status=status)
        if status != 200:
            raise OciError(f"token server '{realm.host}' answered with status {status}", status=status)
        try:
            answer = msgspec.json.decode(body, type=_Token)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise OciError(f"token server '{realm.host}' gave no token") from None
        token = answer.token or answer.access_token
        if not token or any(ord(char) <= 32 or ord(char) > 126 for char in token):
            raise OciError(f"token server '{realm.host}' gave no token")
        secrecy.register(token)
        life = min(max(answer.expires_in, _SHORTEST), _LONGEST)
        self._tokens[asking.key] = token, asked + _USED * life
        if len(self._tokens) > _TOKENS:
            self._tokens.popitem(last=False)
        return token


def _parameters(challenge: Challenge, asking: Asking) -> dict[str, str]:
    values = {"service": challenge.service, "scope": asking.scope}
    return {key: value for key, value in values.items() if value}


def _is_same_site(one: str, other: str) -> bool:
    """Whether one name is that of the other's domain or in it: gitlab.com answers for registry.gitlab.com, and
    auth.docker.io for registry-1.docker.io. A domain has two labels at least; addresses have none."""
    if one.replace(".", "").isdigit() or ":" in one:
        return False
    domain = other.partition(".")[2]
    sites = [site for site in (other, domain) if site.count(".") >= 1]
    return any(one == site or one.endswith(f".{site}") for site in sites)
