"""Identities at the key services of clouds, got when a build turns out to need them (spec section 1.3).

Which services a repository's files name is known only when they are decrypted. Until then nobody is asked for anything;
then the build is made again with the identity of the object's account, or the engine's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from headrace.api.kustomization import Decryption
from headrace.controllers.kustomize.decryption import DecryptionPolicy
from headrace.core import secrecy
from headrace.core.sigv4 import AwsKeys
from headrace.identity import IdentityError, ServiceAccount
from headrace.model.errors import Retry
from headrace.model.scope import Scope
from headrace.render.kustomize import DecryptionKeys, IdentityWanted
from headrace.toolbox import LentIdentity, WantedIdentity

STRICT = (
    "strict tenancy lends the engine's own identity to nobody: name a spec.decryption.serviceAccountName, with the "
    "feature gate ObjectLevelWorkloadIdentity"
)

LIMIT = 16
"""Identities for one build: each costs a build more, and files may name any number of regions."""


class Issuers(Protocol):
    """The part of `identity.identities.Identities` that is used here. All raise IdentityError."""

    async def aws_keys(self, *, region: str, service_account: ServiceAccount | None = None) -> AwsKeys: ...
    async def azure_token(self, scope: str, *, service_account: ServiceAccount | None = None) -> str: ...
    async def gcp_token(self, *, service_account: ServiceAccount | None = None) -> str: ...


class KeyIdentities:
    """Lends identities to builds. Without `issuers` there are none."""

    def __init__(self, policy: DecryptionPolicy, issuers: Issuers | None) -> None:
        self._policy = policy
        self._issuers = issuers

    async def lend(
        self, keys: DecryptionKeys, failure: IdentityWanted, decryption: Decryption, scope: Scope
    ) -> DecryptionKeys:
        """The keys with the identities that a build has failed for. Issuers are waited for without a slot.

        Raises Retry(BuildFailed): the failure, and why an identity that would have helped is not to be had.
        """
        if self._issuers is None:
            raise failure
        if len(keys.values.identities) + len(failure.wanted) > LIMIT:
            raise _unhelped(failure, f"more than {LIMIT} identities would be needed")
        account = self._policy.account(decryption, scope.live.metadata.namespace)
        if account is None and not self._policy.own_identity:
            raise _unhelped(failure, STRICT)
        issuing = _issued(self._issuers, failure.wanted, account)
        try:
            issued = await scope.wait(issuing, note="issuer of identities for key services")
        except IdentityError as error:
            raise _unhelped(failure, str(error)) from error
        values = msgspec.structs.replace(keys.values, identities=(*keys.values.identities, *issued))
        return msgspec.structs.replace(keys, values=values)


async def _issued(
    issuers: Issuers, wanted: Sequence[WantedIdentity], account: ServiceAccount | None
) -> list[LentIdentity]:
    return [await _issue(issuers, one, account) for one in wanted]


async def _issue(issuers: Issuers, wanted: WantedIdentity, account: ServiceAccount | None) -> LentIdentity:
    if wanted.provider == "aws":
        keys = await issuers.aws_keys(region=wanted.scope, service_account=account)
        for secret in (keys.secret_key, keys.session_token):
            secrecy.register(secret)
        return LentIdentity(
            provider="aws", scope=wanted.scope, access_key=keys.access_key, secret_key=keys.secret_key,
            session_token=keys.session_token)
    if wanted.provider == "azure":
        token = await issuers.azure_token(wanted.scope, service_account=account)
    else:
        token = await issuers.gcp_token(service_account=account)
    secrecy.register(token)
    return LentIdentity(provider=wanted.provider, scope=wanted.scope, token=token)


def _unhelped(failure: IdentityWanted, why: str) -> Retry:
    return Retry(failure.reason, f"{failure.message}; {why}")
