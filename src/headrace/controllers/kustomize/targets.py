"""Where an object delivers to, and as whom: kubeConfig and serviceAccountName (spec section 1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.api.kustomization import KubeConfigReference, KubeConfigSecretReference
from headrace.api.meta import GENERIC
from headrace.apply.signature import signature_part
from headrace.apply.target import Target
from headrace.controllers.cluster_config import (
    ClusterConfigPolicy,
    ClusterConfigs,
    ClusterProvider,
    GenericProvider,
)
from headrace.controllers.object_data import not_found, read_data
from headrace.core.clock import Clock
from headrace.kube.cluster import Cluster, Clusters
from headrace.kube.config import ClientConfig, load_kubeconfig
from headrace.kube.errors import ConfigError, NotFound
from headrace.kube.tokens import ServiceAccountTokens
from headrace.model.errors import Retry, Stalled
from headrace.model.read import Part
from headrace.model.scope import Scope

RECONCILIATION_FAILED = "ReconciliationFailed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPolicy:
    """What operators decide about identities (Flux's flags)."""

    default_service_account: str = ""
    override_managers: tuple[str, ...] = ()
    insecure_kubeconfig_exec: bool = False
    insecure_kubeconfig_tls: bool = False
    config_maps: ClusterConfigPolicy = field(default_factory=ClusterConfigPolicy)


class Targets:
    """Opens targets. Connections and watches are shared; a Target is cheap and made anew for each run.

    `tokens` serve the provider `generic` of cluster ConfigMaps; `providers` are those of clouds, by name.
    """

    def __init__(
        self, clusters: Clusters, policy: TargetPolicy, clock: Clock, tokens: ServiceAccountTokens | None = None,
        providers: Mapping[str, ClusterProvider] = {},
    ) -> None:
        self._clusters = clusters
        self._policy = policy
        self._clock = clock
        generic: Mapping[str, ClusterProvider] = {} if tokens is None else {GENERIC: GenericProvider(tokens)}
        self._config_maps = ClusterConfigs(policy.config_maps, {**generic, **providers})
        self._signature = signature_part(policy.override_managers)

    @property
    def signature(self) -> Part:
        """The part of delivered objects that is subscribed to."""
        return self._signature

    async def open(
        self, kube_config: KubeConfigReference | None, service_account: str, scope: Scope
    ) -> Target:
        """The target of the object that `scope` runs. Raises Retry(ReconciliationFailed) when the kubeconfig is
        missing or cannot be used, Stalled when this version cannot use it."""
        cluster = await self._cluster(kube_config, scope)
        client, account = cluster.client, self._account(service_account)
        if account:
            try:
                client = client.impersonate_service_account(scope.live.metadata.namespace, account)
            except ConfigError as error:
                raise Retry(RECONCILIATION_FAILED, f"failed to build kube client: {error}") from error
        return Target(
            cluster, client, self._clock, signature=self._signature, overridden=self._policy.override_managers
        )

    async def account_exists(self, service_account: str, scope: Scope) -> bool:
        """Whether the account to impersonate exists; only a definite 404 says that it does not (KS-FIN-04, REL-07).

        Looked up on the management cluster even with a kubeConfig, as upstream does. True when there is none.
        """
        account = self._account(service_account)
        if not account:
            return True
        management = self._clusters.management
        resource = await management.discovery.resource("", "ServiceAccount", "v1")
        try:
            await management.client.get(resource, scope.live.metadata.namespace, account, metadata_only=True)
        except NotFound as error:
            if not error.definite:
                raise
            return False
        return True

    def release(self, scope: Scope) -> None:
        """The object is gone, and needs its remote cluster no more."""
        self._clusters.release(scope.live.reference)

    def _account(self, service_account: str) -> str:
        return service_account or self._policy.default_service_account

    async def _cluster(self, kube_config: KubeConfigReference | None, scope: Scope) -> Cluster:
        if kube_config is None:
            self._clusters.release(scope.live.reference)
            return self._clusters.management
        holder = scope.live.reference
        if kube_config.secret_ref is not None:
            return self._clusters.remote(await self._read(kube_config.secret_ref, scope), holder=holder)
        if kube_config.config_map_ref is None:
            raise Stalled(RECONCILIATION_FAILED, "spec.kubeConfig names neither a Secret nor a ConfigMap")
        connection = await self._config_maps.connect(kube_config.config_map_ref.name, scope)
        try:
            return self._clusters.remote(connection.config, holder=holder, issue=connection.issue)
        except ConfigError as error:
            raise Retry(RECONCILIATION_FAILED, f"failed to build kube client: {error}") from error

    async def _read(self, secret: KubeConfigSecretReference, scope: Scope) -> ClientConfig:
        """The kubeconfig of a Secret: `key`, else `value`, else `value.yaml` (KS-IMP-03..05)."""
        namespace = scope.live.metadata.namespace
        name = f"{namespace}/{secret.name}"
        if secret.namespace not in (None, "", namespace):
            raise Stalled("AccessDenied", f"can't access KubeConfig secret '{secret.namespace}/{secret.name}'")
        data = await read_data("Secret", namespace, secret.name, scope)
        if data is None:
            text = f"unable to read KubeConfig secret '{name}' error: {not_found('Secret', secret.name)}"
            raise Retry(RECONCILIATION_FAILED, f"failed to build kube client: {text}")
        keys = (secret.key,) if secret.key else ("value", "value.yaml")
        content = next((data.values[key] for key in keys if key in data.values), None)
        if content is None:
            text = f"KubeConfig secret '{name}' does not contain a '{keys[0]}' key with data"
            raise Retry(RECONCILIATION_FAILED, f"failed to build kube client: {text}")
        try:
            return load_kubeconfig(
                content, trusted=False, allow_exec=self._policy.insecure_kubeconfig_exec,
                allow_insecure_tls=self._policy.insecure_kubeconfig_tls,
            )
        except ConfigError as error:
            text = f"failed to build kube client: KubeConfig secret '{name}': {error}"
            raise Retry(RECONCILIATION_FAILED, text) from error
