"""With which identity, and by which way, a bucket is talked to: what the spec and the Secrets of a Bucket say.

Every Secret is read from the object's own namespace. One that is missing is retried, and its creation wakes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.api.bucket import Bucket, BucketSts
from headrace.api.meta import GENERIC
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
from headrace.core.clock import Clock
from headrace.core.duration import parse_duration
from headrace.core.egress import NO_TRUST, Egress, RemoteUrl, UrlRefused, parse_url
from headrace.core.sigv4 import AwsKeys
from headrace.identity import IdentityError, LdapLogin, NoIdentity, ServiceAccount
from headrace.identity.azure import STORAGE_SCOPE, AzureSecret
from headrace.identity.identities import Identities
from headrace.model.errors import Retry, Stalled
from headrace.model.scope import Scope
from headrace.source.access import joined, text_of
from headrace.source.bucket.azure import AzureLocation, AzureStorage, azure_endpoint
from headrace.source.bucket.gcs import GcsStorage, gcs_endpoint
from headrace.source.bucket.s3 import S3Location, S3Storage, region_of, s3_endpoint
from headrace.source.bucket.storage import ObjectStorage, Way

_S3_KEYS = ("accesskey", "secretkey")
_GCP_KEYS = ("serviceaccount",)
_AZURE_KEYS = (
    "tenantId", "clientId", "clientSecret", "clientCertificate", "clientCertificatePassword",
    "clientCertificateSendChain", "authorityHost", "accountKey", "sasKey",
)  # fmt: skip
_STS_KEYS = ("username", "password")

CREDENTIALS = keys_part("bucket-credentials", (*_S3_KEYS, *_GCP_KEYS, *_AZURE_KEYS))
STS = keys_part("bucket-sts", _STS_KEYS)


@dataclass(frozen=True, slots=True)
class Opened:
    """A bucket that can be read. `key` is equal only for equal buckets with equal identities and choice of objects."""

    storage: ObjectStorage
    key: str


@dataclass(frozen=True, slots=True)
class _Request:
    """What is known of a Bucket before its server is spoken to."""

    bucket: Bucket
    secret: Mapping[str, bytes] | None
    account: ServiceAccount | None
    way: Way

    @property
    def provider(self) -> str:
        return self.bucket.spec.provider or GENERIC

    @property
    def secret_name(self) -> str:
        return self.bucket.spec.secret_ref.name if self.bucket.spec.secret_ref else ""


class BucketAccess:
    """Opens buckets. `identities` are asked where the object brings no credentials. `key` (32 bytes) keeps names that
    are derived from credentials meaningless."""

    def __init__(
        self, egress: Egress, clock: Clock, identities: Identities, policy: WorkloadPolicy, *, key: bytes
    ) -> None:
        self._key = key
        self._egress = egress
        self._clock = clock
        self._identities = identities
        self._policy = policy

    async def open(self, bucket: Bucket, scope: Scope) -> Opened:
        """The bucket of an object. Nothing is asked of its server yet.

        Raises Retry(AuthenticationFailed), Stalled(URLInvalid, InvalidSTSConfiguration, FeatureGateDisabled).
        """
        request = await self._request(bucket, scope)
        make = {"gcp": self._gcs, "azure": self._azure}.get(request.provider, self._s3)
        try:
            storage, identity = await make(request, scope)
        except IdentityError as error:
            raise Retry(AUTHENTICATION_FAILED, str(error), condition=FETCH_FAILED) from error
        except UrlRefused as error:
            raise Stalled("URLInvalid", str(error), condition=FETCH_FAILED) from error
        except ValueError as error:
            raise not_configured(error) from error
        return Opened(storage, hashlib.blake2b(_parts(request, identity), digest_size=16, key=self._key).hexdigest())

    async def _request(self, bucket: Bucket, scope: Scope) -> _Request:
        spec, namespace = bucket.spec, bucket.metadata.namespace
        provider = spec.provider or GENERIC
        account = None
        if provider != GENERIC and spec.secret_ref is None:
            account = self._policy.account(namespace, spec.service_account_name, provider)
        secret = None
        if spec.secret_ref is not None:
            secret = await secret_data(namespace, spec.secret_ref.name, CREDENTIALS, scope)
            _keep_secret(secret)
        proxy = await read_proxy(namespace, spec.proxy_secret_ref, scope)
        trust = await read_trust(namespace, spec.cert_secret_ref, scope) or NO_TRUST
        way = Way(egress=self._egress, timeout=parse_duration(spec.timeout), trust=trust, proxy=proxy)
        return _Request(bucket, secret, account, way)

    # -- S3 --------------------------------------------------------------------------------------------------------

    async def _s3(self, request: _Request, scope: Scope) -> tuple[ObjectStorage, bytes]:
        spec = request.bucket.spec
        if spec.sts is not None:
            _check_sts(spec.sts, request.provider)
        endpoint = s3_endpoint(spec.endpoint, insecure=spec.insecure)
        keys, identity = await self._s3_keys(request, spec.region or region_of(endpoint.host), scope)
        secrecy.register(keys.secret_key if keys else "")
        location = S3Location(endpoint=endpoint, bucket=spec.bucket_name, region=spec.region)
        return S3Storage(location, keys, request.way, self._clock), identity

    async def _s3_keys(self, request: _Request, region: str, scope: Scope) -> tuple[AwsKeys | None, bytes]:
        """The keys, None for nobody's, and what tells their owner from others."""
        sts = request.bucket.spec.sts
        if request.secret is not None:
            keys = _static_keys(request.secret, request.secret_name)
            return keys, joined(keys.access_key.encode(), keys.secret_key.encode())
        if request.provider == "aws":
            keys = await self._identities.aws_keys(
                region=region, sts_endpoint=sts.endpoint if sts else "", service_account=request.account,
                proxy=request.way.proxy,
            )  # fmt: skip
            return keys, f"aws {request.account}".encode()
        if sts is None:
            return None, b""
        login = await self._login(request, sts, scope)
        return await self._identities.ldap_keys(login), login.identity

    async def _login(self, request: _Request, sts: BucketSts, scope: Scope) -> LdapLogin:
        """User and password for a token service that knows them by LDAP (SRC-BKT-10)."""
        namespace = request.bucket.metadata.namespace
        data: Mapping[str, bytes] = {}
        if sts.secret_ref is not None:
            data = await secret_data(namespace, sts.secret_ref.name, STS, scope)
            if not all(data.get(key) for key in _STS_KEYS):
                name = sts.secret_ref.name
                text = f"invalid '{name}' secret data for 'ldap' STS provider: required fields username, password"
                raise ValueError(text)
        trust = await read_trust(namespace, sts.cert_secret_ref, scope) or NO_TRUST
        endpoint = _sts_endpoint(sts.endpoint)
        secrecy.register(text_of(data, "password"))
        return LdapLogin(
            endpoint, text_of(data, "username"), text_of(data, "password"), trust=trust, proxy=request.way.proxy
        )

    # -- Google, Azure -----------------------------------------------------------------------------------------------

    async def _gcs(self, request: _Request, scope: Scope) -> tuple[ObjectStorage, bytes]:
        spec = request.bucket.spec
        endpoint = gcs_endpoint(spec.endpoint, insecure=spec.insecure)
        if request.secret is None:
            token = await self._identities.gcp_token(service_account=request.account)
            identity = f"gcp {request.account}".encode()
        else:
            key = request.secret.get("serviceaccount", b"")
            if not key:
                raise ValueError(f"invalid '{request.secret_name}' secret data: required fields 'serviceaccount'")
            token = await self._identities.gcp_key_token(key, proxy=request.way.proxy)
            identity = joined(key)
        secrecy.register(token)
        return GcsStorage(endpoint, spec.bucket_name, token, request.way), identity

    async def _azure(self, request: _Request, scope: Scope) -> tuple[ObjectStorage, bytes]:
        """An identity that gets tokens goes before the account's key, that before a signature."""
        location = AzureLocation(azure_endpoint(request.bucket.spec.endpoint), request.bucket.spec.bucket_name)
        secret = request.secret
        if secret is not None and not any(key in secret for key in _AZURE_ALONE):
            raise ValueError(f"invalid '{request.secret_name}' secret data: {_AZURE_WANTED}")
        identity = joined(*((secret or {}).get(key, b"") for key in _AZURE_KEYS))
        if secret is not None and "clientId" not in secret:
            if "accountKey" in secret:
                key = text_of(secret, "accountKey")
                return AzureStorage.with_key(location, key, request.way, self._clock), identity
            if "sasKey" in secret:
                sas = text_of(secret, "sasKey")
                return AzureStorage.with_sas(location, sas, request.way, self._clock), identity
        token = await self._azure_token(request)
        secrecy.register(token)
        identity = joined(identity, f"azure {request.account}".encode())
        return AzureStorage.with_token(location, token, request.way, self._clock), identity

    async def _azure_token(self, request: _Request) -> str:
        """That of the application which the Secret names, of the account, or of the engine; else nobody's."""
        if request.secret is not None and "clientId" in request.secret:
            named = AzureSecret.of(request.secret)
            if named.is_managed:
                self._policy.check_own_identity(request.provider)
            return await self._identities.azure_secret_token(named, STORAGE_SCOPE, proxy=request.way.proxy)
        if request.account is None:
            self._policy.check_own_identity(request.provider)
        try:
            return await self._identities.azure_token(STORAGE_SCOPE, service_account=request.account)
        except NoIdentity:
            return ""


_AZURE_ALONE = ("clientId", "accountKey", "sasKey", "authorityHost")
_AZURE_WANTED = (
    "requires a 'clientId' or 'accountKey' field, a combination of 'tenantId', 'clientId' and 'clientSecret', or "
    "'tenantId', 'clientId' and 'clientCertificate'"
)


def _static_keys(secret: Mapping[str, bytes], name: str) -> AwsKeys:
    if any(key not in secret for key in _S3_KEYS):
        raise ValueError(f"invalid '{name}' secret data: required fields 'accesskey' and 'secretkey'")
    return AwsKeys(text_of(secret, "accesskey"), text_of(secret, "secretkey"))


def _check_sts(sts: BucketSts, provider: str) -> None:
    """Raises Stalled(InvalidSTSConfiguration) for what admission lets through only without its rules (SRC-BKT-10)."""
    wanted = {"aws": "aws", GENERIC: "ldap"}.get(provider)
    reason = ""
    if sts.provider != wanted:
        reason = f"STS provider '{sts.provider}' is not supported for '{provider}' bucket provider"
    elif sts.provider == "aws" and sts.secret_ref is not None:
        reason = "spec.sts.secretRef is not required for the 'aws' STS provider"
    elif sts.provider == "aws" and sts.cert_secret_ref is not None:
        reason = "spec.sts.certSecretRef is not required for the 'aws' STS provider"
    if reason:
        raise Stalled("InvalidSTSConfiguration", reason, condition=FETCH_FAILED)


def _sts_endpoint(text: str) -> RemoteUrl:
    try:
        return parse_url(text)
    except UrlRefused as error:
        raise UrlRefused(f"failed to parse STS endpoint: {error}") from error


def _keep_secret(secret: Mapping[str, bytes]) -> None:
    """Nothing of it is to be seen in what the run says; of a signature, its parts as well (SEC-35)."""
    for key in ("secretkey", "clientSecret", "clientCertificatePassword", "accountKey", "sasKey"):
        secrecy.register(secret.get(key, b"").decode("utf-8", "replace"))
    for part in secret.get("sasKey", b"").decode("utf-8", "replace").lstrip("?").split("&"):
        name, _, value = part.partition("=")
        if name == "sig":
            secrecy.register(value)


def _parts(request: _Request, identity: bytes) -> bytes:
    """Bytes that are equal only for equal buckets, ways, choices of objects and identities. A secret."""
    spec = request.bucket.spec
    parts = (request.provider, spec.endpoint, str(spec.insecure), spec.bucket_name, spec.prefix, spec.ignore or "")
    proxy = request.way.proxy
    way = (proxy.text, proxy.username, proxy.password) if proxy else ("", "", "")
    trust = request.way.trust
    return joined(*(part.encode() for part in (*parts, *way)), trust.ca, trust.certificate, trust.key, identity)
