"""Credentials of an identity in a cloud for a registry, for all kinds that pull from one."""

from __future__ import annotations

from typing import Protocol

from headrace.controllers.sources.secrets import AUTHENTICATION_FAILED, FETCH_FAILED
from headrace.core.egress import RemoteUrl
from headrace.identity import IdentityError, ServiceAccount
from headrace.model.errors import Retry
from headrace.model.scope import Scope
from headrace.source.oci.credentials import Credential, Keychain, keychain_for
from headrace.source.oci.reference import Repository


class RegistryIdentities(Protocol):
    """The part of `identity.identities.Identities` that is used here."""

    async def registry_credentials(
        self, provider: str, registry_host: str, *, service_account: ServiceAccount | None = None,
        proxy: RemoteUrl | None = None,
    ) -> tuple[str, str]: ...  # fmt: skip


async def identity_keychain(
    identities: RegistryIdentities, provider: str, repository: Repository, scope: Scope, *,
    account: ServiceAccount | None = None, proxy: RemoteUrl | None = None, shown: str = "",
) -> Keychain:  # fmt: skip
    """The credentials that a provider gives an account, or without one the engine itself. `shown` is what messages
    call the provider. Raises Retry(AuthenticationFailed).
    """
    asking = identities.registry_credentials(provider, repository.host, service_account=account, proxy=proxy)
    try:
        username, password = await scope.wait(asking, note=f"credentials from {provider}")
    except IdentityError as error:
        text = f"failed to get credential from {shown or provider}: {error}"
        raise Retry(AUTHENTICATION_FAILED, text, condition=FETCH_FAILED) from error
    return keychain_for(repository, Credential(username, password))
