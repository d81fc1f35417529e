"""With which identity, and by which proxy, a git server is talked to: what the Secrets of a GitRepository say.

Every Secret is read from the object's own namespace. One that is missing is retried, and its creation wakes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace

from headrace.api.gitrepository import GitRepository
from headrace.core import secrecy
from headrace.core.egress import RemoteUrl
from headrace.model.errors import Retry, Stalled
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.source.git.credentials import (
    PROXY_KEYS,
    SECRET_KEYS,
    Credentials,
    ProviderMismatch,
    http_credentials,
    proxy_of,
    ssh_credentials,
)
from headrace.source.git.errors import AUTHENTICATION_FAILED, FETCH_FAILED, refused

NOT_SUPPORTED = "NotSupported"


def _encoded(live: LiveObject, keys: tuple[str, ...]) -> dict[str, str]:
    data = live.content().get("data") or {}
    return {key: data[key] for key in keys if key in data}


CREDENTIALS = Part("git-credentials", lambda live: _encoded(live, SECRET_KEYS), secret=True)
PROXY = Part("proxy", lambda live: _encoded(live, PROXY_KEYS), secret=True)


async def credentials(repo: GitRepository, url: RemoteUrl, scope: Scope) -> Credentials:
    """The identity towards the server, and the proxy on the way to it.

    Raises Retry(AuthenticationFailed), Retry(InvalidProviderConfiguration), Stalled(NotSupported).
    """
    identity = await _identity(repo, url, scope)
    proxy = repo.spec.proxy_secret_ref
    if proxy is None:
        return identity
    data = await secret_data(repo, proxy.name, PROXY, scope)
    return replace(identity, proxy=_proxy(data, url))


async def _identity(repo: GitRepository, url: RemoteUrl, scope: Scope) -> Credentials:
    """Those of the Secret, else those of the URL."""
    data: Mapping[str, bytes] = {}
    named = repo.spec.secret_ref
    if named is not None:
        if named.namespace not in (None, "", repo.metadata.namespace):
            raise refused("spec.secretRef.namespace is not the namespace of the object", AUTHENTICATION_FAILED)
        data = await secret_data(repo, named.name, CREDENTIALS, scope)
    secrecy.register(url.password)
    make = ssh_credentials if url.scheme == "ssh" else http_credentials
    return _configured(lambda: make(data, url))


def _proxy(data: Mapping[str, bytes], url: RemoteUrl) -> RemoteUrl:
    def make() -> Credentials:
        return Credentials(proxy=proxy_of(data))

    proxy = _configured(make).proxy
    assert proxy is not None
    secrecy.register(proxy.password)
    if proxy.scheme == "socks5" or url.scheme == "ssh":
        what = "a proxy for ssh URLs" if url.scheme == "ssh" else "a proxy of scheme socks5"
        raise Stalled(NOT_SUPPORTED, f"{what} is not supported yet", condition=FETCH_FAILED)
    return proxy


def _configured(make: Callable[[], Credentials]) -> Credentials:
    try:
        return make()
    except ProviderMismatch as error:
        raise Retry("InvalidProviderConfiguration", str(error), condition=FETCH_FAILED) from error
    except ValueError as error:
        message = f"failed to configure authentication options: {error}"
        raise Retry(AUTHENTICATION_FAILED, message, condition=FETCH_FAILED) from error


async def secret_data(
    repo: GitRepository, name: str, part: Part, scope: Scope, *, reason: str = AUTHENTICATION_FAILED,
    condition: str = FETCH_FAILED,
) -> Mapping[str, bytes]:  # fmt: skip
    """The decoded data of a Secret, as far as `part` reads it. Raises Retry(`reason`) when it is missing."""
    shown = f"{repo.metadata.namespace}/{name}"
    live = await scope.read(Reference("", "Secret", repo.metadata.namespace, name), part)
    if live is None:
        message = f"failed to get secret '{shown}': secrets \"{name}\" not found"
        raise Retry(reason, message, condition=condition)
    encoded = part.extract(live)
    assert isinstance(encoded, dict)
    try:
        return {key: base64.b64decode(value) for key, value in encoded.items()}
    except ValueError:
        raise Retry(reason, f"secret '{shown}' cannot be decoded", condition=condition) from None
