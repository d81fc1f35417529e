"""ServiceAccounts of a real cluster: annotations, tokens for an audience, and what happens when an account goes."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.identity import IdentityError, ServiceAccount
from headrace.identity.accounts import Accounts
from headrace.identity.cache import TokenCache
from headrace.identity.identities import Identities, operators_policy
from headrace.kube.client import Client
from headrace.kube.resource import Resource
from headrace.kube.tokens import ServiceAccountTokens
from tests.servers.clouds import Clouds, clouds

ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True)
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture
async def cloud() -> AsyncIterator[Clouds]:
    async with clouds() as running:
        yield running


@pytest.fixture
async def identities(client: Client, cloud: Clouds) -> AsyncIterator[Identities]:
    clock = SystemClock()
    environment = {"AWS_ENDPOINT_URL_STS": f"{cloud.url}/sts/"}
    operators, tenants = Egress(operators_policy(environment)), Egress(EgressPolicy())
    accounts = Accounts(client, ServiceAccountTokens(client, clock))
    yield Identities(accounts, operators, tenants, environment, clock, TokenCache(clock))
    await operators.close()
    await tenants.close()


async def test_an_account_is_exchanged_by_its_own_token_until_it_is_gone(
    client: Client, namespace: str, identities: Identities, cloud: Clouds
) -> None:
    reader = ServiceAccount(namespace, "reader")
    with pytest.raises(IdentityError, match="failed to get service account"):
        await identities.aws_keys(region="eu-west-1", service_account=reader)
    body = {"metadata": {"name": "reader", "annotations": {"eks.amazonaws.com/role-arn": ROLE}}}
    await client.create(ACCOUNTS, namespace, msgspec.json.encode(body))
    await identities.aws_keys(region="eu-west-1", service_account=reader)
    token = cloud.asked[-1][1]["WebIdentityToken"]
    part = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert claims["sub"] == f"system:serviceaccount:{namespace}:reader"
    assert claims["aud"] == ["sts.amazonaws.com"]
    await client.delete(ACCOUNTS, namespace, "reader")
    with pytest.raises(IdentityError, match="failed to get service account"):
        await identities.aws_keys(region="eu-west-1", service_account=reader)
    assert len(cloud.asked) == 1
