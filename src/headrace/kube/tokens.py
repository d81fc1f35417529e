"""Tokens of service accounts for a given audience, as the API server issues them (TokenRequest)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import msgspec

from headrace.core.clock import Clock, parse_rfc3339
from headrace.kube.client import Client
from headrace.kube.resource import Resource

ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True)

LIFETIME = 3600
"""Seconds that a token is asked for: the API server's own default."""
RENEWED_AFTER = 0.8
"""The part of a token's life after which another one is asked for."""
KEPT = 1024
"""Tokens kept; one that is not is asked for again."""


class IssuedToken(msgspec.Struct, frozen=True, gc=False):
    """A bearer token. `renew` (seconds since the epoch) is when another one should be asked for."""

    token: str
    renew: float

    def __repr__(self) -> str:
        return f"IssuedToken(renew={self.renew})"


class _Status(msgspec.Struct, rename="camel"):
    token: str
    expiration_timestamp: str


class _TokenRequest(msgspec.Struct):
    status: _Status


class ServiceAccountTokens:
    """Issues tokens with `client`, which needs the right to create `serviceaccounts/token`. A token serves all that ask
    for the same account and audiences until it has to be renewed."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._issued: OrderedDict[tuple[str, ...], IssuedToken] = OrderedDict()
        self._lock = asyncio.Lock()

    async def issue(self, namespace: str, name: str, audiences: tuple[str, ...]) -> IssuedToken:
        """A token of the account for these audiences. Raises NotFound when there is no such account, ConfigError for
        what is no name of one, Forbidden, and every other KubeError."""
        key = (namespace, name, *audiences)
        async with self._lock:
            known = self._issued.get(key)
            if known is None or self._clock.now() >= known.renew:
                known = await self._ask(namespace, name, audiences)
            self._issued[key] = known
            self._issued.move_to_end(key)
            while len(self._issued) > KEPT:
                self._issued.popitem(last=False)
            return known

    async def _ask(self, namespace: str, name: str, audiences: tuple[str, ...]) -> IssuedToken:
        body = {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": LIFETIME},
        }
        asked = self._clock.now()
        path = ACCOUNTS.object(namespace, name, "token")
        answer = await self._client.request("POST", path, body=msgspec.json.encode(body))
        status = msgspec.json.decode(answer, type=_TokenRequest).status
        life = parse_rfc3339(status.expiration_timestamp) - asked
        return IssuedToken(status.token, asked + life * RENEWED_AFTER)
