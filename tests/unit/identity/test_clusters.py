"""What opens clusters of clouds, against local issuers that speak the clouds' wire protocols."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from headrace.controllers.cloud_clusters import CLOUDS, CloudProvider, cloud_providers
from headrace.controllers.cluster_config import ClusterSettings
from headrace.core import secrecy
from headrace.core.clock import SystemClock
from headrace.core.egress import parse_url
from headrace.core.sigv4 import AwsKeys, presign
from headrace.identity import IdentityError
from headrace.identity.accounts import Accounts
from headrace.identity.aws import cluster_parts
from headrace.identity.azure import cluster_path
from headrace.identity.gcp import check_cluster
from headrace.identity.values import WantedCluster
from headrace.kube.errors import ConfigError
from headrace.model.errors import Retry, Stalled
from tests.servers.clouds import ISSUED, Clouds, clouds, eks_token_url
from tests.unit.identity.test_identities import (
    ENTRA,
    PROVIDER,
    READER,
    ROLE,
    OneAccount,
    aws_environment,
    azure_environment,
    gcp_environment,
    identities,
)

EKS = "arn:aws:eks:eu-west-1:123456789012:cluster/prod_1"
GKE = "projects/proj/locations/europe-west1/clusters/prod"
AKS = (
    "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/rg-1"
    "/providers/Microsoft.ContainerService/managedClusters/prod"
)
NAMES = {"aws": EKS, "azure": AKS, "gcp": GKE}
ANNOTATIONS = ENTRA | {"eks.amazonaws.com/role-arn": ROLE, "gcp.auth.fluxcd.io/workload-identity-provider": PROVIDER}
CA = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
ENCODED_CA = base64.b64encode(CA).decode()
SERVERS = {"aws": "https://abc.gr7.eu-west-1.eks.amazonaws.com", "azure": "https://prod.hcp.azmk8s.io:443",
           "gcp": "https://203.0.113.9"}  # fmt: skip


@pytest.fixture
async def cloud() -> AsyncIterator[Clouds]:
    async with clouds() as running:
        running.clusters = {
            "/eks/clusters/prod_1": {
                "cluster": {"endpoint": SERVERS["aws"], "certificateAuthority": {"data": ENCODED_CA}}
            },
            f"/v1/{GKE}": {"endpoint": "203.0.113.9", "masterAuth": {"clusterCaCertificate": ENCODED_CA}},
            AKS: {"properties": {"aadProfile": {"managed": True}}},
            f"{AKS}/listClusterUserCredential": {"kubeconfigs": [kubeconfig(SERVERS["azure"])]},
        }
        yield running


def kubeconfig(server: str) -> dict[str, str]:
    """One as AKS gives it, with what logs in as somebody, which must not be used."""
    cluster = {"server": server, "certificate-authority-data": ENCODED_CA}
    content = {
        "clusters": [{"name": "prod", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "canary-of-the-admin", "auth-provider": {"name": "azure"}}}],
    }
    return {"name": "clusterUser", "value": base64.b64encode(json.dumps(content).encode()).decode()}


def environment(cloud: Clouds) -> dict[str, str]:
    return aws_environment(cloud) | azure_environment(cloud) | gcp_environment(cloud) | {
        "AWS_ENDPOINT_URL_EKS": f"{cloud.url}/eks", "AZURE_RESOURCE_MANAGER_ENDPOINT": f"{cloud.url}/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER": f"{cloud.url}/",
    }  # fmt: skip


def settings(provider: str, **changed: Any) -> ClusterSettings:
    made = ClusterSettings(
        provider=provider, cluster=NAMES[provider], address="", ca=b"", audiences=(), account=READER.name,
        namespace=READER.namespace,
    )  # fmt: skip
    return replace(made, **changed)


def expected_token(cloud: Clouds, provider: str, token: str) -> None:
    if provider == "aws":
        assert eks_token_url(token, "prod_1", "eu-west-1", cloud.secrets) == f"{cloud.url}/sts/"
    else:
        assert token == {"azure": "azure of app-1", "gcp": "gcp federated"}[provider]


# -- tokens and places ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", CLOUDS)
async def test_a_cluster_is_looked_up_and_opened_as_the_accounts_identity(cloud: Clouds, provider: str) -> None:
    async with identities(environment(cloud), ANNOTATIONS) as made:
        with secrecy.keeping_secrets():
            connection = await CloudProvider(provider, made).connect(settings(provider))
            credential = await connection.issue()
            assert credential.token in secrecy.secrets()
        config = connection.config
        assert (config.server, config.ca, config.trusted) == (SERVERS[provider], CA, False)
        expected_token(cloud, provider, credential.token)
        assert credential.expires is not None
        assert credential.token not in repr(connection) + repr(config) + config.credentials.issued_for
        asked = len(cloud.asked)
        await CloudProvider(provider, made).connect(settings(provider))
        assert len(cloud.asked) == asked, "kept"


@pytest.mark.parametrize("provider", CLOUDS)
async def test_nothing_is_looked_up_where_the_config_map_says_it_all(cloud: Clouds, provider: str) -> None:
    async with identities(environment(cloud), ANNOTATIONS) as made:
        given = settings(provider, address="https://api.example.com", ca=b"given")
        connection = await CloudProvider(provider, made).connect(given)
        assert (connection.config.server, connection.config.ca) == ("https://api.example.com", b"given")
        expected_token(cloud, provider, (await connection.issue()).token)
        assert [path for path in cloud.paths() if path in cloud.clusters] == []


@pytest.mark.parametrize("provider", CLOUDS)
async def test_what_the_config_map_says_wins_over_what_is_looked_up(cloud: Clouds, provider: str) -> None:
    async with identities(environment(cloud), ANNOTATIONS) as made:
        connection = await CloudProvider(provider, made).connect(settings(provider, ca=b"given"))
        assert (connection.config.server, connection.config.ca) == (SERVERS[provider], b"given")
        connection = await CloudProvider(provider, made).connect(settings(provider, address=SERVERS[provider]))
        assert (connection.config.server, connection.config.ca) == (SERVERS[provider], CA)


async def test_tokens_are_for_the_clusters_server_application_and_lookups_for_the_resource_manager(
    cloud: Clouds,
) -> None:
    async with identities(environment(cloud), ANNOTATIONS) as made:
        await made.cluster_access(WantedCluster(provider="azure", name=AKS), service_account=READER)
        scopes = [sent["scope"] for path, sent, _ in cloud.asked if path.endswith("/token")]
        assert scopes == ["https://management.azure.com/.default", "6dae42f8-4368-4678-94ff-3960e28e3630/.default"]
    assert "canary" not in str(cloud.asked)


@pytest.mark.parametrize(("authority", "scope"), [
    ("https://login.chinacloudapi.cn/", "https://management.chinacloudapi.cn/.default"),
    ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net/.default"),
    ("https://login.microsoftonline.com", "https://management.azure.com/.default"),
    ("", "https://management.azure.com/.default"),
])  # fmt: skip
async def test_the_resource_manager_is_that_of_the_authoritys_cloud(authority: str, scope: str) -> None:
    async with identities({"AZURE_AUTHORITY_HOST": authority}) as made:
        assert made._azure.manager_scope == scope


async def test_one_of_several_addresses_of_a_cluster_is_chosen_by_the_config_map(cloud: Clouds) -> None:
    other = "https://private.example.com:443"
    answer = {"kubeconfigs": [kubeconfig(SERVERS["azure"]), kubeconfig(other)]}
    cloud.clusters[f"{AKS}/listClusterUserCredential"] = answer
    async with identities(environment(cloud), ANNOTATIONS) as made:
        provider = CloudProvider("azure", made)
        connection = await provider.connect(settings("azure", address="https://PRIVATE.example.com"))
        assert connection.config.ca == CA
        with pytest.raises(Retry, match="it is not at the address 'https://elsewhere.example.com'"):
            await provider.connect(settings("azure", address="https://elsewhere.example.com"))


async def test_an_aks_cluster_without_entra_is_told(cloud: Clouds) -> None:
    cloud.clusters[AKS] = {"properties": {"aadProfile": None}}
    async with identities(environment(cloud), ANNOTATIONS) as made:
        with pytest.raises(Retry, match="does not have Microsoft Entra ID integration enabled"):
            await CloudProvider("azure", made).connect(settings("azure"))


@pytest.mark.parametrize("answer", [
    {"kubeconfigs": []}, {"kubeconfigs": [{"value": "%"}]}, {"nothing": 1},
    {"kubeconfigs": [{"value": base64.b64encode(b"clusters: [canary").decode()}]},
    {"kubeconfigs": [{"value": base64.b64encode(b"clusters: []").decode()}]},
    {"kubeconfigs": [{"value": base64.b64encode(b"clusters: [{cluster: {server: s}}]").decode()}]},
], ids=["none", "no base64", "other", "no YAML", "no cluster", "no CA"])  # fmt: skip
async def test_an_answer_that_cannot_be_read_is_told_without_what_it_holds(
    cloud: Clouds, answer: dict[str, Any]
) -> None:
    cloud.clusters[f"{AKS}/listClusterUserCredential"] = answer
    async with identities(environment(cloud), ANNOTATIONS) as made:
        with pytest.raises(Retry, match="failed to describe AKS cluster") as caught:
            await CloudProvider("azure", made).connect(settings("azure"))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://203.0.113.9", "https://me@203.0.113.9", "file:///etc"])
async def test_a_cluster_that_is_not_served_over_https_is_refused(cloud: Clouds, endpoint: str) -> None:
    cloud.clusters[f"/v1/{GKE}"]["endpoint"] = endpoint
    async with identities(environment(cloud), ANNOTATIONS) as made:
        with pytest.raises(Retry, match="is no https URL"):
            await CloudProvider("gcp", made).connect(settings("gcp"))


# -- whose ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "refusal"), [
    ("aws", "is no ARN of a role"), ("azure", "annotation azure.workload.identity/tenant-id"),
])  # fmt: skip
async def test_an_account_without_an_identity_gets_none_of_the_engines(
    cloud: Clouds, provider: str, refusal: str
) -> None:
    own = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "environment-secret"}
    async with identities(environment(cloud) | own) as made:
        with pytest.raises(Retry, match=refusal):
            await CloudProvider(provider, made).connect(settings(provider))
    assert cloud.asked == []


async def test_an_account_with_another_identity_is_another_client(cloud: Clouds) -> None:
    account = OneAccount(ANNOTATIONS)
    async with identities(environment(cloud)) as made:
        made._accounts = cast("Accounts", account)
        before = (await CloudProvider("aws", made).connect(settings("aws"))).config
        account.annotations["note"] = "has nothing to do with it"
        assert (await CloudProvider("aws", made).connect(settings("aws"))).config == before
        account.annotations["eks.amazonaws.com/role-arn"] = ROLE + "2"
        assert (await CloudProvider("aws", made).connect(settings("aws"))).config != before


async def test_a_renewal_that_fails_is_an_error_of_the_client(cloud: Clouds) -> None:
    account = OneAccount(ANNOTATIONS)
    async with identities(environment(cloud)) as made:
        made._accounts = cast("Accounts", account)
        connection = await CloudProvider("aws", made).connect(settings("aws"))
        account.annotations.clear()
        with pytest.raises(ConfigError, match="is no ARN of a role"):
            await connection.issue()


async def test_a_refused_lookup_is_told_without_the_token(cloud: Clouds) -> None:
    cloud.fail = {f"/v1/{GKE}"}
    async with identities(environment(cloud), ANNOTATIONS) as made:
        with pytest.raises(Retry, match="failed to describe GKE cluster .* answered 401") as caught:
            await CloudProvider("gcp", made).connect(settings("gcp"))
    assert "gcp federated" not in str(caught.value)


async def test_audiences_are_for_tokens_that_a_cluster_takes_itself(cloud: Clouds) -> None:
    async with identities(environment(cloud), ANNOTATIONS) as made:
        with pytest.raises(Stalled, match="audiences, which provider 'gcp' chooses itself"):
            await CloudProvider("gcp", made).connect(settings("gcp", audiences=("x",)))
    assert cloud.asked == []


def test_without_issuers_there_are_no_clouds() -> None:
    assert cloud_providers(None) == {}


# -- input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", CLOUDS)
@pytest.mark.parametrize("change", [("prod", "../prod"), ("prod", "pr/od"), ("prod", "prod\n"), ("prod", "prod?a=b"),
                                    ("prod", "pr%2fod"), ("prod", ""), ("prod", "x" * 300)],
                         ids=["up", "slash", "line", "query", "escape", "empty", "long"])  # fmt: skip
async def test_a_name_that_could_lead_elsewhere_is_refused(
    cloud: Clouds, provider: str, change: tuple[str, str]
) -> None:
    head, _, tail = NAMES[provider].rpartition(change[0])
    await refused(cloud, provider, f"{head}{change[1]}{tail if change[1] == '../prod' else ''}")


@pytest.mark.parametrize(("provider", "name"), [
    ("aws", EKS.replace("eu-west-1", "evil.com/#")), ("aws", EKS.replace("eu-west-1", "eu-west-1.evil.com")),
    ("aws", EKS.replace("eu-west-1", "")), ("aws", EKS.replace(":eks:", ":iam:")), ("aws", GKE), ("aws", ""),
    ("aws", EKS.replace("123456789012", "1")), ("azure", AKS.replace("rg-1", "..")), ("azure", AKS.lstrip("/")),
    ("azure", AKS.replace("01234567", "..")), ("azure", AKS.replace("ContainerService", "Storage")),
    ("gcp", GKE.replace("proj/", "../")), ("gcp", GKE.replace("europe-west1", "-")), ("gcp", "/" + GKE), ("gcp", EKS),
])  # fmt: skip
async def test_what_is_no_name_of_a_cluster_is_refused(cloud: Clouds, provider: str, name: str) -> None:
    await refused(cloud, provider, name)


async def refused(cloud: Clouds, provider: str, name: str) -> None:
    """By whoever makes URLs of it, and before anybody is asked for anything."""
    parse = {"aws": cluster_parts, "azure": cluster_path, "gcp": check_cluster}[provider]
    with pytest.raises(IdentityError, match="invalid .* cluster"):
        parse(name)
    async with identities(environment(cloud), ANNOTATIONS) as made:
        with pytest.raises(Retry, match="invalid .* cluster"):
            await CloudProvider(provider, made).connect(settings(provider, cluster=name))
    assert cloud.asked == []


@pytest.mark.parametrize(
    "address", ["http://api.example.com", "https://me@api.example.com", "https://a/?x", "gopher://x"]
)
@pytest.mark.parametrize("provider", CLOUDS)
async def test_an_address_that_is_not_https_is_refused(cloud: Clouds, provider: str, address: str) -> None:
    async with identities(environment(cloud), ANNOTATIONS) as made:
        with pytest.raises(Retry, match="is no https URL"):
            await CloudProvider(provider, made).connect(settings(provider, address=address, ca=b"given"))
    assert cloud.asked == []


@pytest.mark.parametrize(("arn", "parts"), [
    (EKS, ("eu-west-1", "prod_1")),
    ("arn:aws-cn:eks:cn-northwest-1:123456789012:cluster/a", ("cn-northwest-1", "a")),
    ("arn:aws-us-gov:eks:us-gov-east-1:123456789012:cluster/A-b", ("us-gov-east-1", "A-b")),
])  # fmt: skip
def test_clusters_of_other_partitions_are_known(arn: str, parts: tuple[str, str]) -> None:
    assert cluster_parts(arn) == parts


def test_an_aks_id_may_be_written_in_any_case() -> None:
    lower = AKS.replace("resourceGroups", "resourcegroups").replace("Microsoft", "microsoft")
    assert cluster_path(lower) == AKS


# -- the token of EKS -------------------------------------------------------------------------------------------------


async def test_an_eks_token_ends_before_eks_refuses_it(cloud: Clouds) -> None:
    async with identities(environment(cloud), ANNOTATIONS) as made:
        wanted = WantedCluster(provider="aws", name=EKS, known=True)
        access = await made.cluster_access(wanted, service_account=READER)
        assert access.token.expires < SystemClock().now() + 15 * 60


def test_an_eks_token_is_signed_as_other_clients_do() -> None:
    """The signature is the one that botocore 1.42 makes of the same request at that time."""
    keys = AwsKeys(*ISSUED)
    url = presign(
        parse_url("https://sts.eu-west-1.amazonaws.com/"), {"Action": "GetCallerIdentity", "Version": "2011-06-15"},
        keys=keys, region="eu-west-1", service="sts", now=1704164645.0, seconds=60, headers={"X-K8s-Aws-Id": "prod"},
    )  # fmt: skip
    assert url.endswith("&X-Amz-Signature=068d137f9ea7e4e50c29a8f1696d26f83620a4682e39d109790c27766e0d969c")
    token = "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
    secrets = {ISSUED[0]: ISSUED[1]}
    assert eks_token_url(token, "prod", "eu-west-1", secrets) == "https://sts.eu-west-1.amazonaws.com/"
    with pytest.raises(AssertionError, match="does not match"):
        eks_token_url(token, "other", "eu-west-1", secrets)
