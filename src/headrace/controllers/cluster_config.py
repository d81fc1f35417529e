"""spec.kubeConfig.configMapRef: a cluster by its address, and who we are there without a kubeconfig (spec 1.4).

A provider turns the account that the ConfigMap names into credentials for the cluster. Here is `generic`: the cluster
trusts tokens of this one's API server, by OIDC, and takes them as they are. Those of clouds are in `cloud_clusters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from headrace.api.meta import GENERIC
from headrace.controllers.kustomize.decryption import FEATURE_GATE_DISABLED
from headrace.controllers.object_data import ObjectData, not_found, read_data
from headrace.kube.config import ClientConfig, Credentials
from headrace.kube.credentials import Issue
from headrace.kube.errors import KubeError
from headrace.kube.exec_plugin import ExecCredential
from headrace.kube.tokens import ServiceAccountTokens
from headrace.model.errors import Retry, Stalled
from headrace.model.scope import Scope

RECONCILIATION_FAILED = "ReconciliationFailed"

CLOUDS = ("aws", "azure", "gcp")
KNOWN_PROVIDERS = (*CLOUDS, GENERIC)
"""What the field may say; a provider that is not among those at hand is told apart from a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """A ConfigMap as it is meant. `account` is in `namespace`, that of the object."""

    provider: str
    cluster: str
    address: str
    ca: bytes
    audiences: tuple[str, ...]
    account: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the cluster is, and what gives the credentials for it as long as it is used."""

    config: ClientConfig
    issue: Issue


class ClusterProvider(Protocol):
    """One way to be somebody on another cluster."""

    async def connect(self, settings: ClusterSettings) -> Connection:
        """The first credential is got here, so that a mistake is told as what it is. Raises Retry, Stalled."""
        ...


class GenericProvider:
    """Tokens of the account itself; the cluster's address is their audience where none is named (KS-IMP-07)."""

    def __init__(self, tokens: ServiceAccountTokens) -> None:
        self._tokens = tokens

    async def connect(self, settings: ClusterSettings) -> Connection:
        """Raises Retry(ReconciliationFailed) without an address, or when there is no token to be had."""
        if not settings.address:
            raise failed("the cluster's ConfigMap has no address, which provider 'generic' needs")
        server = https_server(settings.address)
        audiences = settings.audiences or (settings.address,)
        try:
            await self._tokens.issue(settings.namespace, settings.account, audiences)
        except KubeError as error:
            account = f"{settings.namespace}/{settings.account}"
            raise failed(f"failed to create a token of service account '{account}': {error}") from error

        async def issue() -> ExecCredential:
            issued = await self._tokens.issue(settings.namespace, settings.account, audiences)
            return ExecCredential(issued.token, b"", b"", issued.renew)

        # The token changes by the hour; what it stands for is what the cluster is known by.
        known_by = msgspec.json.encode([GENERIC, settings.namespace, settings.account, audiences]).decode()
        credentials = Credentials(issued_for=known_by)
        return Connection(ClientConfig(server=server, ca=settings.ca, credentials=credentials, trusted=False), issue)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfigPolicy:
    """What operators decide: whether objects may name accounts whose tokens leave the cluster (gate
    ObjectLevelWorkloadIdentity), and the account where a ConfigMap names none."""

    workload_identity: bool = False
    default_service_account: str = ""


class ClusterConfigs:
    """Reads ConfigMaps of clusters and has the provider that each names connect."""

    def __init__(self, policy: ClusterConfigPolicy, providers: Mapping[str, ClusterProvider]) -> None:
        self._policy = policy
        self._providers = providers

    async def connect(self, name: str, scope: Scope) -> Connection:
        """The cluster of a ConfigMap in the object's namespace; the read is a subscription, so a changed one is the
        cure of a mistake. Raises Retry(ReconciliationFailed), Stalled for what no retry changes."""
        namespace = scope.live.metadata.namespace
        data = await read_data("ConfigMap", namespace, name, scope)
        if data is None:
            text = f"unable to read KubeConfig configmap '{namespace}/{name}' error: "
            raise failed(text + not_found("ConfigMap", name))
        settings = self._settings(data, namespace)
        provider = self._providers.get(settings.provider)
        if provider is None:
            raise _unknown(settings.provider, f"{namespace}/{name}")
        self._check(settings, f"{namespace}/{name}")
        if settings.provider == GENERIC:
            return await provider.connect(settings)
        note = f"credentials of provider '{settings.provider}' for a cluster"
        return await scope.wait(provider.connect(settings), note=note)

    def _settings(self, data: ObjectData, namespace: str) -> ClusterSettings:
        said = {key: value.decode(errors="replace").strip() for key, value in data.values.items()}
        return ClusterSettings(
            provider=said.get("provider", ""), cluster=said.get("cluster", ""), address=said.get("address", ""),
            ca=said.get("ca.crt", "").encode(), namespace=namespace,
            audiences=tuple(line.strip() for line in said.get("audiences", "").splitlines() if line.strip()),
            account=said.get("serviceAccountName", "") or self._policy.default_service_account,
        )

    def _check(self, settings: ClusterSettings, name: str) -> None:
        """The engine's own identity is lent to nobody: the audience and the address of its token would be a tenant's
        to choose."""
        if not self._policy.workload_identity:
            raise Stalled(
                FEATURE_GATE_DISABLED,
                "to use spec.kubeConfig.configMapRef please enable the ObjectLevelWorkloadIdentity feature gate",
            )
        if not settings.account:
            raise failed(f"KubeConfig configmap '{name}' has no serviceAccountName, and there is no default")


def _unknown(provider: str, name: str) -> Retry | Stalled:
    """A provider that is none waits for another ConfigMap; one that is not at hand waits for nothing."""
    if provider in KNOWN_PROVIDERS:
        text = f"KubeConfig configmap '{name}': provider '{provider}' is not available here"
        return Stalled(RECONCILIATION_FAILED, text)
    known = ", ".join(KNOWN_PROVIDERS)
    return failed(f"KubeConfig configmap '{name}': provider '{provider[:63]}' is none of {known}")


def https_server(address: str) -> str:
    """The server's URL of a cluster's address, which is a URL or a host. Raises Retry(ReconciliationFailed) for any
    scheme but https."""
    url = address if "://" in address else f"https://{address}"
    try:
        parts = urlsplit(url)
        excess = parts.username is not None or parts.query or parts.fragment
        usable = parts.scheme == "https" and parts.hostname and not excess
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise failed(f"the cluster's address '{address[:253]}' is no https URL")
    return url.rstrip("/")


def failed(text: str) -> Retry:
    return Retry(RECONCILIATION_FAILED, f"failed to build kube client: {text}")
