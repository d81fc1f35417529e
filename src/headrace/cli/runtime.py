"""The running process: settings -> clusters -> toolbox -> storage -> controllers -> engine, and what it listens on.

`serve` waits for the lease, if there is one to wait for, and only then makes the parts: one engine at a time uses a
storage, and only the leader answers on the artifact server and the Unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import socket
from asyncio import sslproto
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headrace import __version__
from headrace.api.kinds import KINDS
from headrace.apply.applied import AppliedStore
from headrace.artifact.fetch import Fetcher
from headrace.artifact.server import artifact_application
from headrace.artifact.store import FILE, Store, stored_reference
from headrace.artifact.trees import Trees
from headrace.cli import paths
from headrace.cli.engine_settings import told
from headrace.cli.helm import helm_controllers
from headrace.cli.identities import identities, workload_policy
from headrace.cli.key_services import key_services
from headrace.cli.oci import oci_controller, registries_of, verification_of
from headrace.cli.options import (
    default_account,
    generator_policy,
    helm_limits,
    kustomization_options,
    no_remote_bases,
    ssh_algorithms,
)
from headrace.controllers.bucket.access import BucketAccess
from headrace.controllers.bucket.bucket import BucketController
from headrace.controllers.consumers import Consumers
from headrace.controllers.generate.artifactgenerator import ArtifactGeneratorController
from headrace.controllers.git.access import GitAccess
from headrace.controllers.git.gitrepository import GitRepositoryController
from headrace.controllers.kustomize.kustomization import KustomizationController
from headrace.core.clock import Clock, SystemClock
from headrace.core.egress import Egress, EgressPolicy, UrlRefused, parse_url
from headrace.core.random import Random
from headrace.core.redaction import redact
from headrace.edge.health import health_application
from headrace.edge.listen import parse_address, serve, serve_unix
from headrace.edge.metrics import EngineMetrics, metrics_application
from headrace.edge.state import EngineInfo, state_application
from headrace.engine.access import ClusterAccess
from headrace.engine.engine import Engine
from headrace.engine.runner import AnyController
from headrace.engine.settings import EngineSettings
from headrace.identity.identities import Identities
from headrace.kube.client import Client, Fence
from headrace.kube.cluster import Clusters
from headrace.kube.config import ClientConfig
from headrace.kube.counter import RequestCounter
from headrace.kube.lease import LeaderElection, LeaseTimes
from headrace.kube.listeners import Listener
from headrace.kube.networks import cluster_networks
from headrace.kube.tokens import ServiceAccountTokens
from headrace.model.artifact import Artifact
from headrace.model.objects import LiveObject
from headrace.model.read import ABSENT, WHOLE
from headrace.model.reference import Reference
from headrace.model.trace import LAST, REVISION, Lane
from headrace.settings import Settings, SettingsError
from headrace.source.git.remotes import Remotes
from headrace.source.git.versions import toolbox_versions
from headrace.status.events import Events, Sink
from headrace.status.notifier import Notifier
from headrace.status.writer import ApiStatusWriter
from headrace.toolbox import Toolbox

log = logging.getLogger(__name__)

LEASE = "headrace-leader-election"
_TLS_BUFFER = 32 * 1024
_GC_THRESHOLD = 50_000
"""Allocations between two collections: with Structs outside of the collector there is little for it to find."""


class Changed(Protocol):
    """Tells the engine that a part of what is no object has another digest now."""

    def __call__(self, reference: Reference, part: str, digest: str, lane: Lane = REVISION) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a leader works with."""

    clusters: Clusters
    store: Store
    engine: Engine


class Runtime:
    """One process serving one cluster. `listener` is told of every change that the watches show."""

    def __init__(self, settings: Settings, config: ClientConfig, *, listener: Listener | None = None) -> None:
        self._settings = settings
        self._config = config
        self._listener = listener
        self._clock: Clock = SystemClock()
        self._random = Random()
        self._counter = RequestCounter()
        self._metrics = EngineMetrics(self._counter, self._stored_bytes)
        self._parts: Parts | None = None
        self._changed: Changed = _nobody_is_told
        self._controlled: tuple[str, ...] = ()
        self._leads = not settings.leader_election.enable_leader_election
        self._fence: Fence | None = None

    async def serve(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then let runs finish within the grace period, and release the lease.

        Raises LeaseLost when another took the lease, OSError when an address cannot be listened on.
        """
        from headrace.core.log import add_redaction

        add_redaction(redact)
        async with contextlib.AsyncExitStack() as stack:
            edge = self._settings.edge
            for address, app in (
                (edge.metrics_addr, metrics_application(self._metrics)),
                (edge.health_addr, health_application({}, {"leader": self._led, "watches": self._synced})),
            ):
                if address:
                    await stack.enter_async_context(serve(app, address))
            if self._leads:
                await self._lead(stop)
            else:
                await self._campaign(stop)

    # -- leading -------------------------------------------------------------------------------------------------

    async def _campaign(self, stop: asyncio.Event) -> None:
        """Lead once the lease is held. `stop` ends the wait for it, too."""
        async with Client(self._config, counter=self._counter) as client:
            election = self._election(client)
            self._fence = election.fence
            campaign = asyncio.ensure_future(election.run(lambda: self._lead(stop), on_lost=self._lost))
            stopping = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait({campaign, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not campaign.done() and not election.leading:
                    campaign.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await campaign
            finally:
                for task in (stopping, campaign):
                    task.cancel()
                await asyncio.gather(stopping, campaign, return_exceptions=True)

    def _election(self, client: Client) -> LeaderElection:
        chosen = self._settings.leader_election
        times = LeaseTimes(
            chosen.leader_election_lease_duration,
            chosen.leader_election_renew_deadline,
            chosen.leader_election_retry_period,
        )
        return LeaderElection(
            client,
            namespace=chosen.runtime_namespace,
            name=lease_name(self._settings),
            identity=f"{socket.gethostname()}_{self._random.token(8)}",
            times=times,
            clock=self._clock,
            random=self._random,
        )

    def _lost(self) -> None:
        self._leads = False
        self._metrics.leading(lease_name(self._settings), False)
        log.error("the lease is lost: stopping at once")

    async def _lead(self, stop: asyncio.Event) -> None:
        self._leads = True
        self._metrics.leading(lease_name(self._settings), True)
        async with self._made() as parts, contextlib.AsyncExitStack() as stack:
            self._parts = parts
            try:
                await stack.enter_async_context(
                    serve(artifact_application(parts.store), self._settings.storage.storage_addr)
                )
                app = state_application(parts.engine, self._info, self._clock.now)
                await stack.enter_async_context(serve_unix(app, self._socket))
                _settle_memory()
                log.info("serving", extra={"server": self._config.server, "kinds": ", ".join(self._kinds)})
                await parts.engine.run(stop)
            finally:
                self._parts = None

    # -- parts ---------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _made(self) -> AsyncIterator[Parts]:
        """All parts, each closed when the context is left, the last one first."""
        _keep_buffers_small()
        async with contextlib.AsyncExitStack() as stack:
            store = await asyncio.to_thread(self._make_store)
            clusters = await stack.enter_async_context(
                Clusters(self._config, counter=self._counter, clock=self._clock, random=self._random,
                         key=store.installation_key(), fence=self._fence)
            )  # fmt: skip
            policy = await self._egress_policy(clusters)
            toolbox = await stack.enter_async_context(self._toolbox(store, policy))
            await toolbox.check()
            egress = Egress(policy)
            stack.push_async_callback(egress.close)
            applied = AppliedStore(self._state / "applied.sqlite")
            stack.push_async_callback(applied.close)
            sinks = await self._event_sinks(stack)
            issued = await stack.enter_async_context(
                identities(self._settings, clusters.management.client, egress, self._clock)
            )
            self._metrics.tokens(issued.cache)
            controllers = self._controllers(clusters, toolbox, store, egress, applied, issued)
            self._controlled = tuple(controller.kind.kind for controller in controllers)
            engine = self._engine(clusters, controllers, sinks)
            self._changed = engine.changed
            for listener in (self._metrics_listener, self._listener):
                if listener is not None:
                    clusters.subscribe(listener)
            yield Parts(clusters, store, engine)

    def _make_store(self) -> Store:
        chosen = self._settings.storage
        Path(chosen.storage_path).mkdir(parents=True, exist_ok=True)
        return Store(
            Path(chosen.storage_path),
            advertised(chosen.storage_adv_addr, chosen.storage_addr),
            self._clock,
            ttl=chosen.artifact_retention_ttl,
            records=chosen.artifact_retention_records,
            algorithm=chosen.artifact_digest_algo,
            published=self._published,
        )

    def _published(self, artifact: Artifact) -> None:
        """Wake who waits for a stored file: one made anew is the same artifact, of which no event tells."""
        self._changed(stored_reference(artifact.path), WHOLE.name, artifact.digest)

    def _toolbox(self, store: Store, policy: EgressPolicy) -> Toolbox:
        """Children with network access only where remote bases are allowed, and for key services."""
        network = None if self._no_remote_bases else paths.private(store.scratch / "remote-bases")
        services = key_services(self._settings.apply, policy)
        return Toolbox(size=self._settings.engine.toolbox_processes, network=network, key_services=services)

    async def _egress_policy(self, clusters: Clusters) -> EgressPolicy:
        """Under strict tenancy the networks of the cluster are closed to sources."""
        chosen = self._settings.tenancy
        closed = tuple(ipaddress.ip_network(text) for text in chosen.cluster_networks)
        if self._settings.enforces("networks"):
            closed += await cluster_networks(clusters.management.client)
        return EgressPolicy(
            allow_loopback=chosen.allow_loopback, allow_hosts=frozenset(chosen.allow_hosts), deny_networks=closed
        )

    def _controllers(
        self, clusters: Clusters, toolbox: Toolbox, store: Store, egress: Egress, applied: AppliedStore,
        issued: Identities,
    ) -> tuple[AnyController, ...]:  # fmt: skip
        def moved(reference: Reference, part: str, digest: str) -> None:
            self._changed(reference, part, digest)

        def committed(reference: Reference, part: str, digest: str) -> None:
            # Whom a commit is about is known when it is fetched: until then all its sources are bookkeeping.
            self._changed(reference, part, digest, LAST)

        def lost(artifact: Artifact) -> None:
            self._changed(stored_reference(artifact.path), FILE, ABSENT)

        requeue = self._settings.engine.requeue_dependency
        fetcher = Fetcher(egress, localhost=os.environ.get("SOURCE_CONTROLLER_LOCALHOST", ""), requeue=requeue)
        trees = Trees(store, self._clock, fetcher=fetcher, lost=lost, requeue=requeue)
        remotes = Remotes(
            store.mirrors, key=store.installation_key(), egress=egress, clock=self._clock,
            match_versions=toolbox_versions(toolbox), changed=committed,
            ssh_algorithms=ssh_algorithms(self._settings),
        )  # fmt: skip
        consumers = Consumers()
        kustomization = KustomizationController(
            clusters=clusters, toolbox=toolbox, trees=trees, store=applied, clock=self._clock, consumers=consumers,
            options=kustomization_options(self._settings),
            tokens=ServiceAccountTokens(clusters.management.client, self._clock), issuers=issued,
        )  # fmt: skip
        policy = workload_policy(self._settings)
        access = BucketAccess(egress, self._clock, issued, policy, key=store.installation_key())
        git_access = GitAccess(issued, policy)
        bucket = BucketController(access, store, trees, self._clock, moved, consumers)
        generator = ArtifactGeneratorController(
            clusters.management.client, toolbox, store, trees, clock=self._clock, random=self._random,
            policy=generator_policy(self._settings),
        )  # fmt: skip
        repository = GitRepositoryController(remotes, store, trees, self._clock, consumers, git_access)
        registries = registries_of(self._settings, egress, toolbox, store, self._clock, moved)
        oci = oci_controller(
            self._settings, registries, issued, policy, toolbox=toolbox, store=store, trees=trees, clock=self._clock,
            consumers=consumers,
        )  # fmt: skip
        helm = helm_controllers(
            clusters, toolbox, store, trees, egress, fetcher=fetcher, registries=registries, identities=issued,
            policy=policy, verification=verification_of(self._settings, registries, toolbox),
            clock=self._clock, changed=moved, requeue=requeue, allow_insecure=not self._settings.enforces("registries"),
            limits=helm_limits(self._settings),
        )  # fmt: skip
        return repository, oci, bucket, generator, *helm, kustomization

    async def _event_sinks(self, stack: contextlib.AsyncExitStack) -> tuple[Sink, ...]:
        """Who is told of events besides the API server."""
        if not self._settings.edge.events_addr:
            return ()
        try:
            url = parse_url(self._settings.edge.events_addr)
        except UrlRefused as error:
            raise SettingsError(f"events-addr: {error}") from None
        return (await stack.enter_async_context(Notifier(url, self._clock)),)

    def _engine(
        self, clusters: Clusters, controllers: tuple[AnyController, ...], sinks: tuple[Sink, ...]
    ) -> Engine:
        chosen = self._settings.engine
        namespaces = () if chosen.watch_all_namespaces else (self._settings.leader_election.runtime_namespace,)
        settings = EngineSettings(
            concurrent=chosen.concurrent,
            requeue_dependency=chosen.requeue_dependency,
            min_retry_delay=chosen.min_retry_delay,
            max_retry_delay=chosen.max_retry_delay,
            interval_jitter=chosen.interval_jitter_percentage / 100,
            drain_grace=chosen.graceful_shutdown_timeout,
            namespaces=namespaces,
            selector=chosen.watch_label_selector,
            kinds=frozenset(chosen.controllers),
            isolated=self._settings.enforces("references"),
            tenant_account=self._default_account if self._settings.enforces("identity") else "",
            runtime_namespace=self._settings.leader_election.runtime_namespace,
            min_interval=self._settings.min_interval,
            verified_namespaces=frozenset(self._settings.tenancy.verified_namespaces),
        )
        writer = ApiStatusWriter(
            clusters.management.client, Events(clusters.management.client, self._clock, sinks=sinks), self._clock,
            relaxed=self._settings.tenancy.relax,
        )
        access = ClusterAccess(clusters, namespaces=namespaces)
        return Engine(
            access, controllers, writer, settings, clock=self._clock, random=self._random, metrics=self._metrics
        )

    # -- views ---------------------------------------------------------------------------------------------------

    @property
    def _no_remote_bases(self) -> bool:
        return no_remote_bases(self._settings)

    @property
    def _default_account(self) -> str:
        return default_account(self._settings)

    @property
    def _state(self) -> Path:
        return Path(self._settings.storage.state_path or Path(self._settings.storage.storage_path) / ".headrace")

    @property
    def _socket(self) -> Path:
        return Path(self._settings.edge.socket) if self._settings.edge.socket else paths.socket(self._config.server)

    @property
    def _kinds(self) -> tuple[str, ...]:
        named = self._settings.engine.controllers
        return tuple(kind for kind in self._controlled if not named or kind in named)

    def _metrics_listener(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        if reference.group_kind in KINDS and not reference.cluster:
            self._metrics.changed(reference, old, new)

    def _led(self) -> str:
        return "" if self._leads else "another process holds the lease"

    def _synced(self) -> str:
        """Whether every kind that is served is watched."""
        if self._parts is None:
            return "not started"
        informers = self._parts.clusters.management.informers.all()
        synced = {i.resource.kind for i in informers if i.synced and i.resource.group_kind in KINDS}
        missing = set(self._kinds) - synced
        return f"not watched yet: {', '.join(sorted(missing))}" if missing else ""

    def _info(self) -> EngineInfo:
        return EngineInfo(
            __version__, self._config.server, os.getpid(), self._leads, self._kinds, told(self._settings)
        )

    def _stored_bytes(self) -> int:
        """Bytes of the packed artifacts, each content once."""
        content = Path(self._settings.storage.storage_path) / ".headrace" / "content"
        with contextlib.suppress(OSError), os.scandir(content) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())
        return 0


def _nobody_is_told(reference: Reference, part: str, digest: str, lane: Lane = REVISION) -> None:
    """Stands for the engine until it is made, after the sources that tell it of changes."""


def lease_name(settings: Settings) -> str:
    """The lease of this engine; each shard has its own, named as upstream's (sources.md section 5)."""
    import hashlib

    selector = settings.engine.watch_label_selector
    return f"{LEASE}-{hashlib.sha256(selector.encode()).hexdigest()[:8]}" if selector else LEASE


def advertised(address: str, listening: str) -> str:
    """Host and port for artifact URLs: as told, else from the address that is listened on."""
    if address:
        return address
    host, port = parse_address(listening)
    if host in ("0.0.0.0", "::"):
        host = os.environ.get("HOSTNAME", "") or socket.gethostname()
    return f"{host or 'localhost'}:{port}"


def _keep_buffers_small() -> None:
    """asyncio holds 256 KiB for each TLS connection, in which a read is put; two records of TLS are enough, and with
    sixty-four connections, and one for each watch, that is twenty megabytes less."""
    sslproto.SSLProtocol.max_size = _TLS_BUFFER


def _settle_memory() -> None:
    """What is there now stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
