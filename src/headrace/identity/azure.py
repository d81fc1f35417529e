"""Microsoft Azure: tokens of Microsoft Entra ID by client secret, certificate, federated token or managed identity,
and what they are exchanged for at a registry.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, urlsplit

import msgspec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

from headrace.core.clock import Clock
from headrace.core.documents import YamlRefused, load_document
from headrace.core.egress import Answer, RemoteUrl
from headrace.core.jwt import base64url, load_rsa_key, sign_rs256
from headrace.core.sigv4 import encoded_query
from headrace.identity.accounts import Account
from headrace.identity.calls import Calls, Request, decoded, form, issuer_url, pem, token_file
from headrace.identity.values import ClusterPlace, IdentityError, IssuerUnreachable, NoIdentity, Token

AUDIENCE = "api://AzureADTokenExchange"
CLIENT_ANNOTATION = "azure.workload.identity/client-id"
TENANT_ANNOTATION = "azure.workload.identity/tenant-id"
STORAGE_SCOPE = "https://storage.azure.com/.default"
DEVOPS_SCOPE = "499b84ac-1321-427f-aa17-267ca6975798/.default"
REGISTRY_USER = "00000000-0000-0000-0000-000000000000"
METADATA = "http://169.254.169.254"
AUTHORITY = "https://login.microsoftonline.com"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS = 600
_REGISTRY_SECONDS = 3600.0
_ABSENT_SECONDS = 300.0
_REGISTRY = re.compile(r"[A-Za-z0-9.-]+\.azurecr\.(?:io|cn|de|us)")
_ID = re.compile(r"[A-Za-z0-9.-]{1,128}")
_RESOURCE_MANAGER = "https://management.azure.com"
_RESOURCE_MANAGERS = {".cn": "https://management.chinacloudapi.cn", ".us": "https://management.usgovcloudapi.net"}
CLUSTER_SCOPE = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
"""That of the API servers of AKS, the same application for all."""
_CLUSTER_API = "2024-05-01"
_CLUSTER = re.compile(
    r"/subscriptions/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/resourceGroups/([\w().-]{0,89}[\w()-])"
    r"/providers/Microsoft\.ContainerService/managedClusters/([a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSecret:
    """An application, or a managed identity when there is no tenant, as a Secret names it."""

    tenant: str
    client: str
    secret: str = field(default="", repr=False)
    certificate: bytes = field(default=b"", repr=False)
    certificate_password: bytes = field(default=b"", repr=False)
    send_chain: bool = False
    authority: str = ""

    @classmethod
    def of(cls, data: Mapping[str, bytes]) -> AzureSecret:
        """From the data of a Secret. Raises ValueError for ids that are none."""
        text = {key: value.decode("utf-8", "replace").strip() for key, value in data.items()}
        for key in ("tenantId", "clientId"):
            if text.get(key) and not _ID.fullmatch(text[key]):
                raise ValueError(f"invalid secret: '{key}' is not an id")
        return cls(
            tenant=text.get("tenantId", ""),
            client=text.get("clientId", ""),
            secret=text.get("clientSecret", ""),
            certificate=data.get("clientCertificate", b""),
            certificate_password=data.get("clientCertificatePassword", b""),
            send_chain=text.get("clientCertificateSendChain", "").lower() in ("1", "true"),
            authority=text.get("authorityHost", ""),
        )

    @property
    def is_managed(self) -> bool:
        """Whether it names an identity of the machine, which needs no secret."""
        return not self.tenant or not (self.secret or self.certificate)

    @property
    def identity(self) -> str:
        """Equal only for equal secrets."""
        parts = (self.tenant, self.client, self.secret, self.authority, str(self.send_chain))
        encoded = b"\0".join((*(part.encode() for part in parts), self.certificate, self.certificate_password))
        return hashlib.sha256(encoded).hexdigest()


def registry_scope(host: str) -> str:
    """The scope of tokens for a container registry. Raises IdentityError for other registries."""
    if not _REGISTRY.fullmatch(host):
        raise IdentityError(f"invalid Azure registry: '{host}'. must match {_REGISTRY.pattern}")
    return _RESOURCE_MANAGERS.get(host[-3:], _RESOURCE_MANAGER) + "/.default"


def cluster_path(name: str) -> str:
    """The path of an AKS cluster at the resource manager. Raises IdentityError for what is no resource ID of one."""
    match = _CLUSTER.fullmatch(name)
    if match is None:
        raise IdentityError(f"invalid AKS cluster ID: '{name[:253]}'. must match {_CLUSTER.pattern}")
    subscription, group, cluster = match.groups()
    provider = "providers/Microsoft.ContainerService/managedClusters"
    return f"/subscriptions/{subscription}/resourceGroups/{quote(group, safe='')}/{provider}/{cluster}"


class _TokenAnswer(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: int | str = 3600


class _Refresh(msgspec.Struct, frozen=True):
    refresh_token: str


class _ManagedCluster(msgspec.Struct, frozen=True, rename="camel"):
    aad_profile: dict[str, object] | None = None


class _Described(msgspec.Struct, frozen=True):
    properties: _ManagedCluster


class _Kubeconfig(msgspec.Struct, frozen=True):
    value: str

    def __repr__(self) -> str:
        return "_Kubeconfig()"


class _Kubeconfigs(msgspec.Struct, frozen=True):
    kubeconfigs: list[_Kubeconfig]


class _Server(msgspec.Struct, frozen=True, rename="kebab"):
    server: str
    certificate_authority_data: str


class _NamedServer(msgspec.Struct, frozen=True):
    cluster: _Server


class _Servers(msgspec.Struct, frozen=True):
    """A kubeconfig without its users: they may be the cluster's administrators."""

    clusters: Annotated[list[_NamedServer], msgspec.Meta(min_length=1)]


class Azure:
    """Entra ID and what takes its tokens. All methods raise IdentityError."""

    def __init__(self, calls: Calls, environment: Mapping[str, str], clock: Clock) -> None:
        self._calls = calls
        self._environment = environment
        self._clock = clock
        self._absent_since: float | None = None

    async def own_token(self, scope: str) -> Token:
        """That of the engine itself: application of the environment, federated token, managed identity."""
        env = self._environment
        tenant, client = env.get("AZURE_TENANT_ID", ""), env.get("AZURE_CLIENT_ID", "")
        base = {"client_id": client, "scope": scope}
        if tenant and client and env.get("AZURE_CLIENT_SECRET"):
            fields = base | {"client_secret": env["AZURE_CLIENT_SECRET"]}
            return await self._ask(form(self._token_url(tenant), _grant(fields)), own=True)
        if tenant and client and env.get("AZURE_FEDERATED_TOKEN_FILE"):
            fields = base | _asserted(token_file(env["AZURE_FEDERATED_TOKEN_FILE"]))
            return await self._ask(form(self._token_url(tenant), _grant(fields)), own=True)
        return await self._machine_token(scope, client)

    async def _machine_token(self, scope: str, client: str) -> Token:
        """Raises NoIdentity where there is no metadata server; for some minutes it is not looked for again."""
        now = self._clock.monotonic()
        if self._absent_since is not None and now - self._absent_since < _ABSENT_SECONDS:
            raise NoIdentity("no Azure identity is found in the environment")
        try:
            return await self._managed(scope, client)
        except IssuerUnreachable as error:
            self._absent_since = now
            raise NoIdentity(f"no Azure identity is found in the environment; {error}") from error

    async def account_token(self, account: Account, token: str, scope: str) -> Token:
        """That of the application which trusts a ServiceAccount's token."""
        tenant, client = (self._annotation(account, name) for name in (TENANT_ANNOTATION, CLIENT_ANNOTATION))
        fields = {"client_id": client, "scope": scope} | _asserted(token)
        return await self._ask(form(self._token_url(tenant), _grant(fields)), own=True)

    async def secret_token(self, secret: AzureSecret, scope: str, proxy: RemoteUrl | None = None) -> Token:
        """That of what a Secret names. Its authority is the Secret's choice, so it passes the tenants' gate."""
        if secret.is_managed:
            return await self._managed(scope, secret.client)
        url = self._token_url(secret.tenant, secret.authority)
        fields = {"client_id": secret.client, "scope": scope}
        if secret.secret:
            fields |= {"client_secret": secret.secret}
        else:
            fields |= _asserted(_certificate_assertion(secret, url.text, self._clock.now()))
        return await self._ask(form(url, _grant(fields)), own=not secret.authority, proxy=proxy)

    async def registry_password(
        self, host: str, token: Token, proxy: RemoteUrl | None = None
    ) -> tuple[str, str, float]:
        """(user, password, end) for a container registry."""
        what = "failed to exchange the token at the registry"
        fields = {"grant_type": "access_token", "service": host, "access_token": token.text}
        request = form(issuer_url(f"https://{host}/oauth2/exchange"), fields)
        answer = await self._calls.foreign(request, what, proxy=proxy)
        return REGISTRY_USER, decoded(answer, _Refresh, what).refresh_token, self._clock.now() + _REGISTRY_SECONDS

    @property
    def manager_scope(self) -> str:
        """The scope of tokens for the resource manager of the cloud whose authority the environment names."""
        return f"{self._manager()}/.default"

    async def cluster_place(self, name: str, address: str, token: Token) -> ClusterPlace:
        """Where an AKS cluster is: at `address` if that is one of its addresses, else at the first if it is empty."""
        path, what = cluster_path(name), f"failed to describe AKS cluster '{name}'"
        described = decoded(await self._managed_cluster("GET", path, token, what), _Described, what)
        if described.properties.aad_profile is None:
            raise IdentityError(f"AKS cluster '{name}' does not have Microsoft Entra ID integration enabled")
        answer = await self._managed_cluster("POST", f"{path}/listClusterUserCredential", token, what)
        places = [_place(one.value, what) for one in decoded(answer, _Kubeconfigs, what).kubeconfigs]
        found = next((place for place in places if not address or _origin(place.server) == _origin(address)), None)
        if found is None:
            others = ", ".join(f"'{place.server}'" for place in places)
            raise IdentityError(f"{what}: it is not at the address '{address}' but at: {others or 'none'}")
        return found

    async def _managed_cluster(self, method: str, path: str, token: Token, what: str) -> Answer:
        base = self._environment.get("AZURE_RESOURCE_MANAGER_ENDPOINT", "").rstrip("/") or self._manager()
        url = issuer_url(f"{base}{path}?api-version={_CLUSTER_API}")
        return await self._calls.own(Request(method, url, {"Authorization": f"Bearer {token.text}"}), what)

    def _manager(self) -> str:
        host = urlsplit(self._environment.get("AZURE_AUTHORITY_HOST", "")).hostname or ""
        return _RESOURCE_MANAGERS.get(host[-3:], _RESOURCE_MANAGER)

    async def _ask(self, request: Request, *, own: bool, proxy: RemoteUrl | None = None) -> Token:
        what = "failed to get an access token of Microsoft Entra ID"
        answer = await (self._calls.own(request, what) if own else self._calls.foreign(request, what, proxy=proxy))
        return self._token(answer, what)

    async def _managed(self, scope: str, client: str) -> Token:
        """From the machine: the platform's identity endpoint when it says one, else the instance metadata."""
        what = "failed to get a token of the managed identity"
        resource = scope.removesuffix("/.default")
        endpoint = self._environment.get("IDENTITY_ENDPOINT", "")
        if endpoint:
            base, version = endpoint, "2019-08-01"
            headers = {"X-IDENTITY-HEADER": self._environment.get("IDENTITY_HEADER", "")}
        else:
            base = self._environment.get("AZURE_POD_IDENTITY_AUTHORITY_HOST", "").rstrip("/") or METADATA
            base, version, headers = f"{base}/metadata/identity/oauth2/token", "2018-02-01", {"Metadata": "true"}
        query = [("api-version", version), ("resource", resource)] + ([("client_id", client)] if client else [])
        request = Request("GET", issuer_url(f"{base}?{encoded_query(query)}"), headers)
        return self._token(await self._calls.own(request, what, metadata=True), what)

    def _token(self, answer: Answer, what: str) -> Token:
        found = decoded(answer, _TokenAnswer, what)
        try:
            life = float(found.expires_in)
        except ValueError:
            raise IdentityError(f"{what}: the answer is not the expected one") from None
        return Token(found.access_token, self._clock.now() + life)

    def _token_url(self, tenant: str, authority: str = "") -> RemoteUrl:
        base = authority or self._environment.get("AZURE_AUTHORITY_HOST", "") or AUTHORITY
        return issuer_url(f"{base.rstrip('/')}/{quote(tenant, safe='')}/oauth2/v2.0/token")

    def _annotation(self, account: Account, name: str) -> str:
        value = account.annotations.get(name, "")
        if not value and name == TENANT_ANNOTATION:
            value = self._environment.get("AZURE_TENANT_ID", "")
        if not _ID.fullmatch(value):
            where = f"service account '{account.namespace}/{account.name}'"
            raise IdentityError(f"azure tenant ID and client ID must be set: annotation {name} of {where} is missing")
        return value


def _place(kubeconfig: str, what: str) -> ClusterPlace:
    """The cluster of a kubeconfig in base64. Raises IdentityError, which quotes nothing of it."""
    try:
        document = load_document(base64.b64decode(kubeconfig, validate=True), aliases=False)
        found = msgspec.convert(document, type=_Servers).clusters[0].cluster
    except (ValueError, YamlRefused, msgspec.MsgspecError):
        raise IdentityError(f"{what}: the answer holds no kubeconfig") from None
    return ClusterPlace(found.server, pem(found.certificate_authority_data, what))


def _origin(server: str) -> tuple[str, int]:
    """Host and port of a URL. Raises IdentityError."""
    url = issuer_url(server)
    return url.host, url.port


def _grant(fields: dict[str, str]) -> dict[str, str]:
    return fields | {"grant_type": "client_credentials"}


def _asserted(assertion: str) -> dict[str, str]:
    return {"client_assertion_type": _ASSERTION, "client_assertion": assertion}


def _certificate_assertion(secret: AzureSecret, audience: str, now: float) -> str:
    """A statement of the application about itself, signed with the key of its certificate."""
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        key, chain = _pair(secret)
    except ValueError as error:
        raise IdentityError(f"failed to parse client certificates: {error}") from None
    leaf = chain[0]
    # The thumbprint names the certificate; SHA-1 is what the protocol asks for, nothing rests on it.
    header: dict[str, object] = {"x5t": base64url(leaf.fingerprint(SHA1())).decode()}  # noqa: S303
    if secret.send_chain:
        header["x5c"] = [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in chain]
    claims = {
        "aud": audience, "iss": secret.client, "sub": secret.client, "jti": secrets.token_hex(16),
        "nbf": int(now), "exp": int(now) + _ASSERTION_SECONDS,
    }  # fmt: skip
    return sign_rs256(claims, key, header)


def _pair(secret: AzureSecret) -> tuple[RSAPrivateKey, list[Certificate]]:
    """Key and certificates, from PEM or PKCS#12. Raises ValueError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

    password = secret.certificate_password or None
    if b"-----BEGIN" in secret.certificate:
        return load_rsa_key(secret.certificate, password), x509.load_pem_x509_certificates(secret.certificate)
    bundle = load_pkcs12(secret.certificate, password)
    if bundle.cert is None or not isinstance(bundle.key, RSAPrivateKey):
        raise ValueError("there is no certificate with an RSA key")
    return bundle.key, [bundle.cert.certificate, *(each.certificate for each in bundle.additional_certs)]
