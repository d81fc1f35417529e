"""AWS: keys from the token service and from the machine, and what they give access to (ECR, CodeCommit).

The order in which the engine's own identity is looked for is that of the AWS SDKs: environment, web identity, container
credentials (EKS Pod Identity), instance metadata. Shared configuration files are not read.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from headrace.core.clock import Clock, parse_rfc3339
from headrace.core.egress import Answer, RemoteUrl
from headrace.core.sigv4 import AwsKeys, presign, sign
from headrace.core.xml import XmlRefused, parse_xml, text_at
from headrace.identity.accounts import Account
from headrace.identity.calls import Calls, Request, decoded, form, issuer_url, pem, token_file
from headrace.identity.values import ClusterPlace, IdentityError, LdapLogin, Token

AUDIENCE = "sts.amazonaws.com"
ROLE_ANNOTATION = "eks.amazonaws.com/role-arn"
PUBLIC_REGISTRY = "public.ecr.aws"
METADATA = "http://169.254.169.254"
_CONTAINER = "http://169.254.170.2"
_STS_VERSION = "2011-06-15"
_SESSION_NAME = 64
_FOREVER = 365 * 86400.0
_ROLE = re.compile(r"arn:aws[\w-]*:iam::[0-9]{1,30}:role/.{1,200}")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_STS_ENDPOINT = re.compile(r"https://(?:[A-Za-z0-9-]+\.)*sts(?:-fips)?(?:\.[a-z0-9-]+)?(?:\.vpce)?\.amazonaws\.com")
_REGISTRY = re.compile(
    r"[0-9]+\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\."
    r"(?:amazonaws\.com(?:\.cn)?|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
)
_CLUSTER = re.compile(
    r"arn:aws(?:-[a-z]{1,10}){0,3}:eks:([a-z]{2,8}(?:-[a-z]{1,16}){1,3}-[0-9]{1,2}):[0-9]{12}"
    r":cluster/([0-9A-Za-z][0-9A-Za-z_-]{0,99})"
)
"""The region becomes a part of host names, and the cluster's name of paths: neither can say more than that."""
_CLUSTER_TOKEN = "k8s-aws-v1."  # noqa: S105 - how tokens begin
_CLUSTER_HEADER = "x-k8s-aws-id"
_PRESIGNED_SECONDS = 60
_CLUSTER_TOKEN_SECONDS = 840.0
"""EKS takes a token for 15 minutes from its signing, whatever it says itself; clocks may differ by one."""
_CODE_COMMIT = re.compile(r"git-codecommit(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")


@dataclass(frozen=True, slots=True)
class TemporaryKeys:
    """Keys and when they end, in seconds since the epoch."""

    keys: AwsKeys
    expires: float


def registry_region(host: str) -> str:
    """The region of an ECR registry. Raises IdentityError for other registries."""
    if host == PUBLIC_REGISTRY:
        return "us-east-1"
    match = _REGISTRY.fullmatch(host)
    if match is None:
        raise IdentityError(f"invalid AWS registry: '{host}'. must match {_REGISTRY.pattern}")
    return match[1]


def code_commit_region(url: RemoteUrl) -> str:
    """The region of a CodeCommit repository. Raises IdentityError for other servers (SRC-GIT-28)."""
    match = _CODE_COMMIT.fullmatch(url.host)
    if match is None or url.scheme != "https":
        raise IdentityError(f"invalid AWS CodeCommit URL: '{url.text}'. must match https://{_CODE_COMMIT.pattern}")
    return match[1]


def cluster_parts(arn: str) -> tuple[str, str]:
    """Region and name of an EKS cluster. Raises IdentityError for what is not the ARN of one."""
    match = _CLUSTER.fullmatch(arn)
    if match is None:
        raise IdentityError(f"invalid EKS cluster ARN: '{arn[:253]}'. must match {_CLUSTER.pattern}")
    return match[1], match[2]


def role_of(account: Account) -> str:
    """The role of a ServiceAccount. Raises IdentityError."""
    role = account.annotations.get(ROLE_ANNOTATION, "")
    if not _ROLE.fullmatch(role):
        raise IdentityError(
            f"invalid {ROLE_ANNOTATION} annotation of service account '{account.namespace}/{account.name}': "
            f"'{role}' is no ARN of a role"
        )
    return role


class Aws:
    """The services of AWS that identities need. All methods raise IdentityError."""

    def __init__(self, calls: Calls, environment: Mapping[str, str], clock: Clock) -> None:
        self._calls = calls
        self._environment = environment
        self._clock = clock

    # -- keys ------------------------------------------------------------------------------------------------------

    async def own_keys(self, region: str, sts_endpoint: str = "") -> TemporaryKeys:
        """Those of the engine itself."""
        env = self._environment
        if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
            keys = AwsKeys(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN", ""))
            return TemporaryKeys(keys, self._clock.now() + _FOREVER)
        if env.get("AWS_ROLE_ARN") and env.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
            session = env.get("AWS_ROLE_SESSION_NAME", "") or f"headrace.{int(self._clock.now())}"
            token = token_file(env["AWS_WEB_IDENTITY_TOKEN_FILE"])
            region = env.get("AWS_REGION", "") or env.get("AWS_DEFAULT_REGION", "") or region
            return await self._assume(env["AWS_ROLE_ARN"], session[:_SESSION_NAME], token, region, sts_endpoint)
        if env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
            return await self._container_keys()
        return await self._instance_keys()

    async def account_keys(
        self, account: Account, token: str, region: str, sts_endpoint: str = "", proxy: RemoteUrl | None = None
    ) -> TemporaryKeys:
        """Those of a ServiceAccount's role, for its token."""
        if not region:
            raise IdentityError(
                "an AWS region is required for authenticating with a service account. please configure one in the "
                "object spec"
            )
        session = f"{account.name}.{account.namespace}.{region}.fluxcd.io"[:_SESSION_NAME]
        return await self._assume(role_of(account), session, token, region, sts_endpoint, proxy)

    async def _assume(
        self, role: str, session: str, token: str, region: str, endpoint: str, proxy: RemoteUrl | None = None
    ) -> TemporaryKeys:
        what = "failed to assume role with web identity"
        fields = {
            "Action": "AssumeRoleWithWebIdentity", "Version": _STS_VERSION, "RoleArn": role,
            "RoleSessionName": session, "WebIdentityToken": token,
        }  # fmt: skip
        if endpoint:
            request = form(_slash(_checked_sts_endpoint(endpoint)), fields)
            answer = await self._calls.foreign(request, what, proxy=proxy)
        else:
            answer = await self._calls.own(form(self._endpoint("STS", "sts", region), fields), what)
        return _keys_in(answer, what)

    async def ldap_keys(self, login: LdapLogin) -> TemporaryKeys:
        """Those of a user that a MinIO-like token service knows by LDAP."""
        what = "failed to assume role with LDAP identity"
        fields = {
            "Action": "AssumeRoleWithLDAPIdentity", "Version": _STS_VERSION, "LDAPUsername": login.username,
            "LDAPPassword": login.password,
        }  # fmt: skip
        request = form(_slash(login.endpoint), fields)
        return _keys_in(await self._calls.foreign(request, what, proxy=login.proxy, trust=login.trust), what)

    async def _container_keys(self) -> TemporaryKeys:
        """EKS Pod Identity and ECS: an address on the machine, with a token from a file."""
        env, what = self._environment, "failed to get container credentials"
        relative = env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
        text = f"{_CONTAINER}{relative}" if relative else env["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        token = env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        if env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            token = token_file(env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
        request = Request("GET", issuer_url(text), {"Authorization": token} if token else {})
        return _machine_keys(await self._calls.own(request, what, metadata=True), what)

    async def _instance_keys(self) -> TemporaryKeys:
        """Those of the node, from the metadata service, version 2."""
        if self._environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            raise IdentityError("no AWS credentials are found in the environment")
        base = self._environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/") or METADATA
        what = "failed to get credentials of the instance"
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
        request = Request("PUT", issuer_url(f"{base}/latest/api/token"), lifetime)
        session = await self._calls.own(request, what, metadata=True)
        headers = {"X-aws-ec2-metadata-token": session.body.decode("ascii", "replace").strip()}
        roles = f"{base}/latest/meta-data/iam/security-credentials/"
        named = await self._calls.own(Request("GET", issuer_url(roles), headers), what, metadata=True)
        role = named.body.decode("utf-8", "replace").strip().partition("\n")[0]
        return _machine_keys(
            await self._calls.own(Request("GET", issuer_url(f"{roles}{role}"), headers), what, metadata=True), what
        )

    # -- what they give access to ----------------------------------------------------------------------------------

    async def registry_password(self, host: str, keys: AwsKeys) -> tuple[str, str, float]:
        """(user, password, end) for an ECR registry."""
        region, what = registry_region(host), "failed to get ECR authorization token"
        if host == PUBLIC_REGISTRY:
            url, target = self._endpoint("ECR_PUBLIC", "api.ecr-public", region), "SpencerFrontendService"
            service = "ecr-public"
        else:
            url, target = self._endpoint("ECR", "api.ecr", region), "AmazonEC2ContainerRegistry_V20150921"
            service = "ecr"
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{target}.GetAuthorizationToken"}
        signature = sign(
            "POST", url, keys=keys, region=region, service=service, now=self._clock.now(), body=b"{}", headers=headers
        )
        answer = await self._calls.own(Request("POST", url, headers | signature, b"{}"), what)
        return _registry_login(decoded(answer, _Authorization, what), what)

    def cluster_token(self, arn: str, found: TemporaryKeys) -> Token:
        """What EKS takes for the identity of the keys: a question of who they are, which EKS has answered."""
        region, name = cluster_parts(arn)
        now = self._clock.now()
        url = presign(
            self._endpoint("STS", "sts", region), {"Action": "GetCallerIdentity", "Version": _STS_VERSION},
            keys=found.keys, region=region, service="sts", now=now, seconds=_PRESIGNED_SECONDS,
            headers={_CLUSTER_HEADER: name},
        )  # fmt: skip
        text = _CLUSTER_TOKEN + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
        return Token(text, min(now + _CLUSTER_TOKEN_SECONDS, found.expires))

    async def cluster_place(self, arn: str, keys: AwsKeys) -> ClusterPlace:
        """Where an EKS cluster is."""
        region, name = cluster_parts(arn)
        what = f"failed to describe EKS cluster '{arn}'"
        url = issuer_url(f"{self._endpoint('EKS', 'eks', region).text.rstrip('/')}/clusters/{name}")
        headers = sign("GET", url, keys=keys, region=region, service="eks", now=self._clock.now())
        found = decoded(await self._calls.own(Request("GET", url, headers), what), _Described, what).cluster
        return ClusterPlace(found.endpoint, pem(found.certificate_authority.data, what))

    def _endpoint(self, name: str, host: str, region: str) -> RemoteUrl:
        """Where a service of a region is, or what the environment says instead."""
        if not _REGION.fullmatch(region):
            raise IdentityError("AWS_REGION is not set, and the object names no region")
        named = self._environment.get(f"AWS_ENDPOINT_URL_{name}", "") or self._environment.get("AWS_ENDPOINT_URL", "")
        suffix = ".cn" if region.startswith("cn-") else ""
        return _slash(issuer_url(named or f"https://{host}.{region}.amazonaws.com{suffix}/"))


class _CertificateAuthority(msgspec.Struct, frozen=True):
    data: str


class _Cluster(msgspec.Struct, frozen=True, rename="camel"):
    endpoint: str
    certificate_authority: _CertificateAuthority


class _Described(msgspec.Struct, frozen=True):
    cluster: _Cluster


class _AuthorizationData(msgspec.Struct, frozen=True, rename="camel"):
    authorization_token: str
    expires_at: float


class _Authorization(msgspec.Struct, frozen=True, rename="camel"):
    authorization_data: list[_AuthorizationData] | _AuthorizationData


def _registry_login(answer: _Authorization, what: str) -> tuple[str, str, float]:
    data = answer.authorization_data
    found = data if isinstance(data, list) else [data]
    try:
        user, _, password = base64.b64decode(found[0].authorization_token).decode().partition(":")
    except (ValueError, IndexError):
        raise IdentityError(f"{what}: the answer is not the expected one") from None
    return user, password, found[0].expires_at


class _MachineKeys(msgspec.Struct, frozen=True, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str
    expiration: str


def _machine_keys(answer: Answer, what: str) -> TemporaryKeys:
    found = decoded(answer, _MachineKeys, what)
    return TemporaryKeys(
        AwsKeys(found.access_key_id, found.secret_access_key, found.token), parse_rfc3339(found.expiration)
    )


def _keys_in(answer: Answer, what: str) -> TemporaryKeys:
    """The credentials in an answer of the token service."""
    try:
        found = parse_xml(answer.body).find(".//Credentials")
        if found is None:
            raise IdentityError(f"{what}: the answer has no credentials")
        access, secret, session = (text_at(found, n) for n in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
        if not (access and secret):
            raise IdentityError(f"{what}: the answer has no credentials")
        return TemporaryKeys(AwsKeys(access, secret, session), parse_rfc3339(text_at(found, "Expiration")))
    except (XmlRefused, ValueError) as error:
        raise IdentityError(f"{what}: the answer is not the expected one") from error


def _checked_sts_endpoint(text: str) -> RemoteUrl:
    """An object's choice must be Amazon's: it is handed a token."""
    if not _STS_ENDPOINT.fullmatch(text.rstrip("/")):
        raise IdentityError(f"invalid STS endpoint: '{text}'. must match {_STS_ENDPOINT.pattern}")
    return issuer_url(text)


def _slash(url: RemoteUrl) -> RemoteUrl:
    return url if url.text.count("/") > 2 else issuer_url(f"{url.text}/")
