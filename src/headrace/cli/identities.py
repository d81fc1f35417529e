"""Identities at clouds as the settings, the environment and the cluster have them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

from headrace.controllers.workload import WorkloadPolicy
from headrace.core.clock import Clock
from headrace.core.egress import Egress
from headrace.identity.accounts import Accounts
from headrace.identity.cache import TokenCache
from headrace.identity.identities import Identities, operators_policy
from headrace.kube.client import Client
from headrace.kube.tokens import ServiceAccountTokens
from headrace.settings import Settings


@contextlib.asynccontextmanager
async def identities(settings: Settings, client: Client, tenants: Egress, clock: Clock) -> AsyncIterator[Identities]:
    """Those of the cluster behind `client`; what objects name passes the gate `tenants`."""
    operators = Egress(operators_policy(os.environ))
    cache = TokenCache(
        clock, size=settings.engine.token_cache_max_size, longest=settings.engine.token_cache_max_duration
    )
    try:
        accounts = Accounts(client, ServiceAccountTokens(client, clock))
        yield Identities(accounts, operators, tenants, os.environ, clock, cache)
    finally:
        await operators.close()


def workload_policy(settings: Settings) -> WorkloadPolicy:
    """Who may authenticate as what."""
    tenancy = settings.tenancy
    return WorkloadPolicy(
        object_level=tenancy.object_level_workload_identity,
        default_account=tenancy.default_service_account,
        own_identity=not settings.enforces("identity"),
    )
