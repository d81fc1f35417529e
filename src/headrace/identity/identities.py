"""Identities for sources: which credentials a registry, a bucket or a git server is to be shown (sources.md section 1).

Without a ServiceAccount the identity is the engine's own, as the SDKs of the clouds find it in the environment. What is
issued is kept for 80 % of its life and given only to the same account with the same annotations. An object's proxy is
used where the object names the issuer; the operator's issuers are reached by the operator's way.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Hashable, Mapping

import msgspec

from headrace.core.clock import Clock
from headrace.core.egress import Egress, EgressPolicy, RemoteUrl
from headrace.core.sigv4 import AwsKeys, git_password
from headrace.identity import aws, azure, gcp, github
from headrace.identity.accounts import Account, Accounts
from headrace.identity.cache import TokenCache
from headrace.identity.calls import Calls
from headrace.identity.values import (
    ClusterAccess,
    ClusterPlace,
    IdentityError,
    LdapLogin,
    ServiceAccount,
    Token,
    WantedCluster,
)

_METADATA_HOSTS = frozenset({
    "169.254.169.254", "fd00:ec2::254", "[fd00:ec2::254]", "169.254.170.2", "169.254.170.23", "fd00:ec2::23",
    "[fd00:ec2::23]", gcp.METADATA,
})  # fmt: skip
"""Where clouds hand out the machine's identity: open to this package's own requests only."""


def operators_policy(environment: Mapping[str, str]) -> EgressPolicy:
    """What the requests of this package may connect to: what the operator's environment names, wherever that is."""
    metadata = environment.get("GCE_METADATA_HOST", "").lower()
    return EgressPolicy(allow_loopback=True, allow_hosts=_METADATA_HOSTS | ({metadata} if metadata else set()))


class Identities:
    """Credentials by identity. All methods raise IdentityError. `operators` is a gate with `operators_policy`,
    `tenants` the one that everything passes which objects name."""

    def __init__(
        self, accounts: Accounts, operators: Egress, tenants: Egress, environment: Mapping[str, str], clock: Clock,
        cache: TokenCache,
    ) -> None:  # fmt: skip
        calls = Calls(operators, tenants)
        self._accounts = accounts
        self._clock = clock
        self._region = environment.get("AWS_REGION", "") or environment.get("AWS_DEFAULT_REGION", "")
        self.cache = cache
        self._aws = aws.Aws(calls, environment, clock)
        self._azure = azure.Azure(calls, environment, clock)
        self._gcp = gcp.Gcp(calls, environment, clock)
        self._github = github.Github(calls, clock)

    # -- for sources -----------------------------------------------------------------------------------------------

    async def registry_credentials(
        self, provider: str, registry_host: str, *, service_account: ServiceAccount | None = None,
        proxy: RemoteUrl | None = None,
    ) -> tuple[str, str]:  # fmt: skip
        """User and password for a registry of the provider; other registries are refused."""
        account = await self._account(service_account)
        key = ("registry", provider, registry_host, account and _whole(account), _way(proxy))

        async def issue() -> tuple[tuple[str, str], float]:
            user, password, expires = await self._registry_login(provider, registry_host, service_account, proxy)
            return (user, password), expires

        return await self.cache.get(key, issue)

    async def _registry_login(
        self, provider: str, host: str, service_account: ServiceAccount | None, proxy: RemoteUrl | None
    ) -> tuple[str, str, float]:
        if provider == "aws":
            region = aws.registry_region(host)
            keys = await self.aws_keys(region=region, service_account=service_account, proxy=proxy)
            return await self._aws.registry_password(host, keys)
        if provider == "azure":
            scope = azure.registry_scope(host)
            text, expires = await self._azure_token(scope, service_account)
            return await self._azure.registry_password(host, Token(text, expires), proxy)
        if provider == "gcp":
            gcp.check_registry(host)
            text, expires = await self._gcp_token(service_account)
            return gcp.REGISTRY_USER, text, expires
        raise IdentityError(f"unknown provider '{provider}'")

    async def git_credentials(
        self, provider: str, url: RemoteUrl, *, service_account: ServiceAccount | None = None,
        proxy: RemoteUrl | None = None,
    ) -> str:  # fmt: skip
        """The Authorization header for a git server (SRC-GIT-28)."""
        if provider == "azure":
            text, _ = await self._azure_token(azure.DEVOPS_SCOPE, service_account)
            return f"Bearer {text}"
        if provider != "aws":
            raise IdentityError(f"unknown provider '{provider}'")
        region = aws.code_commit_region(url)
        keys = await self.aws_keys(region=region, service_account=service_account, proxy=proxy)
        user = f"{keys.access_key}%{keys.session_token}" if keys.session_token else keys.access_key
        path = url.url.raw_path
        password = git_password(url.host, path, keys=keys, region=region, now=self._clock.now())
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    async def aws_keys(
        self, *, region: str, sts_endpoint: str = "", service_account: ServiceAccount | None = None,
        proxy: RemoteUrl | None = None,
    ) -> AwsKeys:  # fmt: skip
        """Keys of the account's role, or the engine's own. `region` is that of the service they are for."""
        found = await self._aws_keys(region, sts_endpoint, service_account, proxy)
        return found.keys

    async def _aws_keys(
        self, region: str, sts_endpoint: str, service_account: ServiceAccount | None, proxy: RemoteUrl | None
    ) -> aws.TemporaryKeys:
        account = await self._account(service_account)
        key = ("aws", region, sts_endpoint, account and _whole(account), _way(proxy))

        async def issue() -> tuple[aws.TemporaryKeys, float]:
            if account is None:
                found = await self._aws.own_keys(region, sts_endpoint)
            else:
                token = await self._accounts.token(account, aws.AUDIENCE)
                found = await self._aws.account_keys(account, token, region, sts_endpoint, proxy)
            return found, found.expires

        return await self.cache.get(key, issue)

    async def azure_token(self, scope: str, *, service_account: ServiceAccount | None = None) -> str:
        """An access token for a scope."""
        return (await self._azure_token(scope, service_account))[0]

    async def gcp_token(self, *, service_account: ServiceAccount | None = None) -> str:
        """An access token for Google Cloud."""
        return (await self._gcp_token(service_account))[0]

    # -- for clusters ------------------------------------------------------------------------------------------------

    async def cluster_access(self, wanted: WantedCluster, *, service_account: ServiceAccount) -> ClusterAccess:
        """What opens a cluster of a cloud for the identity of an account; there is none for the engine's own."""
        account = await self._accounts.get(service_account)
        key = ("cluster", wanted, _whole(account))

        async def issue() -> tuple[ClusterAccess, float]:
            token, place = await self._cluster(wanted, service_account)
            return ClusterAccess(token, place, _principal(account)), token.expires

        return await self.cache.get(key, issue)

    async def _cluster(self, wanted: WantedCluster, account: ServiceAccount) -> tuple[Token, ClusterPlace]:
        if wanted.provider == "aws":
            region, _ = aws.cluster_parts(wanted.name)
            keys = await self._aws_keys(region, "", account, None)
            place = ClusterPlace() if wanted.known else await self._aws.cluster_place(wanted.name, keys.keys)
            return self._aws.cluster_token(wanted.name, keys), place
        if wanted.provider == "azure":
            return await self._azure_cluster(wanted, account)
        if wanted.provider == "gcp":
            if not wanted.known:
                gcp.check_cluster(wanted.name)
            token = Token(*await self._gcp_token(account))
            return token, ClusterPlace() if wanted.known else await self._gcp.cluster_place(wanted.name, token)
        raise IdentityError(f"unknown provider '{wanted.provider}'")

    async def _azure_cluster(self, wanted: WantedCluster, account: ServiceAccount) -> tuple[Token, ClusterPlace]:
        place = ClusterPlace()
        if not wanted.known:
            azure.cluster_path(wanted.name)
            manager = Token(*await self._azure_token(self._azure.manager_scope, account))
            place = await self._azure.cluster_place(wanted.name, wanted.address, manager)
        return Token(*await self._azure_token(azure.CLUSTER_SCOPE, account)), place

    # -- for what Secrets name ---------------------------------------------------------------------------------------

    async def ldap_keys(self, login: LdapLogin) -> AwsKeys:
        """Keys of a token service that knows the user by LDAP."""

        async def issue() -> tuple[AwsKeys, float]:
            found = await self._aws.ldap_keys(login)
            return found.keys, found.expires

        return await self.cache.get(("ldap", _hashed(login.identity), login.trust, _way(login.proxy)), issue)

    async def azure_secret_token(
        self, secret: azure.AzureSecret, scope: str, *, proxy: RemoteUrl | None = None
    ) -> str:
        """An access token of the application, or of the managed identity, that a Secret names."""

        async def issue() -> tuple[str, float]:
            token = await self._azure.secret_token(secret, scope, proxy)
            return token.text, token.expires

        return await self.cache.get(("azure-secret", secret.identity, scope, _way(proxy)), issue)

    async def gcp_key_token(self, key: bytes, *, proxy: RemoteUrl | None = None) -> str:
        """An access token for the JSON key of a Google service account. Raises ValueError for what is none."""

        async def issue() -> tuple[str, float]:
            token = await self._gcp.key_token(key, proxy)
            return token.text, token.expires

        return await self.cache.get(("gcp-key", _hashed(key), _way(proxy)), issue)

    async def github_token(self, app: github.GithubApp) -> str:
        """A token of an installation of a GitHub App. Raises ValueError for a key that cannot be read."""

        async def issue() -> tuple[str, float]:
            token = await self._github.token(app)
            return token.text, token.expires

        return await self.cache.get(("github", app.identity, app.trust, _way(app.proxy)), issue)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _azure_token(self, scope: str, service_account: ServiceAccount | None) -> tuple[str, float]:
        account = await self._account(service_account)

        async def issue() -> tuple[tuple[str, float], float]:
            if account is None:
                token = await self._azure.own_token(scope)
            else:
                proof = await self._accounts.token(account, azure.AUDIENCE)
                token = await self._azure.account_token(account, proof, scope)
            return (token.text, token.expires), token.expires

        return await self.cache.get(("azure", scope, account and _whole(account)), issue)

    async def _gcp_token(self, service_account: ServiceAccount | None) -> tuple[str, float]:
        account = await self._account(service_account)

        async def issue() -> tuple[tuple[str, float], float]:
            if account is None:
                token = await self._gcp.own_token()
            else:
                proof = await self._accounts.token(account, await self._gcp.audience(account))
                token = await self._gcp.account_token(account, proof)
            return (token.text, token.expires), token.expires

        return await self.cache.get(("gcp", account and _whole(account)), issue)

    async def _account(self, named: ServiceAccount | None) -> Account | None:
        return None if named is None else await self._accounts.get(named)


def _whole(account: Account) -> Hashable:
    """Another object of the same name, or other annotations, are another identity (SEC-49)."""
    return account.namespace, account.name, account.uid, tuple(sorted(account.annotations.items()))


_NAMING = (
    aws.ROLE_ANNOTATION, azure.CLIENT_ANNOTATION, azure.TENANT_ANNOTATION, gcp.EMAIL_ANNOTATION,
    gcp.PROVIDER_ANNOTATION,
)  # fmt: skip


def _principal(account: Account) -> str:
    """Who an account is at clouds: of its annotations, those that say so."""
    named = [account.annotations.get(name, "") for name in _NAMING]
    return _hashed(msgspec.json.encode([account.namespace, account.name, account.uid, *named]))


def _way(proxy: RemoteUrl | None) -> str:
    return proxy.text if proxy else ""


def _hashed(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
