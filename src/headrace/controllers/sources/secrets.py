"""Secrets that sources name: always of the object's own namespace, decoded, and subscribed to.

One that is missing is retried, and its creation wakes. A value is registered to be redacted where it could be shown.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from headrace.api.meta import LocalObjectReference, SecretReference
from headrace.core import secrecy
from headrace.core.egress import RemoteUrl, Trust
from headrace.model.errors import Retry
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.source.access import PROXY_KEYS, TLS_KEYS, proxy_of, trust_of

Named = LocalObjectReference | SecretReference

FETCH_FAILED = "FetchFailed"
AUTHENTICATION_FAILED = "AuthenticationFailed"


def keys_part(name: str, keys: tuple[str, ...]) -> Part:
    """The part of a Secret that consists of some keys of its data; a change of another wakes nobody."""

    def extract(live: LiveObject) -> dict[str, str]:
        data = live.content().get("data") or {}
        return {key: data[key] for key in keys if key in data}

    return Part(name, extract, secret=True)


PROXY = keys_part("proxy", PROXY_KEYS)
TLS = keys_part("tls", TLS_KEYS)


async def secret_data(
    namespace: str, name: str, part: Part, scope: Scope, *, reason: str = AUTHENTICATION_FAILED,
    condition: str = FETCH_FAILED,
) -> Mapping[str, bytes]:  # fmt: skip
    """The decoded data of a Secret, as far as `part` (a `keys_part`) reads it. Raises Retry(`reason`) if missing."""
    shown = f"{namespace}/{name}"
    live = await scope.read(Reference("", "Secret", namespace, name), part)
    if live is None:
        message = f"failed to get secret '{shown}': secrets \"{name}\" not found"
        raise Retry(reason, message, condition=condition)
    encoded = part.extract(live)
    assert isinstance(encoded, dict)
    try:
        return {key: base64.b64decode(value) for key, value in encoded.items()}
    except ValueError:
        raise Retry(reason, f"secret '{shown}' cannot be decoded", condition=condition) from None


async def read_proxy(namespace: str, named: Named | None, scope: Scope) -> RemoteUrl | None:
    """The proxy of `spec.proxySecretRef`, None without one. Raises Retry(AuthenticationFailed) (SRC-COM-31)."""
    if named is None:
        return None
    data = await secret_data(namespace, named.name, PROXY, scope)
    try:
        proxy = proxy_of(data)
    except ValueError as error:
        raise not_configured(error) from error
    secrecy.register(proxy.password)
    return proxy


async def read_trust(namespace: str, named: Named | None, scope: Scope) -> Trust | None:
    """The TLS data of `spec.certSecretRef`, None without one. Raises Retry(AuthenticationFailed) (SRC-COM-28..30)."""
    if named is None:
        return None
    data = await secret_data(namespace, named.name, TLS, scope)
    try:
        trust = trust_of(data)
    except ValueError as error:
        raise not_configured(error) from error
    if not (trust.ca or trust.certificate):
        text = f"secret '{namespace}/{named.name}' has none of the keys 'ca.crt', 'tls.crt' and 'tls.key'"
        raise not_configured(text)
    return trust


def not_configured(error: Exception | str) -> Retry:
    """The StepError for a Secret whose content is of no use: cured by a change of it."""
    message = f"failed to configure authentication options: {error}"
    return Retry(AUTHENTICATION_FAILED, message, condition=FETCH_FAILED)
