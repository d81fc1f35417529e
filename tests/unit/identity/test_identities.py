"""Identities against local issuers that speak the clouds' wire protocols."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy, parse_url
from headrace.core.sigv4 import AwsKeys, git_password
from headrace.identity import IdentityError, LdapLogin, NoIdentity, ServiceAccount
from headrace.identity.accounts import Account, Accounts
from headrace.identity.azure import STORAGE_SCOPE, AzureSecret
from headrace.identity.cache import TokenCache
from headrace.identity.identities import Identities, operators_policy
from tests.manual_clock import ManualClock
from tests.servers.certificates import Authority
from tests.servers.clouds import ISSUED, Clouds, check_jwt, clouds

READER = ServiceAccount("apps", "reader")
ROLE = "arn:aws:iam::123456789012:role/reader"
REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/prov"


class OneAccount:
    """One ServiceAccount with annotations that a test chooses; its token says for whom it is."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self.annotations = dict(annotations)

    async def get(self, account: ServiceAccount) -> Account:
        return Account(namespace=account.namespace, name=account.name, uid="1", annotations=self.annotations)

    async def token(self, account: Account, audience: str) -> str:
        return f"token of {account.namespace}/{account.name} for {audience}"


@pytest.fixture
async def cloud() -> AsyncIterator[Clouds]:
    async with clouds() as running:
        yield running


@contextlib.asynccontextmanager
async def identities(
    environment: Mapping[str, str], annotations: Mapping[str, str] | None = None, *, cache: TokenCache | None = None
) -> AsyncIterator[Identities]:
    clock = SystemClock()
    operators, tenants = Egress(operators_policy(environment)), Egress(EgressPolicy(allow_loopback=True))
    accounts = cast("Accounts", OneAccount(annotations or {}))
    try:
        yield Identities(accounts, operators, tenants, environment, clock, cache or TokenCache(clock))
    finally:
        await operators.close()
        await tenants.close()


def aws_environment(cloud: Clouds) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_STS": f"{cloud.url}/sts/", "AWS_ENDPOINT_URL_ECR": f"{cloud.url}/ecr/",
        "AWS_ENDPOINT_URL_ECR_PUBLIC": f"{cloud.url}/ecr-public/",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": cloud.url,
    }  # fmt: skip


# -- AWS -----------------------------------------------------------------------------------------------------------


async def test_a_service_account_assumes_its_role_with_its_token(cloud: Clouds) -> None:
    async with identities(aws_environment(cloud), {"eks.amazonaws.com/role-arn": ROLE}) as made:
        keys = await made.aws_keys(region="eu-west-1", service_account=READER)
        assert keys == AwsKeys(*ISSUED)
        ((path, sent, _),) = cloud.asked
        assert path == "/sts/"
        assert sent == {
            "Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": ROLE,
            "RoleSessionName": "reader.apps.eu-west-1.fluxcd.io",
            "WebIdentityToken": "token of apps/reader for sts.amazonaws.com",
        }  # fmt: skip
        assert await made.aws_keys(region="eu-west-1", service_account=READER) == keys
        assert len(cloud.asked) == 1, "kept"


@pytest.mark.parametrize("host", [REGISTRY, "public.ecr.aws"])
async def test_keys_are_exchanged_for_a_registry_password_by_a_signed_request(cloud: Clouds, host: str) -> None:
    async with identities(aws_environment(cloud), {"eks.amazonaws.com/role-arn": ROLE}) as made:
        login = await made.registry_credentials("aws", host, service_account=READER)
        assert login == ("AWS", "registry-password")
        path, sent, headers = cloud.asked[-1]
        assert (path, sent) == ("/ecr/" if host == REGISTRY else "/ecr-public/", {})
        assert headers["x-amz-target"].endswith(".GetAuthorizationToken")


async def test_the_engine_finds_its_own_aws_identity_as_the_sdks_do(cloud: Clouds, tmp_path: Path) -> None:
    base, token = aws_environment(cloud), tmp_path / "token"
    token.write_text("web identity\n")
    static = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "environment-secret"}
    web = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_REGION": "eu-west-1"}
    pod = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{cloud.url}/pod-identity",
           "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token)}  # fmt: skip
    ways: list[tuple[dict[str, str], AwsKeys, str]] = [
        (static | web, AwsKeys("AKIDENV", "environment-secret"), ""),
        (web | pod, AwsKeys(*ISSUED), "/sts/"),
        (pod, AwsKeys(*ISSUED), "/pod-identity"),
        ({}, AwsKeys(*ISSUED), "/latest/meta-data/iam/security-credentials/node-role"),
    ]
    for environment, expected, last in ways:
        cloud.asked.clear()
        async with identities(base | environment) as made:
            assert await made.aws_keys(region="eu-west-1") == expected
            assert (cloud.paths() or [""])[-1] == last
    assert await _login(base | static) == ("AWS", "registry-password")


async def _login(environment: Mapping[str, str]) -> tuple[str, str]:
    async with identities(environment) as made:
        return await made.registry_credentials("aws", REGISTRY)


async def test_an_ldap_user_gets_keys(cloud: Clouds) -> None:
    async with identities({}) as made:
        login = LdapLogin(parse_url(f"{cloud.url}/sts/"), "uid=me", "ldap-password")
        assert await made.ldap_keys(login) == AwsKeys(*ISSUED)
        assert cloud.asked[0][1] == {
            "Action": "AssumeRoleWithLDAPIdentity", "Version": "2011-06-15", "LDAPUsername": "uid=me",
            "LDAPPassword": "ldap-password",
        }  # fmt: skip


@pytest.mark.parametrize("endpoint", ["https://sts.evil.com", "http://sts.amazonaws.com", "https://sts.amazonaws.com.evil.com",
                                      "https://user@sts.amazonaws.com", "http://169.254.169.254"])  # fmt: skip
async def test_a_token_goes_to_amazons_token_service_only(cloud: Clouds, endpoint: str) -> None:
    async with identities(aws_environment(cloud), {"eks.amazonaws.com/role-arn": ROLE}) as made:
        with pytest.raises(IdentityError, match="invalid STS endpoint"):
            await made.aws_keys(region="eu-west-1", sts_endpoint=endpoint, service_account=READER)
    assert cloud.asked == []


@pytest.mark.parametrize("role", ["", "reader", "arn:aws:iam::1:user/x"])
async def test_an_account_without_a_role_is_told(cloud: Clouds, role: str) -> None:
    async with identities(aws_environment(cloud), {"eks.amazonaws.com/role-arn": role} if role else {}) as made:
        with pytest.raises(IdentityError, match="is no ARN of a role"):
            await made.aws_keys(region="eu-west-1", service_account=READER)


@pytest.mark.spec("SRC-GIT-28")
@pytest.mark.parametrize("url", ["https://github.com/x", "http://git-codecommit.eu-west-1.amazonaws.com/v1/repos/x",
                                 "https://git-codecommit.eu-west-1.amazonaws.com.evil.com/v1/repos/x"])  # fmt: skip
async def test_only_code_commit_is_shown_aws_credentials(cloud: Clouds, url: str) -> None:
    async with identities(aws_environment(cloud), {"eks.amazonaws.com/role-arn": ROLE}) as made:
        with pytest.raises(IdentityError, match="invalid AWS CodeCommit URL"):
            await made.git_credentials("aws", parse_url(url), service_account=READER)


async def test_code_commit_gets_a_signed_password(cloud: Clouds) -> None:
    async with identities(aws_environment(cloud), {"eks.amazonaws.com/role-arn": ROLE}) as made:
        url = parse_url("https://git-codecommit-fips.eu-west-1.amazonaws.com/v1/repos/app")
        header = await made.git_credentials("aws", url, service_account=READER)
        user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        assert user == f"{ISSUED[0]}%{ISSUED[2]}"
        assert len(password) == len("20990101T000000Z") + 64


def test_the_code_commit_password_is_that_of_the_published_helper() -> None:
    keys = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    password = git_password(
        "git-codecommit.us-east-1.amazonaws.com", "/v1/repos/demo", keys=keys, region="us-east-1", now=1704164645.0
    )
    assert password.startswith("20240102T030405Z")
    assert len(password) == 16 + 64


# -- Azure -----------------------------------------------------------------------------------------------------------


def azure_environment(cloud: Clouds) -> dict[str, str]:
    return {"AZURE_AUTHORITY_HOST": f"{cloud.url}/", "AZURE_POD_IDENTITY_AUTHORITY_HOST": cloud.url}


ENTRA = {"azure.workload.identity/client-id": "app-1", "azure.workload.identity/tenant-id": "tenant-1"}


async def test_a_service_account_asserts_its_token_at_entra(cloud: Clouds) -> None:
    async with identities(azure_environment(cloud), ENTRA) as made:
        assert await made.azure_token(STORAGE_SCOPE, service_account=READER) == "azure of app-1"
        ((path, sent, _),) = cloud.asked
        assert path == "/tenant-1/oauth2/v2.0/token"
        assert sent["client_assertion"] == "token of apps/reader for api://AzureADTokenExchange"
        assert sent["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert sent["scope"] == STORAGE_SCOPE
        header = await made.git_credentials("azure", parse_url("https://dev.azure.com/x"), service_account=READER)
        assert header == "Bearer azure of app-1"
        assert cloud.asked[-1][1]["scope"] == "499b84ac-1321-427f-aa17-267ca6975798/.default"


async def test_the_engine_finds_its_own_azure_identity(cloud: Clouds, tmp_path: Path) -> None:
    base = azure_environment(cloud) | {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"}
    (tmp_path / "token").write_text("federated")
    async with identities(base | {"AZURE_CLIENT_SECRET": "s3cret-of-azure"}) as made:
        assert await made.azure_token(STORAGE_SCOPE) == "azure of c"
        assert cloud.asked[-1][1]["client_secret"] == "s3cret-of-azure"
    async with identities(base | {"AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token")}) as made:
        assert await made.azure_token(STORAGE_SCOPE) == "azure of c"
        assert cloud.asked[-1][1]["client_assertion"] == "federated"
    async with identities(azure_environment(cloud)) as made:
        assert await made.azure_token(STORAGE_SCOPE) == "managed machine"
        assert cloud.asked[-1][1]["resource"] == "https://storage.azure.com"


async def test_where_no_machine_answers_there_is_no_azure_identity() -> None:
    async with identities({"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1"}) as made:
        for _ in range(2):
            with pytest.raises(NoIdentity):
                await made.azure_token(STORAGE_SCOPE)


async def test_secrets_name_applications_by_secret_certificate_or_machine(cloud: Clouds) -> None:
    authority = Authority()
    host = {"authorityHost": cloud.url.encode()}
    async with identities(azure_environment(cloud)) as made:
        app = {"tenantId": b"t", "clientId": b"c"}
        token = await made.azure_secret_token(AzureSecret.of(app | host | {"clientSecret": b"hidden"}), STORAGE_SCOPE)
        assert (token, cloud.asked[-1][1]["client_secret"]) == ("azure of c", "hidden")
        certificate = cloud.pem + _certificate(cloud)
        secret = AzureSecret.of(app | host | {"clientCertificate": certificate, "clientCertificateSendChain": b"1"})
        assert await made.azure_secret_token(secret, STORAGE_SCOPE) == "azure of c"
        assertion = cloud.asked[-1][1]["client_assertion"]
        claims = check_jwt(assertion, cloud.rsa.public_key())
        assert (claims["iss"], claims["aud"]) == ("c", f"{cloud.url}/t/oauth2/v2.0/token")
        assert {"x5t", "x5c"} <= set(json.loads(base64.urlsafe_b64decode(assertion.split(".")[0] + "==")))
        assert await made.azure_secret_token(AzureSecret.of({"clientId": b"node"}), STORAGE_SCOPE) == "managed node"
    assert authority.certificate


def _certificate(cloud: Clouds) -> bytes:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(cloud.rsa.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return made.sign(cloud.rsa, hashes.SHA256()).public_bytes(Encoding.PEM)


# -- Google -----------------------------------------------------------------------------------------------------------


def gcp_environment(cloud: Clouds) -> dict[str, str]:
    return {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STS": f"{cloud.url}/", "GCE_METADATA_HOST": cloud.url.removeprefix("http://"),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS": f"{cloud.url}/",
    }  # fmt: skip


async def test_a_service_account_off_gke_is_exchanged_by_its_provider(cloud: Clouds) -> None:
    async with identities(gcp_environment(cloud), {"gcp.auth.fluxcd.io/workload-identity-provider": PROVIDER}) as made:
        assert await made.gcp_token(service_account=READER) == "gcp federated"
        ((path, sent, _),) = cloud.asked
        audience = f"//iam.googleapis.com/{PROVIDER}"
        assert (path, sent["audience"]) == ("/v1/token", audience)
        assert sent["subject_token"] == f"token of apps/reader for {audience}"
        assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"


async def test_a_service_account_on_gke_becomes_the_google_account_it_names(cloud: Clouds) -> None:
    email = "reader@proj.iam.gserviceaccount.com"
    async with identities(gcp_environment(cloud), {"iam.gke.io/gcp-service-account": email}) as made:
        login = await made.registry_credentials("gcp", "europe-docker.pkg.dev", service_account=READER)
        assert login == ("oauth2accesstoken", "gcp as account")
        exchange = next(sent for path, sent, _ in cloud.asked if path == "/v1/token")
        cluster = "https://container.googleapis.com/v1/projects/proj/locations/europe-west1/clusters/prod"
        assert exchange["audience"] == f"identitynamespace:proj.svc.id.goog:{cluster}"
        assert exchange["subject_token"] == "token of apps/reader for proj.svc.id.goog"
        assert cloud.paths()[-1] == f"/v1/projects/-/serviceAccounts/{email}:generateAccessToken"


async def test_the_engine_finds_its_own_google_identity(cloud: Clouds, tmp_path: Path) -> None:
    base = gcp_environment(cloud)
    async with identities(base) as made:
        assert await made.gcp_token() == "gcp of the machine"
    key = {"type": "service_account", "client_email": "a@b.c", "private_key": cloud.pem.decode(), "private_key_id": "k",
           "token_uri": f"{cloud.url}/token"}  # fmt: skip
    (tmp_path / "subject").write_text("subject token")
    federated = {"type": "external_account", "audience": "//x", "token_url": f"{cloud.url}/v1/token",
                 "credential_source": {"file": str(tmp_path / "subject")}}  # fmt: skip
    for content, expected in ((key, "gcp of a@b.c"), (federated, "gcp federated")):
        (tmp_path / "adc.json").write_text(json.dumps(content))
        async with identities(base | {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "adc.json")}) as made:
            assert await made.gcp_token() == expected
    async with identities({}) as made:
        assert await made.gcp_key_token(json.dumps(key).encode()) == "gcp of a@b.c"
        with pytest.raises(ValueError, match="is not the JSON key"):
            await made.gcp_key_token(b"no json")
        with pytest.raises(ValueError, match="of type 'authorized_user'"):
            await made.gcp_key_token(b'{"type": "authorized_user"}')


# -- all -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "host"), [("aws", "ghcr.io"), ("azure", "ghcr.io"), ("gcp", "ghcr.io"),
                                                ("aws", "1.dkr.ecr.eu-west-1.amazonaws.com.evil.com"),
                                                ("azure", "x.azurecr.io.evil.com"),
                                                ("gcp", "evil.com/gcr.io")])  # fmt: skip
async def test_only_registries_of_the_provider_are_shown_its_credentials(
    cloud: Clouds, provider: str, host: str
) -> None:
    async with identities(aws_environment(cloud) | azure_environment(cloud) | gcp_environment(cloud)) as made:
        with pytest.raises(IdentityError, match="registry"):
            await made.registry_credentials(provider, host)
    assert cloud.asked == []


async def test_a_refusal_is_told_without_what_was_sent(cloud: Clouds) -> None:
    cloud.fail = {"/t/oauth2/v2.0/token"}
    environment = azure_environment(cloud) | {
        "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "canary-of-azure",
    }  # fmt: skip
    async with identities(environment) as made:
        with pytest.raises(IdentityError) as caught:
            await made.azure_token(STORAGE_SCOPE)
    assert "answered 401: invalid_client you may not" in str(caught.value)
    assert "canary" not in str(caught.value)


async def test_other_annotations_are_another_identity(cloud: Clouds) -> None:
    account = OneAccount({"eks.amazonaws.com/role-arn": ROLE})
    async with identities(aws_environment(cloud)) as made:
        made._accounts = cast("Accounts", account)
        await made.aws_keys(region="eu-west-1", service_account=READER)
        account.annotations["eks.amazonaws.com/role-arn"] = ROLE + "2"
        await made.aws_keys(region="eu-west-1", service_account=READER)
    assert [sent["RoleArn"] for _, sent, _ in cloud.asked] == [ROLE, ROLE + "2"]


async def test_tokens_are_kept_for_most_of_their_life_and_no_longer_than_the_operator_says() -> None:
    clock = ManualClock()
    cache = TokenCache(clock, size=2, longest=1000.0)
    issued: list[str] = []

    async def issue() -> tuple[str, float]:
        issued.append(f"token {len(issued)}")
        return issued[-1], clock.now() + 100.0

    async def long() -> tuple[str, float]:
        issued.append("long")
        return "long", clock.now() + 1e6

    assert await cache.get("a", issue) == await cache.get("a", issue) == "token 0"
    clock.time += 79.0
    assert await cache.get("a", issue) == "token 0"
    clock.time += 2.0
    assert await cache.get("a", issue) == "token 1"
    await cache.get("b", long)
    clock.time += 1001.0
    await cache.get("b", long)
    assert issued.count("long") == 2
    await cache.get("c", issue)
    assert (len(cache), cache.evictions, cache.hits) == (2, 1, 2)
