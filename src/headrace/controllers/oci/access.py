"""With which identity, and by which way, a registry is talked to: what the spec and the Secrets of an object say.

Every Secret and ServiceAccount is read from the object's own namespace; a missing one is retried, and its creation
wakes. Secrets come before the identity in a cloud (SRC-OCI-17).
"""

from __future__ import annotations

from collections.abc import Mapping

from headrace.api.meta import GENERIC
from headrace.api.ocirepository import OCIRepository
from headrace.controllers.sources.registries import RegistryIdentities, identity_keychain
from headrace.controllers.sources.secrets import (
    AUTHENTICATION_FAILED,
    FETCH_FAILED,
    keys_part,
    not_configured,
    read_proxy,
    read_trust,
    secret_data,
)
from headrace.controllers.workload import WorkloadPolicy
from headrace.core import secrecy
from headrace.core.egress import NO_TRUST, RemoteUrl
from headrace.model.errors import Retry, Stalled
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.model.scope import Scope
from headrace.source.oci.credentials import CONFIG_KEYS, Access, Keychain, keychain_of
from headrace.source.oci.reference import ReferenceRefused, Repository, parse_url
from headrace.source.oci.remotes import OciRemotes, Source

INSECURE_REFUSED = "InsecureRegistry"


def _pull_secrets(live: LiveObject) -> list[str]:
    return [entry["name"] for entry in live.content().get("imagePullSecrets") or () if entry.get("name")]


CREDENTIALS = keys_part("registry-credentials", CONFIG_KEYS)
PULL_SECRETS = Part("pull-secrets", _pull_secrets)


class OciAccess:
    """Opens repositories. `identities` are asked where the object brings no credentials; without `allow_insecure`
    plain HTTP and unknown certificates are refused whatever a spec says (SEC-31)."""

    def __init__(
        self, remotes: OciRemotes, identities: RegistryIdentities, policy: WorkloadPolicy, *,
        allow_insecure: bool = True,
    ) -> None:  # fmt: skip
        self._remotes = remotes
        self._identities = identities
        self._policy = policy
        self._allow_insecure = allow_insecure

    async def open(self, repo: OCIRepository, scope: Scope) -> Source:
        """The repository of an object. Nothing is asked of the registry yet.

        Raises Retry(AuthenticationFailed), Stalled(URLInvalid, FeatureGateDisabled, InsecureRegistry).
        """
        repository = _repository(repo)
        if repo.spec.insecure and not self._allow_insecure:
            text = "spec.insecure is refused under strict tenancy"
            raise Stalled(INSECURE_REFUSED, text, condition=FETCH_FAILED)
        keychain = await self._keychain(repo, scope)
        proxy = await read_proxy(repo.metadata.namespace, repo.spec.proxy_secret_ref, scope)
        if keychain is None:
            keychain = await self._identity(repo, repository, proxy, scope)
        trust = await read_trust(repo.metadata.namespace, repo.spec.cert_secret_ref, scope) or NO_TRUST
        access = Access(keychain=keychain, trust=trust, insecure=repo.spec.insecure, proxy=proxy)
        for secret in access.credential(repository).secrets:
            secrecy.register(secret)
        return self._remotes.source(repository, access)

    async def _keychain(self, repo: OCIRepository, scope: Scope) -> Keychain | None:
        """The credentials of Secrets; None when the object names no Secret (SRC-OCI-16, SRC-OCI-18)."""
        names = [repo.spec.secret_ref.name] if repo.spec.secret_ref is not None else []
        if repo.spec.service_account_name:
            names += await _names_of_pull_secrets(repo, scope)
        if not names:
            return None
        secrets: list[Mapping[str, bytes]] = [
            await secret_data(repo.metadata.namespace, name, CREDENTIALS, scope) for name in names
        ]
        try:
            return keychain_of(secrets)
        except ValueError as error:
            raise not_configured(error) from error

    async def _identity(
        self, repo: OCIRepository, repository: Repository, proxy: RemoteUrl | None, scope: Scope
    ) -> Keychain:
        """The credentials of an identity in a cloud; nobody's for the generic provider (SRC-COM-32)."""
        provider = repo.spec.provider or GENERIC
        if provider == GENERIC:
            return Keychain()
        account = self._policy.account(repo.metadata.namespace, repo.spec.service_account_name, provider)
        return await identity_keychain(self._identities, provider, repository, scope, account=account, proxy=proxy)


def _repository(repo: OCIRepository) -> Repository:
    try:
        return parse_url(repo.spec.url)
    except ReferenceRefused as error:
        text = f"URL validation failed for '{repo.spec.url}': {error}"
        raise Stalled("URLInvalid", text, condition=FETCH_FAILED) from error


async def _names_of_pull_secrets(repo: OCIRepository, scope: Scope) -> list[str]:
    namespace, name = repo.metadata.namespace, repo.spec.service_account_name
    live = await scope.read(Reference("", "ServiceAccount", namespace, name), PULL_SECRETS)
    if live is None:
        text = f"failed to get service account '{namespace}/{name}': serviceaccounts \"{name}\" not found"
        raise Retry(AUTHENTICATION_FAILED, text, condition=FETCH_FAILED)
    return _pull_secrets(live)
