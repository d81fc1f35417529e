"""ServiceAccounts of the cluster: their annotations say which identity is theirs, their tokens prove who they are."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from headrace.identity.values import IdentityError, ServiceAccount
from headrace.kube.client import Client
from headrace.kube.errors import KubeError
from headrace.kube.tokens import ServiceAccountTokens


class Account(msgspec.Struct, frozen=True, gc=False):
    """A ServiceAccount as it is now. `uid` tells it from a later one of the same name."""

    namespace: str
    name: str
    uid: str
    annotations: dict[str, str] = {}


class _Object(msgspec.Struct, frozen=True):
    metadata: Account


class Accounts:
    """Reads ServiceAccounts and has tokens issued for them."""

    def __init__(self, client: Client, tokens: ServiceAccountTokens) -> None:
        self._client = client
        self._tokens = tokens

    async def get(self, account: ServiceAccount) -> Account:
        """The account. Read anew each time: one that is deleted or loses its annotation must count at once.

        Raises IdentityError.
        """
        path = f"/api/v1/namespaces/{quote(account.namespace, safe='')}/serviceaccounts/{quote(account.name, safe='')}"
        try:
            return msgspec.json.decode(await self._client.request("GET", path), type=_Object).metadata
        except (KubeError, msgspec.MsgspecError) as error:
            raise IdentityError(f"failed to get service account '{account}': {error}") from error

    async def token(self, account: Account, audience: str) -> str:
        """A token of the account for one audience. Raises IdentityError."""
        try:
            issued = await self._tokens.issue(account.namespace, account.name, (audience,))
        except KubeError as error:
            text = f"failed to create kubernetes token for service account '{account.namespace}/{account.name}'"
            raise IdentityError(f"{text}: {error}") from error
        return issued.token
