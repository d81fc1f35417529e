"""All informers of one cluster: made when first asked for, shared, and stopped when nobody holds them any
more."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Hashable, Iterable

from headrace.core.clock import Clock, SystemClock
from headrace.core.random import Random
from headrace.kube.client import Client
from headrace.kube.discovery import Discovery
from headrace.kube.errors import ConfigError, KubeError, NotFound
from headrace.kube.informer import Abilities, Informer, Project, State, WatchSettings
from headrace.kube.listeners import Listener, Listeners
from headrace.kube.objects import newer
from headrace.kube.resource import Resource
from headrace.kube.watch import Selection
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

REFUSAL = 60.0
"""Seconds for which a refused watch is not asked for again: callers poll meanwhile."""
IDLE = 120.0
"""Seconds for which an informer that nobody holds is kept."""


class Missing(enum.Enum):
    """The answer of `Informers.get` when no informer knows: not the same as None, which is known absence."""

    MISSING = "not watched"


MISSING = Missing.MISSING


class Informers:
    """See the module. `tasks` is the TaskGroup in which the watches run; they never end it by an error."""

    def __init__(
        self,
        client: Client,
        discovery: Discovery,
        tasks: asyncio.TaskGroup,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        settings: WatchSettings | None = None,
        idle: float = IDLE,
    ) -> None:
        self._client = client
        self._discovery = discovery
        self._tasks = tasks
        self._clock: Clock = clock or SystemClock()
        self._random = random or Random()
        self._settings = settings or WatchSettings()
        self._idle = idle
        self._abilities = Abilities()
        self._informers: dict[Selection, Informer] = {}
        self._by_kind: dict[tuple[str, str], list[Informer]] = {}
        self._running: dict[Selection, asyncio.Task[None]] = {}
        self._refused: dict[Selection, tuple[KubeError, float]] = {}
        self._listeners = Listeners()
        self._closed = False
        discovery.subscribe(self._discovery_changed)

    async def ensure(
        self,
        group_kind: tuple[str, str],
        *,
        version: str = "",
        namespace: str = "",
        label_selector: str = "",
        name: str = "",
        metadata_only: bool = False,
        project: Project | None = None,
        holder: Hashable = "",
        timeout: float = 30.0,
        keep_trying: bool = False,
    ) -> Informer:
        """The informer of this selection, synced; the same one for everybody who asks for the same.

        `project` drops from each object what need not be kept (first come, first served; default: metadata
        without managedFields, full objects whole). `holder` keeps the informer until it releases it; asking
        twice holds once. Raises NoMatch, Forbidden and what else keeps the list from succeeding within
        `timeout`. A refusal is remembered for a minute; only with `keep_trying`, or when it has worked before, a
        refused informer goes on trying, slowly.
        """
        resource = await self._discovery.resource(*group_kind, version)
        selection = Selection(
            group=resource.group,
            kind=resource.kind,
            # Metadata is the same in every version, so one watch serves all.
            version="" if metadata_only else version,
            namespace=namespace if resource.namespaced else "",
            label_selector=label_selector,
            name=name,
            metadata_only=metadata_only,
        )
        self._raise_refusal(selection)
        informer = self._informers.get(selection)
        if informer is None:
            informer = self._start(selection, resource, project)
        informer.holders.add(holder)
        try:
            await informer.wait_synced(timeout)
        except KubeError as error:
            # One that has worked before is relied upon by others: it goes on trying, whoever asks meanwhile.
            if informer.state is State.REFUSED and not informer.relists and not keep_trying:
                self._refused[selection] = (error, self._clock.monotonic() + REFUSAL)
                self._stop(informer)
            raise
        return informer

    def get(self, reference: Reference, *, full: bool = False) -> LiveObject | Missing | None:
        """What the caches know of an object: itself, None when it is known not to exist, MISSING when no
        synced informer covers it. `full` asks for a whole object, not only metadata."""
        found: LiveObject | None = None
        absent_at: str | None = None
        for informer in self._matching(reference, full):
            live = informer.get(reference.namespace, reference.name)
            if live is not None:
                found = live if found is None or _prefer(live, found) else found
            elif informer.covers(reference):
                absent_at = informer.version
        if found is None:
            return MISSING if absent_at is None else None
        gone = absent_at is not None and newer(absent_at, found.metadata.resource_version)
        return None if gone else found

    def covers(self, reference: Reference, *, full: bool = False) -> bool:
        """Whether a change of this object, its creation and deletion included, is told to listeners."""
        return any(informer.covers(reference) for informer in self._matching(reference, full))

    def observe(self, live: LiveObject) -> None:
        """Feed the answer to a write of our own into the caches, so that the next read sees it (REL-13).
        Listeners are told as of any change."""
        for informer in tuple(self._by_kind.get(live.reference.group_kind, ())):
            if informer.state not in (State.NEW, State.SYNCED) or not informer.selects(live.reference):
                continue
            whole = informer.selection.metadata_only or (
                not live.partial and live.api_version == informer.resource.api_version
            )
            if whole:
                informer.observe(live)

    def subscribe(self, listener: Listener, references: Iterable[Reference] | None = None) -> Callable[[], None]:
        """See `Listeners.subscribe`. Listeners are called synchronously; an object that two informers hold is told
        twice."""
        return self._listeners.subscribe(listener, references)

    def release(self, informer: Informer, holder: Hashable = "") -> None:
        """`holder` needs the informer no more; without holders it stops after an idle time."""
        informer.holders.discard(holder)
        if not informer.holders and not self._closed:
            asyncio.get_running_loop().call_later(self._idle, self._stop_idle, informer)

    def all(self) -> tuple[Informer, ...]:
        """Every informer that runs."""
        return tuple(self._informers.values())

    async def close(self) -> None:
        """Stop all watches and wait until they are gone."""
        self._closed = True
        running = tuple(self._running.values())
        for informer in self.all():
            self._stop(informer)
        if running:
            await asyncio.wait(running)

    def _matching(self, reference: Reference, full: bool) -> list[Informer]:
        if reference.cluster != self._client.cluster:
            return []
        candidates = self._by_kind.get(reference.group_kind, ())
        return [
            informer
            for informer in candidates
            if not (full and informer.selection.metadata_only) and informer.synced and informer.selects(reference)
        ]

    def _start(self, selection: Selection, resource: Resource, project: Project | None) -> Informer:
        if self._closed:
            raise ConfigError(f"the watches of cluster '{self._client.cluster}' are closed")
        informer = Informer(
            self._client,
            self._discovery,
            selection,
            resource,
            notify=self._listeners.notify,
            project=project,
            abilities=self._abilities,
            settings=self._settings,
            clock=self._clock,
            random=self._random,
        )
        self._informers[selection] = informer
        self._by_kind.setdefault((selection.group, selection.kind), []).append(informer)
        name = f"watch {self._client.cluster} {resource.group_resource}".strip()
        self._running[selection] = self._tasks.create_task(informer.run(), name=name)
        return informer

    def _stop(self, informer: Informer) -> None:
        selection = informer.selection
        if self._informers.get(selection) is not informer:
            return
        del self._informers[selection]
        self._by_kind[selection.group, selection.kind].remove(informer)
        self._running.pop(selection).cancel()

    def _stop_idle(self, informer: Informer) -> None:
        if not informer.holders:
            self._stop(informer)

    def _raise_refusal(self, selection: Selection) -> None:
        refusal = self._refused.get(selection)
        if refusal is None:
            return
        error, until = refusal
        if self._clock.monotonic() < until and not isinstance(error, NotFound):
            raise error.with_traceback(None)
        del self._refused[selection]

    def _discovery_changed(self) -> None:
        for informer in self.all():
            if informer.state is State.REFUSED:
                informer.wake()


def _prefer(live: LiveObject, found: LiveObject) -> bool:
    """Of two caches, the one that is further; a whole object rather than metadata where both are equal."""
    version, held = live.metadata.resource_version, found.metadata.resource_version
    return (found.partial and not live.partial) if version == held else newer(version, held) is True
