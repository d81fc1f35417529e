"""Google Cloud: access tokens by workload identity federation, service account keys and the metadata server.

The engine's own identity is looked for as Application Default Credentials: the file that the environment names, then
the metadata server.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from headrace.core.clock import Clock, parse_rfc3339
from headrace.core.egress import RemoteUrl
from headrace.core.jwt import load_rsa_key, sign_rs256
from headrace.identity.accounts import Account
from headrace.identity.calls import Calls, Request, decoded, form, issuer_url, pem, token_file
from headrace.identity.values import ClusterPlace, IdentityError, Token

SCOPES = ("https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/userinfo.email")
EMAIL_ANNOTATION = "iam.gke.io/gcp-service-account"
PROVIDER_ANNOTATION = "gcp.auth.fluxcd.io/workload-identity-provider"
REGISTRY_USER = "oauth2accesstoken"
METADATA = "metadata.google.internal"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_SECONDS = 3600
_EMAIL = re.compile(r"[a-zA-Z0-9-]{1,100}@[a-zA-Z0-9-]{1,100}\.iam\.gserviceaccount\.com")
_PROVIDER = re.compile(
    r"projects/[0-9]{1,30}/locations/global/workloadIdentityPools/[^/]{1,100}/providers/[^/]{1,100}"
)
_REGISTRY = re.compile(r"(?:[A-Za-z0-9.-]+\.)?gcr\.io|[A-Za-z0-9-]+-docker\.pkg\.dev")
_CLUSTER = re.compile(
    r"projects/[a-z0-9][a-z0-9.:-]{0,99}/locations/[a-z][a-z0-9-]{0,62}/clusters/[a-z0-9][a-z0-9-]{0,62}"
)


def check_cluster(name: str) -> None:
    """Raises IdentityError for what is not the name of a GKE cluster."""
    if not _CLUSTER.fullmatch(name):
        raise IdentityError(f"invalid GKE cluster ID: '{name[:253]}'. must match {_CLUSTER.pattern}")


def check_registry(host: str) -> None:
    """Raises IdentityError for a registry that is not Google's."""
    if not _REGISTRY.fullmatch(host):
        raise IdentityError(f"invalid GCP registry: '{host}'. must match {_REGISTRY.pattern}")


class _Answer(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = 3600.0


class _Impersonated(msgspec.Struct, frozen=True, rename="camel"):
    access_token: str
    expire_time: str


class _MasterAuth(msgspec.Struct, frozen=True, rename="camel"):
    cluster_ca_certificate: str


class _Cluster(msgspec.Struct, frozen=True, rename="camel"):
    endpoint: str
    master_auth: _MasterAuth


class _Source(msgspec.Struct, frozen=True):
    """Where a federated token comes from: a file, or an address on the machine."""

    file: str = ""
    url: str = ""
    headers: dict[str, str] = {}
    format: dict[str, str] = {}


class Credentials(msgspec.Struct, frozen=True):
    """A credentials file of Google: a service account's key, a user's, or a federation."""

    type: str = ""
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""
    token_uri: str = ""
    client_id: str = ""
    client_secret: str = ""
    refresh_token: str = ""
    audience: str = ""
    subject_token_type: str = _JWT
    token_url: str = ""
    service_account_impersonation_url: str = ""
    credential_source: _Source = _Source()

    def __repr__(self) -> str:
        return f"Credentials({self.type})"


class Gcp:
    """Google's issuers of tokens. All methods raise IdentityError."""

    def __init__(self, calls: Calls, environment: Mapping[str, str], clock: Clock) -> None:
        self._calls = calls
        self._environment = environment
        self._clock = clock
        self._metadata_host = environment.get("GCE_METADATA_HOST", "") or METADATA
        self._cluster: dict[str, str] = {}

    # -- tokens ----------------------------------------------------------------------------------------------------

    async def own_token(self) -> Token:
        """That of the engine itself."""
        path = self._environment.get("GOOGLE_APPLICATION_CREDENTIALS", "")
        if not path:
            return await self._machine_token()
        what = "failed to read GOOGLE_APPLICATION_CREDENTIALS"
        try:
            content = await asyncio.to_thread(Path(path).read_bytes)
            found = msgspec.json.decode(content, type=Credentials)
        except (OSError, msgspec.MsgspecError) as error:
            raise IdentityError(f"{what}: {type(error).__name__}") from error
        if found.type == "service_account":
            return await self._signed_token(found, own=True)
        if found.type == "authorized_user":
            return await self._refreshed_token(found)
        if found.type == "external_account":
            subject = await self._subject(found.credential_source)
            url = found.service_account_impersonation_url
            return await self._federated(found.audience, subject, found.subject_token_type, url, found.token_url)
        raise IdentityError(f"{what}: type '{found.type}' is not supported")

    async def account_token(self, account: Account, token: str) -> Token:
        """That of a ServiceAccount, for its token: directly, or as the Google account that it names."""
        audience = self._provider(account)
        if not audience:
            pool = await self._pool()
            audience = f"identitynamespace:{pool}:{await self._cluster_url()}"
        email = account.annotations.get(EMAIL_ANNOTATION, "")
        if email and not _EMAIL.fullmatch(email):
            where = f"service account '{account.namespace}/{account.name}'"
            raise IdentityError(f"invalid {EMAIL_ANNOTATION} annotation of {where}: '{email}'")
        base = self._service("IAMCREDENTIALS", "iamcredentials")
        url = f"{base}/v1/projects/-/serviceAccounts/{email}:generateAccessToken" if email else ""
        return await self._federated(audience, token, _JWT, url, "")

    async def audience(self, account: Account) -> str:
        """For whom a token of a ServiceAccount must be: its provider, on GKE the pool of the cluster."""
        return self._provider(account) or await self._pool()

    async def key_token(self, key: bytes, proxy: RemoteUrl | None = None) -> Token:
        """That of a service account's key out of a Secret, whose issuer is the Secret's choice. Raises ValueError."""
        try:
            found = msgspec.json.decode(key, type=Credentials)
        except msgspec.MsgspecError:
            raise ValueError("'serviceaccount' is not the JSON key of a service account") from None
        if found.type != "service_account":
            raise ValueError(f"'serviceaccount' is of type '{found.type}', not 'service_account'")
        return await self._signed_token(found, own=False, proxy=proxy)

    async def cluster_place(self, name: str, token: Token) -> ClusterPlace:
        """Where a GKE cluster is."""
        check_cluster(name)
        what = f"failed to describe GKE cluster '{name}'"
        url = issuer_url(f"{self._service('CONTAINER', 'container')}/v1/{name}")
        request = Request("GET", url, {"Authorization": f"Bearer {token.text}"})
        found = decoded(await self._calls.own(request, what), _Cluster, what)
        return ClusterPlace(found.endpoint, pem(found.master_auth.cluster_ca_certificate, what))

    # -- how they are asked for --------------------------------------------------------------------------------------

    async def _federated(self, audience: str, subject: str, kind: str, impersonate: str, token_url: str) -> Token:
        what = "failed to exchange the token at Google"
        fields = {
            "grant_type": _EXCHANGE, "audience": audience, "scope": " ".join(SCOPES),
            "requested_token_type": _ACCESS_TOKEN, "subject_token_type": kind, "subject_token": subject,
        }  # fmt: skip
        url = issuer_url(token_url or f"{self._service('STS', 'sts')}/v1/token")
        found = decoded(await self._calls.own(form(url, fields), what), _Answer, what)
        if not impersonate:
            return Token(found.access_token, self._clock.now() + found.expires_in)
        what = "failed to generate an access token of the service account"
        headers = {"Authorization": f"Bearer {found.access_token}", "Content-Type": "application/json"}
        body = msgspec.json.encode({"scope": SCOPES, "lifetime": "3600s"})
        answer = await self._calls.own(Request("POST", issuer_url(impersonate), headers, body), what)
        as_account = decoded(answer, _Impersonated, what)
        return Token(as_account.access_token, parse_rfc3339(as_account.expire_time))

    async def _signed_token(self, found: Credentials, *, own: bool, proxy: RemoteUrl | None = None) -> Token:
        """A key signs a statement about its account, for which the issuer gives a token."""
        what = "failed to get an access token of the service account"
        now, url = int(self._clock.now()), issuer_url(found.token_uri or "https://oauth2.googleapis.com/token")
        claims = {
            "iss": found.client_email, "sub": found.client_email, "aud": url.text, "scope": " ".join(SCOPES),
            "iat": now, "exp": now + _ASSERTION_SECONDS,
        }  # fmt: skip
        assertion = sign_rs256(claims, load_rsa_key(found.private_key.encode()), {"kid": found.private_key_id})
        request = form(url, {"grant_type": _ASSERTION, "assertion": assertion})
        answer = await (self._calls.own(request, what) if own else self._calls.foreign(request, what, proxy=proxy))
        return self._token(decoded(answer, _Answer, what))

    async def _refreshed_token(self, found: Credentials) -> Token:
        what = "failed to refresh the access token"
        fields = {
            "grant_type": "refresh_token", "client_id": found.client_id, "client_secret": found.client_secret,
            "refresh_token": found.refresh_token,
        }  # fmt: skip
        url = issuer_url(found.token_uri or "https://oauth2.googleapis.com/token")
        return self._token(decoded(await self._calls.own(form(url, fields), what), _Answer, what))

    async def _machine_token(self) -> Token:
        what = "failed to get a token of the metadata server"
        body = await self._metadata("instance/service-accounts/default/token", what)
        try:
            return self._token(msgspec.json.decode(body, type=_Answer))
        except msgspec.MsgspecError:
            raise IdentityError(f"{what}: the answer is not the expected one") from None

    async def _subject(self, source: _Source) -> str:
        """The token that is exchanged, from where the operator's file says."""
        if source.file:
            text = token_file(source.file)
        else:
            what = "failed to get the subject token"
            request = Request("GET", issuer_url(source.url), source.headers)
            text = (await self._calls.own(request, what, metadata=True)).body.decode("utf-8", "replace").strip()
        if source.format.get("type") != "json":
            return text
        try:
            return str(msgspec.json.decode(text)[source.format.get("subject_token_field_name", "")])
        except (msgspec.MsgspecError, KeyError, TypeError):
            raise IdentityError("the subject token has not the form that the credentials say") from None

    # -- where we are ------------------------------------------------------------------------------------------------

    def _provider(self, account: Account) -> str:
        """The audience of an account that names a workload identity provider: then the cluster is not GKE."""
        named = account.annotations.get(PROVIDER_ANNOTATION, "")
        if named and not _PROVIDER.fullmatch(named):
            where = f"service account '{account.namespace}/{account.name}'"
            raise IdentityError(f"invalid {PROVIDER_ANNOTATION} annotation of {where}: '{named}'")
        return f"//iam.googleapis.com/{named}" if named else ""

    async def _pool(self) -> str:
        return f"{await self._attribute('project/project-id')}.svc.id.goog"

    async def _cluster_url(self) -> str:
        project = await self._attribute("project/project-id")
        location = await self._attribute("instance/attributes/cluster-location")
        name = await self._attribute("instance/attributes/cluster-name")
        return f"https://container.googleapis.com/v1/projects/{project}/locations/{location}/clusters/{name}"

    async def _attribute(self, path: str) -> str:
        """Something of the machine that never changes."""
        if path not in self._cluster:
            body = await self._metadata(path, "failed to get GKE cluster metadata")
            self._cluster[path] = body.decode("utf-8", "replace").strip()
        return self._cluster[path]

    async def _metadata(self, path: str, what: str) -> bytes:
        url = issuer_url(f"http://{self._metadata_host}/computeMetadata/v1/{path}")
        request = Request("GET", url, {"Metadata-Flavor": "Google"})
        return (await self._calls.own(request, what, metadata=True)).body

    def _service(self, name: str, host: str) -> str:
        """Where a service is: as the environment says, in the universe that it says."""
        named = self._environment.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}", "")
        universe = self._environment.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "") or "googleapis.com"
        return (named or f"https://{host}.{universe}").rstrip("/")

    def _token(self, found: _Answer) -> Token:
        return Token(found.access_token, self._clock.now() + found.expires_in)
