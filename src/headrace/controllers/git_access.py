"""With which identity, and by which proxy, a git server is talked to: what the Secrets of a GitRepository say.

Every Secret is read from the object's own namespace. One that is missing is retried, and its creation wakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from headrace.api.gitrepository import GitRepository
from headrace.controllers.source_secrets import keys_part, not_configured, read_proxy, secret_data
from headrace.core import secrecy
from headrace.core.egress import RemoteUrl
from headrace.model.errors import Retry, Stalled
from headrace.model.scope import Scope
from headrace.source.git.credentials import (
    SECRET_KEYS,
    Credentials,
    ProviderMismatch,
    http_credentials,
    ssh_credentials,
)
from headrace.source.git.errors import AUTHENTICATION_FAILED, FETCH_FAILED, refused

NOT_SUPPORTED = "NotSupported"


CREDENTIALS = keys_part("git-credentials", SECRET_KEYS)


async def credentials(repo: GitRepository, url: RemoteUrl, scope: Scope) -> Credentials:
    """The identity towards the server, and the proxy on the way to it.

    Raises Retry(AuthenticationFailed), Retry(InvalidProviderConfiguration), Stalled(NotSupported).
    """
    identity = await _identity(repo, url, scope)
    proxy = await read_proxy(repo.metadata.namespace, repo.spec.proxy_secret_ref, scope)
    if proxy is None:
        return identity
    if proxy.scheme == "socks5" or url.scheme == "ssh":
        what = "a proxy for ssh URLs" if url.scheme == "ssh" else "a proxy of scheme socks5"
        raise Stalled(NOT_SUPPORTED, f"{what} is not supported yet", condition=FETCH_FAILED)
    return replace(identity, proxy=proxy)


async def _identity(repo: GitRepository, url: RemoteUrl, scope: Scope) -> Credentials:
    """Those of the Secret, else those of the URL."""
    data: Mapping[str, bytes] = {}
    named = repo.spec.secret_ref
    if named is not None:
        if named.namespace not in (None, "", repo.metadata.namespace):
            raise refused("spec.secretRef.namespace is not the namespace of the object", AUTHENTICATION_FAILED)
        data = await secret_data(repo.metadata.namespace, named.name, CREDENTIALS, scope)
    secrecy.register(url.password)
    make = ssh_credentials if url.scheme == "ssh" else http_credentials
    return _configured(lambda: make(data, url))


def _configured(make: Callable[[], Credentials]) -> Credentials:
    try:
        return make()
    except ProviderMismatch as error:
        raise Retry("InvalidProviderConfiguration", str(error), condition=FETCH_FAILED) from error
    except ValueError as error:
        raise not_configured(error) from error
