"""The clusters that are worked with: the management cluster, and those that tenants' kubeconfigs name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable

from headrace.core.backoff import Backoff
from headrace.core.clock import Clock, SystemClock
from headrace.core.random import Random
from headrace.kube.client import USER_AGENT, Client, Fence
from headrace.kube.config import ClientConfig
from headrace.kube.counter import RequestCounter
from headrace.kube.credentials import Issue
from headrace.kube.discovery import Discovery
from headrace.kube.errors import ConfigError, Forbidden, KubeError, NoMatch, Unauthorized
from headrace.kube.informer import WatchSettings
from headrace.kube.informers import Informers
from headrace.kube.listeners import Listener, Listeners
from headrace.kube.wire import Wire
from headrace.model.objects import LiveObject
from headrace.model.reference import MANAGEMENT_CLUSTER, Reference

log = logging.getLogger(__name__)

CUSTOM_RESOURCE_DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")

IDLE = 600.0
"""Seconds for which a remote cluster that nobody holds is kept connected."""


class Cluster:
    """One cluster as one identity: client, discovery, caches. `name` stands in the References of its
    objects."""

    def __init__(
        self,
        name: str,
        client: Client,
        discovery: Discovery,
        informers: Informers,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self.name = name
        self._clock: Clock = clock or SystemClock()
        self._backoff = Backoff(1.0, 60.0, random)
        self._following: asyncio.Task[None] | None = None
        self.client = client
        self.discovery = discovery
        self.informers = informers
        informers.subscribe(self._changed)

    async def follow_kinds(self) -> None:
        """Watch CRDs, so that discovery is read anew when kinds come and go. Where that is forbidden, a kind
        that is missing is looked for again at a limited rate; nothing else depends on it."""
        failures = 0
        while True:
            try:
                await self.informers.ensure(CUSTOM_RESOURCE_DEFINITION, metadata_only=True, holder=self)
                return
            except (Forbidden, Unauthorized, NoMatch, ConfigError) as error:
                fields = {"cluster": self.name, "error": str(error)}
                log.info("custom resource definitions are not watched", extra=fields)
                return
            except KubeError:
                failures += 1
            await self._clock.sleep(self._backoff.delay(failures))

    def follow_kinds_in(self, tasks: asyncio.TaskGroup) -> None:
        """`follow_kinds` as a task that ends with the cluster."""
        self._following = tasks.create_task(self.follow_kinds(), name=f"kinds {self.name}".strip())

    async def close(self) -> None:
        """Stop the watches and close the connections."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self.informers.close()
        await self.client.close()

    def _changed(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        if reference.group_kind == CUSTOM_RESOURCE_DEFINITION:
            self.discovery.invalidate()


class Clusters:
    """All clusters of a process; an async context manager, left by the task that entered it.

    Remote clusters are shared by everybody with the same kubeconfig content, and by nobody else: what one
    tenant's credentials can read is not for another's. `key` makes their names keyed hashes. `fence` is that of all
    clients.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        counter: RequestCounter | None = None,
        user_agent: str = USER_AGENT,
        clock: Clock | None = None,
        random: Random | None = None,
        watch: WatchSettings | None = None,
        idle: float = IDLE,
        key: bytes = b"",
        fence: Fence | None = None,
    ) -> None:
        self.counter = counter if counter is not None else RequestCounter()
        self._config = config
        self._user_agent = user_agent
        self._clock: Clock = clock or SystemClock()
        self._random = random or Random()
        self._watch = watch
        self._idle = idle
        self._key = key
        self._fence = fence
        self._clusters: dict[str, Cluster] = {}
        self._held: dict[Hashable, str] = {}
        self._listeners = Listeners()
        self._tasks = asyncio.TaskGroup()
        self._open = False

    async def __aenter__(self) -> Clusters:
        await self._tasks.__aenter__()
        self._open = True
        self._add(MANAGEMENT_CLUSTER, self._config)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._open = False
        try:
            for cluster in tuple(self._clusters.values()):
                with contextlib.suppress(KubeError):
                    await cluster.close()
        finally:
            await self._tasks.__aexit__(None, None, None)

    @property
    def management(self) -> Cluster:
        """The cluster that holds headrace's own custom resources."""
        return self._clusters[MANAGEMENT_CLUSTER]

    def get(self, name: str) -> Cluster | None:
        """The cluster of a Reference, None when it is not connected (any more)."""
        return self._clusters.get(name)

    def all(self) -> tuple[Cluster, ...]:
        """Every connected cluster."""
        return tuple(self._clusters.values())

    def remote(self, config: ClientConfig, *, holder: Hashable, issue: Issue | None = None) -> Cluster:
        """The cluster of a kubeconfig, connected when first needed. `holder` keeps it until it releases it or
        asks for another one (its kubeconfig changed). `issue` gives its credentials where the config holds none.
        Nothing is sent here, so nothing can fail yet."""
        name = config.identity(self._key)
        cluster = self._clusters.get(name) or self._add(name, config, issue)
        before = self._held.get(holder)
        self._held[holder] = name
        if before is not None and before != name:
            self._unused_later(before)
        return cluster

    def release(self, holder: Hashable) -> None:
        """`holder` needs its remote cluster no more; one that nobody holds is closed after an idle time."""
        name = self._held.pop(holder, None)
        if name is not None:
            self._unused_later(name)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """As `Informers.subscribe`, for all clusters, those connected later included."""
        return self._listeners.subscribe(listener)

    def _add(self, name: str, config: ClientConfig, issue: Issue | None = None) -> Cluster:
        client = Client(
            config,
            user_agent=self._user_agent,
            counter=self.counter,
            cluster=name,
            wire=Wire(config, self._clock, issue=issue),
            clock=self._clock,
            random=self._random,
            fence=self._fence,
        )
        discovery = Discovery(client, clock=self._clock)
        informers = Informers(
            client, discovery, self._tasks, clock=self._clock, random=self._random, settings=self._watch
        )
        cluster = Cluster(name, client, discovery, informers, clock=self._clock, random=self._random)
        self._clusters[name] = cluster
        informers.subscribe(self._listeners.notify)
        cluster.follow_kinds_in(self._tasks)
        return cluster

    def _unused_later(self, name: str) -> None:
        if self._open:
            asyncio.get_running_loop().call_later(self._idle, self._close_unused, name)

    def _close_unused(self, name: str) -> None:
        if self._open and name in self._clusters and name not in self._held.values():
            cluster = self._clusters.pop(name)
            self._tasks.create_task(cluster.close(), name=f"close {name}")
