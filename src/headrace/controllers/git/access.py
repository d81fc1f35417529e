"""With which identity, and by which proxy, a git server is talked to: what the spec and the Secrets of a GitRepository
say.

Every Secret is read from the object's own namespace. One that is missing is retried, and its creation wakes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from headrace.api.gitrepository import GitRepository
from headrace.controllers.sources.secrets import keys_part, not_configured, read_proxy, secret_data
from headrace.controllers.workload import WorkloadPolicy
from headrace.core import secrecy
from headrace.core.egress import RemoteUrl
from headrace.identity import IdentityError
from headrace.identity.github import USER, app_of
from headrace.identity.identities import Identities
from headrace.model.errors import Retry, Stalled
from headrace.model.scope import Scope
from headrace.source.access import trust_of
from headrace.source.git.credentials import (
    SECRET_KEYS,
    Credentials,
    ProviderMismatch,
    http_credentials,
    ssh_credentials,
)
from headrace.source.git.errors import AUTHENTICATION_FAILED, FETCH_FAILED, refused

T = TypeVar("T")

NOT_SUPPORTED = "NotSupported"
INVALID_PROVIDER = "InvalidProviderConfiguration"
_NO_APP = "secretRef with github app data must be specified when provider is set to github"

CREDENTIALS = keys_part("git-credentials", SECRET_KEYS)


class GitAccess:
    """Finds out the credentials of repositories. `identities` are asked where a provider is named."""

    def __init__(self, identities: Identities | None = None, policy: WorkloadPolicy | None = None) -> None:
        self._identities = identities
        self._policy = policy or WorkloadPolicy()

    async def credentials(self, repo: GitRepository, url: RemoteUrl, scope: Scope) -> Credentials:
        """The identity towards the server, and the proxy on the way to it.

        Raises Retry(AuthenticationFailed, InvalidProviderConfiguration), Stalled(InvalidProviderConfiguration,
        FeatureGateDisabled, NotSupported).
        """
        secret = await _secret(repo, scope)
        proxy = await read_proxy(repo.metadata.namespace, repo.spec.proxy_secret_ref, scope)
        if proxy is not None and url.scheme == "ssh" and proxy.scheme == "https":
            text = "a proxy of scheme https is not supported for ssh URLs"
            raise Stalled(NOT_SUPPORTED, text, condition=FETCH_FAILED)
        secrecy.register(url.password)
        make = {"github": self._of_app, "aws": self._of_workload, "azure": self._of_workload}.get(repo.spec.provider)
        if make is None:
            return replace(_own(secret or {}, url), proxy=proxy)
        try:
            return replace(await make(repo, url, secret, proxy), proxy=proxy)
        except IdentityError as error:
            raise Retry(AUTHENTICATION_FAILED, str(error), condition=FETCH_FAILED) from error

    async def _of_app(
        self, repo: GitRepository, url: RemoteUrl, secret: Mapping[str, bytes] | None, proxy: RemoteUrl | None
    ) -> Credentials:
        """As an installation of a GitHub App (SRC-GIT-25..27)."""
        if secret is None:
            raise Stalled(INVALID_PROVIDER, _NO_APP, condition=FETCH_FAILED)
        if "githubAppID" not in secret:
            raise Retry(INVALID_PROVIDER, _NO_APP, condition=FETCH_FAILED)
        identities = self._identities_for(repo, url)
        try:
            trust = trust_of(secret)
            app = app_of(secret, trust, proxy)
            token = await identities.github_token(app)
        except ValueError as error:
            raise Retry(INVALID_PROVIDER, str(error), condition=FETCH_FAILED) from error
        secrecy.register(token)
        authorization = "Basic " + base64.b64encode(f"{USER}:{token}".encode()).decode()
        return Credentials(authorization, trust, principal=f"github {app.identity}".encode())

    async def _of_workload(
        self, repo: GitRepository, url: RemoteUrl, secret: Mapping[str, bytes] | None, proxy: RemoteUrl | None
    ) -> Credentials:
        """As a ServiceAccount, or the engine itself, at AWS or Azure. Of the Secret, only TLS data counts."""
        provider = repo.spec.provider
        account = self._policy.account(repo.metadata.namespace, repo.spec.service_account_name, provider)
        identities = self._identities_for(repo, url)
        authorization = await identities.git_credentials(provider, url, service_account=account, proxy=proxy)
        secrecy.register(authorization.partition(" ")[2])
        trust = _configured(lambda: trust_of(secret or {}))
        return Credentials(authorization, trust, principal=f"{provider} {account}".encode())

    def _identities_for(self, repo: GitRepository, url: RemoteUrl) -> Identities:
        """Raises Stalled where tokens cannot be used."""
        if self._identities is None or url.scheme == "ssh":
            text = f"provider '{repo.spec.provider}' cannot be used with this URL"
            raise Stalled(INVALID_PROVIDER, text, condition=FETCH_FAILED)
        return self._identities


async def _secret(repo: GitRepository, scope: Scope) -> Mapping[str, bytes] | None:
    named = repo.spec.secret_ref
    if named is None:
        return None
    if named.namespace not in (None, "", repo.metadata.namespace):
        raise refused("spec.secretRef.namespace is not the namespace of the object", AUTHENTICATION_FAILED)
    return await secret_data(repo.metadata.namespace, named.name, CREDENTIALS, scope)


def _own(data: Mapping[str, bytes], url: RemoteUrl) -> Credentials:
    """Those of the Secret, else those of the URL."""
    make = ssh_credentials if url.scheme == "ssh" else http_credentials
    return _configured(lambda: make(data, url))


def _configured(make: Callable[[], T]) -> T:
    try:
        return make()
    except ProviderMismatch as error:
        raise Retry(INVALID_PROVIDER, str(error), condition=FETCH_FAILED) from error
    except ValueError as error:
        raise not_configured(error) from error
