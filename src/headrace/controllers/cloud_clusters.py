"""Clusters of clouds by ConfigMap: the account's identity at the cloud is who we are there (spec 1.4).

EKS takes a proof of the account's role, AKS a token of Microsoft Entra ID, GKE an access token of Google. Where the
ConfigMap does not say where the cluster is, its cloud is asked, as that identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from headrace.controllers.cluster_config import (
    CLOUDS,
    RECONCILIATION_FAILED,
    ClusterProvider,
    ClusterSettings,
    Connection,
    failed,
    https_server,
)
from headrace.core import secrecy
from headrace.identity import IdentityError, ServiceAccount
from headrace.identity.values import ClusterAccess, WantedCluster
from headrace.kube.config import ClientConfig, Credentials
from headrace.kube.errors import ConfigError
from headrace.kube.exec_plugin import ExecCredential
from headrace.model.errors import Stalled


class ClusterIssuers(Protocol):
    """The part of `identity.identities.Identities` that is used here. Raises IdentityError."""

    async def cluster_access(self, wanted: WantedCluster, *, service_account: ServiceAccount) -> ClusterAccess: ...


class CloudProvider:
    """Clusters of one cloud."""

    def __init__(self, name: str, issuers: ClusterIssuers) -> None:
        self._name = name
        self._issuers = issuers

    async def connect(self, settings: ClusterSettings) -> Connection:
        """Raises Retry(ReconciliationFailed), Stalled for audiences."""
        if settings.audiences:
            text = f"the cluster's ConfigMap has audiences, which provider '{self._name}' chooses itself"
            raise Stalled(RECONCILIATION_FAILED, f"failed to build kube client: {text}")
        server = https_server(settings.address) if settings.address else ""
        known = bool(server and settings.ca)
        # What is not looked up needs no name, but on EKS, whose tokens are for a cluster.
        name = settings.cluster if self._name == "aws" or not known else ""
        wanted = WantedCluster(provider=self._name, name=name, address=server, known=known)
        account = ServiceAccount(settings.namespace, settings.account)
        try:
            access = await self._access(wanted, account)
        except IdentityError as error:
            raise failed(str(error)) from error

        async def issue() -> ExecCredential:
            try:
                fresh = await self._access(wanted, account)
            except IdentityError as error:
                raise ConfigError(str(error)) from error
            return ExecCredential(fresh.token.text, b"", b"", fresh.token.expires)

        known_by = msgspec.json.encode([self._name, name, access.principal]).decode()
        config = ClientConfig(
            server=server or https_server(access.place.server),
            ca=settings.ca or access.place.ca,
            credentials=Credentials(issued_for=known_by),
            trusted=False,
        )
        return Connection(config, issue)

    async def _access(self, wanted: WantedCluster, account: ServiceAccount) -> ClusterAccess:
        access = await self._issuers.cluster_access(wanted, service_account=account)
        secrecy.register(access.token.text)
        return access


def cloud_providers(issuers: ClusterIssuers | None) -> Mapping[str, ClusterProvider]:
    """A provider for each cloud; none without `issuers`."""
    return {} if issuers is None else {name: CloudProvider(name, issuers) for name in CLOUDS}
