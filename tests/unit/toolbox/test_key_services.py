"""SOPS with key services: the real libraries against servers that speak the real protocols."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from headrace.toolbox import (
    BuildDecryption,
    BuildKeys,
    BuildRequest,
    KeyServices,
    LentIdentity,
    Substitute,
    Toolbox,
    ToolboxError,
    VaultLogin,
    WantedIdentity,
)
from tests.servers.certificates import Authority
from tests.servers.key_services import AwsKms, AzureKeyVault, GcpKms, Refused, Vault, serving
from tests.sops_encryption import encrypted_secret, new_data_key

SECRET = "correct-horse-battery"
ARN = "arn:aws:kms:eu-west-1:123456789012:key/612d5f0a-0000-45e6-aca6-a5b005693a48"
GCP_KEY = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
CLIENT = "22222222-2222-2222-2222-222222222222"
Tree = Callable[[Mapping[str, str]], str]


async def opened(toolbox: Toolbox, root: str, entries: Mapping[str, Any], *logins: VaultLogin) -> str:
    """The decrypted value, with these entries of the decryption Secret."""
    request = BuildRequest(root=root, decryption=BuildDecryption(secret="default/keys"))
    given = {name: (value if isinstance(value, str) else json.dumps(value)).encode() for name, value in entries.items()}
    built = await toolbox.build(request, keys=BuildKeys(entries=given, logins=logins))
    secret = json.loads(built.json(built.objects[0]))
    assert "sops" not in secret
    return base64.b64decode(secret["data"]["password"]).decode()


async def refused(toolbox: Toolbox, root: str, entries: Mapping[str, Any], *logins: VaultLogin) -> str:
    with pytest.raises(ToolboxError) as caught:
        await opened(toolbox, root, entries, *logins)
    assert caught.value.code == "BuildFailed"
    return caught.value.message


async def opened_as(toolbox: Toolbox, root: str, lent: LentIdentity) -> str:
    """The decrypted value, shown an identity that the build has asked for."""
    request = BuildRequest(root=root, decryption=BuildDecryption())
    with pytest.raises(ToolboxError, match="there are no credentials|key services are not called") as caught:
        await toolbox.build(request, keys=BuildKeys())
    assert caught.value.identities == (WantedIdentity(lent.provider, lent.scope),)
    built = await toolbox.build(request, keys=BuildKeys(identities=[lent]))
    return base64.b64decode(json.loads(built.json(built.objects[0]))["data"]["password"]).decode()


# -- AWS ---------------------------------------------------------------------------------------------------------------

AWS_ACCOUNT = {
    "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG",
    "aws_session_token": "session",
}


@pytest_asyncio.fixture
async def aws(binary: Path) -> AsyncIterator[tuple[AwsKms, Toolbox]]:
    service = AwsKms({"AKIAIOSFODNN7EXAMPLE": ("wJalrXUtnFEMI/K7MDENG", "session")})
    async with serving(service) as port:
        services = KeyServices(aws_kms_endpoint=f"http://127.0.0.1:{port}", allow_hosts=[f"127.0.0.1:{port}"])
        async with Toolbox(binary, size=1, key_services=services) as toolbox:
            yield service, toolbox


def in_aws(service: AwsKms) -> str:
    key = new_data_key()
    return encrypted_secret(key, "s", {"password": SECRET}, kms=[{"arn": ARN, "enc": service.encrypt(ARN, key)}])


@pytest.mark.spec("KS-SOPS-03")
async def test_a_data_key_is_opened_by_aws_kms_in_its_encryption_context(
    aws: tuple[AwsKms, Toolbox], tree: Tree
) -> None:
    service, toolbox = aws
    key, context = new_data_key(), {"team": "a", "stage": "test"}
    entry = {"arn": ARN, "enc": service.encrypt(ARN, key, context), "context": context, "aws_profile": "of-the-machine"}
    root = tree({"s.yaml": encrypted_secret(key, "s", {"password": SECRET}, kms=[entry])})
    assert await opened(toolbox, root, {"sops.aws-kms": AWS_ACCOUNT}) == SECRET
    assert service.asked == ["AKIAIOSFODNN7EXAMPLE"]


@pytest.mark.spec("KS-SOPS-03")
async def test_aws_kms_refuses_a_wrong_secret_key_which_is_not_told(aws: tuple[AwsKms, Toolbox], tree: Tree) -> None:
    service, toolbox = aws
    root = tree({"s.yaml": in_aws(service)})
    told = await refused(toolbox, root, {"sops.aws-kms": AWS_ACCOUNT | {"aws_secret_access_key": "another-secret-key"}})
    assert "InvalidSignatureException" in told
    assert "another-secret-key" not in told


@pytest.mark.spec("SEC-48")
async def test_credentials_of_the_machine_are_never_used(
    aws: tuple[AwsKms, Toolbox], tree: Tree, monkeypatch: pytest.MonkeyPatch, binary: Path
) -> None:
    service, toolbox = aws
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("VAULT_TOKEN", "of-the-machine")
    root = tree({"s.yaml": in_aws(service)})
    assert "there are no credentials for AWS KMS" in await refused(toolbox, root, {"sops.vault-token": "t"})
    assert "key services are not called" in await refused(toolbox, root, {})
    assert not service.asked


async def test_aws_kms_knows_an_identity_that_was_lent_for_its_region(
    aws: tuple[AwsKms, Toolbox], tree: Tree
) -> None:
    service, toolbox = aws
    root = tree({"s.yaml": in_aws(service)})
    access_key, secret_key, session_token = AWS_ACCOUNT.values()
    lent = LentIdentity(
        provider="aws", scope="eu-west-1", access_key=access_key, secret_key=secret_key, session_token=session_token
    )
    assert await opened_as(toolbox, root, lent) == SECRET
    assert service.asked == [access_key]


async def test_credentials_of_the_secret_go_before_an_identity_and_none_is_asked_for(
    aws: tuple[AwsKms, Toolbox], tree: Tree
) -> None:
    service, toolbox = aws
    root = tree({"s.yaml": in_aws(service)})
    request = BuildRequest(root=root, decryption=BuildDecryption())
    wrong = json.dumps(AWS_ACCOUNT | {"aws_secret_access_key": "another-secret-key"}).encode()
    lent = LentIdentity(provider="aws", scope="eu-west-1", access_key="LENT", secret_key="lent")
    with pytest.raises(ToolboxError) as caught:
        await toolbox.build(request, keys=BuildKeys(entries={"sops.aws-kms": wrong}, identities=[lent]))
    assert caught.value.identities == ()
    assert service.asked == ["AKIAIOSFODNN7EXAMPLE"]


# -- Azure -------------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def azure(binary: Path, tmp_path: Path) -> AsyncIterator[tuple[AzureKeyVault, Toolbox]]:
    authority, folder = Authority(), tmp_path / "tls"
    folder.mkdir()
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    service = AzureKeyVault(secrets={CLIENT: "client-secret"})
    async with serving(service, authority.server_context(folder, "127.0.0.1")) as service.port:
        services = KeyServices(allow_hosts=["127.0.0.1"], ca_file=str(tmp_path / "ca.pem"))
        async with Toolbox(binary, size=1, key_services=services) as toolbox:
            yield service, toolbox


def in_key_vault(service: AzureKeyVault) -> str:
    key = new_data_key()
    entry = {"vault_url": service.url, "name": "sops", "version": "1", "enc": service.encrypt("sops", "1", key)}
    return encrypted_secret(key, "s", {"password": SECRET}, azure_kv=[entry])


@pytest.mark.spec("KS-SOPS-03")
async def test_a_data_key_is_opened_by_azure_key_vault_for_a_client_secret_in_either_form(
    azure: tuple[AzureKeyVault, Toolbox], tree: Tree
) -> None:
    service, toolbox = azure
    root, where = tree({"s.yaml": in_key_vault(service)}), {"authorityHost": service.url}
    new = {"tenantId": service.tenant, "clientId": CLIENT, "clientSecret": "client-secret"} | where
    assert await opened(toolbox, root, {"sops.azure-kv": new}) == SECRET
    old = {"tenant": service.tenant, "appId": CLIENT, "password": "client-secret"} | where
    assert await opened(toolbox, root, {"sops.azure-kv": old}) == SECRET
    told = await refused(toolbox, root, {"sops.azure-kv": new | {"clientSecret": "wrong-client-secret"}})
    assert "invalid_client" in told
    assert "wrong-client-secret" not in told


@pytest.mark.spec("KS-SOPS-03")
async def test_azure_key_vault_is_opened_with_a_certificate(azure: tuple[AzureKeyVault, Toolbox], tree: Tree) -> None:
    service, toolbox = azure
    certificate, service.certificates[CLIENT] = client_certificate()
    account = {
        "tenantId": service.tenant,
        "clientId": CLIENT,
        "clientCertificate": certificate,
        "authorityHost": service.url,
    }
    assert await opened(toolbox, tree({"s.yaml": in_key_vault(service)}), {"sops.azure-kv": account}) == SECRET


def client_certificate() -> tuple[str, rsa.RSAPublicKey]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today)
        .not_valid_after(today + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (certificate.public_bytes(serialization.Encoding.PEM) + pem).decode(), key.public_key()


async def test_the_managed_identity_of_the_machine_is_nobodys(azure: tuple[AzureKeyVault, Toolbox], tree: Tree) -> None:
    service, toolbox = azure
    told = await refused(toolbox, tree({"s.yaml": in_key_vault(service)}), {"sops.azure-kv": {"clientId": CLIENT}})
    assert "a managed identity is that of the engine's machine" in told


def lent_at(service: AzureKeyVault) -> LentIdentity:
    """The vault's service is named as its URL without the first part."""
    return LentIdentity(provider="azure", scope=f"https://0.0.1:{service.port}/.default", token=service.issue())


async def test_azure_key_vault_knows_a_token_that_was_lent_for_its_service(
    azure: tuple[AzureKeyVault, Toolbox], tree: Tree
) -> None:
    service, toolbox = azure
    assert await opened_as(toolbox, tree({"s.yaml": in_key_vault(service)}), lent_at(service)) == SECRET


async def test_a_vault_that_asks_for_a_token_for_something_else_is_shown_none(
    azure: tuple[AzureKeyVault, Toolbox], tree: Tree
) -> None:
    service, toolbox = azure
    service.resource = f"https://0.1:{service.port}"
    keys = BuildKeys(identities=[lent_at(service)])
    request = BuildRequest(root=tree({"s.yaml": in_key_vault(service)}), decryption=BuildDecryption())
    with pytest.raises(ToolboxError, match="asks for a token that is not for its own service"):
        await toolbox.build(request, keys=keys)
    assert set(service.shown) == {""}


# -- Google ------------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def gcp(binary: Path) -> AsyncIterator[tuple[GcpKms, Toolbox]]:
    service = GcpKms()
    async with serving(service) as service.port:
        services = KeyServices(gcp_kms_endpoint=service.url, allow_hosts=[f"127.0.0.1:{service.port}"])
        async with Toolbox(binary, size=1, key_services=services) as toolbox:
            yield service, toolbox


def in_gcp(service: GcpKms) -> str:
    key = new_data_key()
    entry = {"resource_id": GCP_KEY, "enc": service.encrypt(GCP_KEY, key)}
    return encrypted_secret(key, "s", {"password": SECRET}, gcp_kms=[entry])


@pytest.mark.spec("KS-SOPS-03")
async def test_a_data_key_is_opened_by_gcp_kms_for_a_service_account(gcp: tuple[GcpKms, Toolbox], tree: Tree) -> None:
    service, toolbox = gcp
    root = tree({"s.yaml": in_gcp(service)})
    account = service.account()
    assert await opened(toolbox, root, {"sops.gcp-kms": account}) == SECRET
    stranger = GcpKms(port=service.port).account(account["client_email"])
    told = await refused(toolbox, root, {"sops.gcp-kms": stranger})
    assert "invalid_grant" in told
    assert "PRIVATE KEY" not in told


@pytest.mark.parametrize(
    "account",
    [
        {"type": "external_account", "credential_source": {"file": "/etc/hostname"}},
        {"type": "external_account", "credential_source": {"executable": {"command": "/bin/true"}}},
        {"type": "authorized_user", "refresh_token": "t"},
    ],
    ids=["file", "program", "user"],
)
@pytest.mark.spec("SEC-48")
async def test_credentials_that_name_something_of_the_machine_are_refused(
    gcp: tuple[GcpKms, Toolbox], tree: Tree, account: dict[str, Any]
) -> None:
    service, toolbox = gcp
    told = await refused(toolbox, tree({"s.yaml": in_gcp(service)}), {"sops.gcp-kms": account})
    assert "is no key of a service account" in told


async def test_gcp_kms_knows_a_token_that_was_lent(gcp: tuple[GcpKms, Toolbox], tree: Tree) -> None:
    service, toolbox = gcp
    lent = LentIdentity(provider="gcp", token=service.issue())
    assert await opened_as(toolbox, tree({"s.yaml": in_gcp(service)}), lent) == SECRET


async def test_no_identity_is_asked_for_where_another_key_has_served_and_something_else_fails(
    gcp: tuple[GcpKms, Toolbox], tree: Tree
) -> None:
    service, toolbox = gcp
    key, kms = new_data_key(), AwsKms()
    recipients = {
        "kms": [{"arn": ARN, "enc": kms.encrypt(ARN, key)}],
        "gcp_kms": [{"resource_id": GCP_KEY, "enc": service.encrypt(GCP_KEY, key)}],
    }
    secret = json.loads(encrypted_secret(key, "s", {"password": SECRET}, **recipients))
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "${missing}"}}
    root = tree({"s.yaml": json.dumps(secret), "z.yaml": json.dumps(other)})
    request = BuildRequest(root=root, decryption=BuildDecryption(), substitute=Substitute(always=True))
    keys = BuildKeys(entries={"sops.gcp-kms": json.dumps(service.account()).encode()})
    with pytest.raises(ToolboxError, match="missing") as caught:
        await toolbox.build(request, keys=keys)
    assert caught.value.identities == ()


# -- Vault -------------------------------------------------------------------------------------------------------------


async def review(jwt: str, audience: str) -> str:
    """Whose the token is; the real review is that of a real API server, in tests/cluster."""
    if jwt != f"token for {audience}":
        raise Refused("no such token")
    return "system:serviceaccount:tenant:decrypter"


@pytest_asyncio.fixture
async def vault(binary: Path) -> AsyncIterator[tuple[Vault, Toolbox]]:
    roles = {"tenant_decrypter": "system:serviceaccount:tenant:decrypter"}
    service = Vault(tokens={"hvs.static"}, roles=roles, reviewer=review)
    async with serving(service) as service.port:
        services = KeyServices(allow_hosts=[f"127.0.0.1:{service.port}"])
        async with Toolbox(binary, size=1, key_services=services) as toolbox:
            yield service, toolbox


def in_vault(service: Vault) -> str:
    key = new_data_key()
    entry = {
        "vault_address": service.url,
        "engine_path": "transit",
        "key_name": "sops",
        "enc": service.encrypt("sops", key),
    }
    return encrypted_secret(key, "s", {"password": SECRET}, hc_vault=[entry])


def login(service: Vault, **changed: str) -> VaultLogin:
    said = {
        "address": service.url,
        "path": "auth/kubernetes/login",
        "role": "tenant_decrypter",
        "jwt": f"token for {service.url}",
    }
    return VaultLogin(**(said | changed))


@pytest.mark.spec("KS-SOPS-03", "KS-SOPS-14")
async def test_the_token_of_the_secret_goes_before_a_login(vault: tuple[Vault, Toolbox], tree: Tree) -> None:
    service, toolbox = vault
    root = tree({"s.yaml": in_vault(service)})
    assert await opened(toolbox, root, {"sops.vault-token": "hvs.static\n"}) == SECRET
    assert await opened(toolbox, root, {"sops.vault-token": "hvs.static"}, login(service)) == SECRET
    assert service.logins == []
    told = await refused(toolbox, root, {"sops.vault-token": "hvs.revoked"}, login(service))
    assert "permission denied" in told
    assert "hvs.revoked" not in told
    assert service.logins == []


@pytest.mark.spec("KS-SOPS-14")
async def test_without_a_token_a_service_account_logs_in_where_the_operator_lists_the_server(
    vault: tuple[Vault, Toolbox], tree: Tree
) -> None:
    service, toolbox = vault
    root = tree({"s.yaml": in_vault(service)})
    assert await opened(toolbox, root, {}, login(service, address="http://vault.invalid"), login(service)) == SECRET
    assert service.logins == ["tenant_decrypter"]
    told = await refused(toolbox, root, {}, login(service, address="http://vault.invalid"))
    assert f"no Vault login path configured for address '{service.url}'" in told
    told = await refused(toolbox, root, {}, login(service, role="other_decrypter"))
    assert "failed to authenticate with Vault" in told
    assert service.logins == ["tenant_decrypter"]


# -- where a child may connect to --------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-29")
async def test_a_file_cannot_lead_inside(vault: tuple[Vault, Toolbox], tree: Tree, binary: Path) -> None:
    service, _ = vault
    for services in (KeyServices(), KeyServices(allow_hosts=["127.0.0.1:1"])):
        async with Toolbox(binary, size=1, key_services=services) as toolbox:
            told = await refused(toolbox, tree({"s.yaml": in_vault(service)}), {"sops.vault-token": "hvs.static"})
            assert "connection to '127.0.0.1' is denied: 127.0.0.1 is a loopback address" in told


async def test_without_a_policy_no_key_service_is_called(
    vault: tuple[Vault, Toolbox], tree: Tree, binary: Path
) -> None:
    service, _ = vault
    async with Toolbox(binary, size=1) as toolbox:
        told = await refused(toolbox, tree({"s.yaml": in_vault(service)}), {"sops.vault-token": "hvs.static"})
    assert "key services are not called" in told


async def test_credentials_are_not_shown_by_accident() -> None:
    told = repr(
        BuildKeys(
            entries={"sops.vault-token": b"hvs.static"},
            logins=[VaultLogin(address="https://vault", path="p", role="r", jwt="hidden")],
            identities=[LentIdentity(provider="aws", access_key="a", secret_key="hidden", token="hidden")],
        )
    )
    told += repr(LentIdentity(provider="aws", access_key="a", secret_key="hidden", token="hidden"))
    assert "hvs" not in told
    assert "hidden" not in told
