"""An Informer: list + watch + cache of one selection of one kind, kept right through every fault of the
connection.

It lists (streaming where the server can), follows the watch from there, goes on from the last resourceVersion
when the connection ends, lists again when that is too old, and infers at each list what was deleted meanwhile
(REL-12).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator

import msgspec

from headrace.core.backoff import Backoff
from headrace.core.clock import Clock
from headrace.core.random import Random
from headrace.kube.client import Client
from headrace.kube.counter import WATCH
from headrace.kube.discovery import Discovery
from headrace.kube.errors import (
    ApiError,
    BadRequest,
    ConfigError,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NoMatch,
    NotFound,
    Timeout,
    Unauthorized,
)
from headrace.kube.objects import Envelope, newer, slim
from headrace.kube.resource import Resource
from headrace.kube.selector import LabelSelector
from headrace.kube.watch import SILENCE, Event, Selection, watch
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

log = logging.getLogger(__name__)

Project = Callable[[LiveObject], LiveObject]
Notify = Callable[[Reference, LiveObject | None, LiveObject | None], None]

_LIST_TIMEOUT = 60.0
_SHORT_WATCH = 1.0
"""Seconds below which a watch that ends without an event counts as failed, so that it is not opened at
speed."""
_RELIST_AFTER = 3
"""Failures in a row without progress after which the list is read again: the version itself may be what
fails."""


class WatchSettings(msgspec.Struct, frozen=True):
    """Times of all watches, in seconds."""

    silence: float = SILENCE
    grace: float = 15.0
    """How long a cache still counts as true after its watch broke off."""
    retry_minimum: float = 0.5
    retry_maximum: float = 30.0
    refused_minimum: float = 30.0
    refused_maximum: float = 300.0
    duration: int = 300
    """Shortest life of a watch connection; the longest is twice that, as client-go has it."""


class Abilities:
    """What was found out about a server, shared by its informers."""

    def __init__(self) -> None:
        self.streaming_list = True


class State(enum.Enum):
    """Where an informer stands."""

    NEW = "not yet synced"
    SYNCED = "synced"
    REFUSED = "refused"
    STOPPED = "stopped"


class Informer:
    """See the module. Made by `Informers.ensure`; `run` is its task."""

    def __init__(
        self,
        client: Client,
        discovery: Discovery,
        selection: Selection,
        resource: Resource,
        *,
        notify: Notify,
        project: Project | None = None,
        abilities: Abilities | None = None,
        settings: WatchSettings | None = None,
        clock: Clock,
        random: Random,
    ) -> None:
        self.selection = selection
        self.resource = resource
        self.state = State.NEW
        self.error: KubeError | None = None
        """Why it is not connected, None while it is."""
        self.relists = 0
        self.holders: set[Hashable] = set()
        self._client = client
        self._discovery = discovery
        self._notify = notify
        self._project = project or (slim if selection.metadata_only else _same)
        self._abilities = abilities or Abilities()
        self._settings = settings or WatchSettings()
        self._clock = clock
        self._random = random
        self._selector = LabelSelector(selection.label_selector)
        self._objects: dict[tuple[str, str], LiveObject] = {}
        self._version = ""
        self._observed: set[tuple[str, str]] | None = None
        self._failures = 0
        self._disconnected_at: float | None = None
        self._settled = asyncio.Event()
        self._wake = asyncio.Event()

    @property
    def version(self) -> str:
        """The resourceVersion up to which the cache knows of changes."""
        return self._version

    @property
    def synced(self) -> bool:
        """Whether the cache can be trusted: it was filled, and its watch is connected or was just now."""
        if self.state is not State.SYNCED:
            return False
        since = self._disconnected_at
        return since is None or self._clock.monotonic() - since < self._settings.grace

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[LiveObject]:
        """All cached objects."""
        return iter(list(self._objects.values()))

    def get(self, namespace: str, name: str) -> LiveObject | None:
        """The cached object, whatever the state of the watch."""
        return self._objects.get((namespace, name))

    def selects(self, reference: Reference) -> bool:
        """Whether an object of this name and namespace belongs to the selection, labels apart."""
        selection = self.selection
        return (
            reference.group_kind == (selection.group, selection.kind)
            and selection.namespace in ("", reference.namespace)
            and selection.name in ("", reference.name)
        )

    def covers(self, reference: Reference) -> bool:
        """Whether absence from the cache means that there is no such object."""
        return self.synced and not self.selection.label_selector and self.selects(reference)

    async def wait_synced(self, timeout: float = 30.0) -> None:
        """Return once the cache is filled for the first time.

        Raises Forbidden, Unauthorized, NoMatch or ConfigError as soon as the list is refused, and what keeps
        failing (or Timeout) after `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        except TimeoutError:
            raise self.error or Timeout(
                0, "Timeout", f"no list of {self.resource.plural} within {timeout:g}s"
            ) from None
        if self.state is not State.SYNCED:
            raise self.error or ConfigError(f"the watch of {self.resource.plural} was stopped")

    def wake(self) -> None:
        """Try again now what failed before: something changed."""
        self._wake.set()

    async def run(self) -> None:
        """Keep the cache right until cancelled. Never ends by an error."""
        try:
            while True:
                await self._attempt()
        finally:
            self.state = State.STOPPED
            self._settled.set()

    def observe(self, live: LiveObject) -> None:
        """Take over the answer to a write of our own, unless the cache is further already (REL-13)."""
        key = _key(live)
        if key not in self._objects and newer(live.metadata.resource_version, self._version) is False:
            # The watch has passed this version and the object is not there: it was deleted meanwhile.
            return
        if not self._selector.matches(live.metadata.labels):
            self._drop(live)
        elif self._put(_partial(live) if self.selection.metadata_only else live) and self._observed is not None:
            self._observed.add(key)

    async def _attempt(self) -> None:
        """One connection, and the wait after it."""
        started, version = self._clock.monotonic(), self._version
        self._wake.clear()  # before: what happens during the attempt may be what makes the next one succeed
        try:
            await self._connect()
            short = self._clock.monotonic() - started < _SHORT_WATCH and self._version == version
            delay = self._after_end(short)
        except KubeError as error:
            delay = self._after_error(error)
        except Exception:
            log.exception("watch failed unexpectedly", extra=self._fields())
            delay = self._after_error(KubeError("internal error"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._wake.wait()

    async def _connect(self) -> None:
        """Follow the watch until it ends, after a list where one is needed."""
        if self.state is State.REFUSED:
            # The kind may be served in another version now, or not at all.
            selection = self.selection
            self.resource = await self._discovery.resource(selection.group, selection.kind, selection.version)
        if not self._version:
            if self._abilities.streaming_list and await self._stream():
                return
            await self._list()
        await self._follow()

    async def _list(self) -> None:
        self._observed = set()
        selection = self.selection
        listing = await self._client.list(
            self.resource,
            selection.namespace,
            label_selector=selection.label_selector,
            field_selector=selection.field_selector,
            metadata_only=selection.metadata_only,
            timeout=_LIST_TIMEOUT,
            purpose=WATCH,
        )
        self._replace(listing.items, listing.resource_version)

    async def _stream(self) -> bool:
        """List and watch in one request: the initial events, closed by a bookmark, then what changes. False
        when the server cannot do that."""
        self._observed = set()
        initial: list[LiveObject] | None = []
        try:
            async with asyncio.timeout(_LIST_TIMEOUT) as deadline, self._events(initial_events=True) as batches:
                async for batch in batches:
                    for event in batch:
                        if initial is None:
                            self._handle(event)
                        elif event.initial_end:
                            deadline.reschedule(None)
                            self._replace(initial, event.resource_version)
                            initial = None
                        elif event.live is not None:
                            initial.append(event.live)
        except (BadRequest, Invalid):
            if initial is None:
                raise
            # Before Kubernetes 1.32, or with the feature turned off.
            self._abilities.streaming_list = False
            return False
        except TimeoutError:
            raise Timeout(0, "Timeout", f"no list of {self.resource.plural} within {_LIST_TIMEOUT:g}s") from None
        return True

    async def _follow(self) -> None:
        async with self._events() as batches:
            async for batch in batches:
                self._connected()
                for event in batch:
                    self._handle(event)

    @contextlib.asynccontextmanager
    async def _events(self, *, initial_events: bool = False) -> AsyncIterator[AsyncIterator[list[Event]]]:
        duration = self._settings.duration
        batches = watch(
            self._client,
            self.resource,
            self.selection,
            resource_version="" if initial_events else self._version,
            initial_events=initial_events,
            timeout_seconds=round(self._random.uniform(duration, 2 * duration)),
            silence=self._settings.silence,
        )
        async with contextlib.aclosing(batches):
            yield batches

    def _handle(self, event: Event) -> None:
        if event.live is None:
            if event.resource_version:
                self._version = event.resource_version
        elif event.type == "DELETED":
            self._drop(event.live)
            self._version = event.resource_version
        else:
            self._put(event.live)
            self._version = event.resource_version
        self._failures = 0

    def _put(self, live: LiveObject) -> bool:
        """Take over a version of an object; False when the cache holds it, or a newer one, already."""
        key = _key(live)
        old = self._objects.get(key)
        if old is not None:
            version, held = live.metadata.resource_version, old.metadata.resource_version
            if version == held or newer(held, version):
                return False
        new = self._project(live)
        self._objects[key] = new
        self._notify(new.reference, old, new)
        return True

    def _drop(self, live: LiveObject) -> None:
        key = _key(live)
        old = self._objects.get(key)
        if old is None or newer(old.metadata.resource_version, live.metadata.resource_version):
            # Made again since, as an answer to a write of ours has told.
            return
        del self._objects[key]
        self._notify(old.reference, old, None)

    def _replace(self, items: Iterable[LiveObject], version: str) -> None:
        """Make the cache what a list says, wholesale: after a restored etcd it may even be older than the
        cache. Only what our own writes have told during the list is newer."""
        observed, self._observed = self._observed or set(), None
        found = {_key(live): live for live in items}
        for key in [key for key in self._objects if key not in found]:
            kept = self._objects[key]
            if not (key in observed and newer(kept.metadata.resource_version, version)):
                del self._objects[key]
                self._notify(kept.reference, kept, None)
        for key, live in found.items():
            old = self._objects.get(key)
            if old is not None:
                held, listed = old.metadata.resource_version, live.metadata.resource_version
                if held == listed or (key in observed and newer(held, listed)):
                    continue
            new = self._objects[key] = self._project(live)
            self._notify(new.reference, old, new)
        self._version = version
        self.relists += 1
        self._synced()

    def _synced(self) -> None:
        self.state = State.SYNCED
        self._connected()
        self._failures = 0
        self._settled.set()

    def _connected(self) -> None:
        self._disconnected_at = None
        self.error = None

    def _after_end(self, short: bool) -> float:
        """Seconds until the watch is opened again after the server ended it in peace."""
        self._disconnected_at = self._disconnected_at or self._clock.monotonic()
        if short:
            self._failures += 1
            return self._backoff()
        return self._random.uniform(0.0, 0.1)

    def _after_error(self, error: KubeError) -> float:
        """Seconds until the next attempt; decides what of the state still holds."""
        self._failures += 1
        answered = self._disconnected_at is None or isinstance(error, ApiError)
        self._disconnected_at = self._disconnected_at or self._clock.monotonic()
        self.error = error
        if isinstance(error, (Forbidden, Unauthorized, NotFound, NoMatch, ConfigError)):
            return self._refused(error)
        if isinstance(error, Gone) or _version_too_large(error) or (answered and self._failures % _RELIST_AFTER == 0):
            self._version = ""
        log.info("watch ended", extra={**self._fields(), "error": str(error), "failures": self._failures})
        if isinstance(error, Gone) and self._failures == 1:
            return self._random.uniform(0.0, 0.2)
        return max(self._backoff(), _asked_delay(error))

    def _refused(self, error: KubeError) -> float:
        if isinstance(error, Unauthorized) and self._failures == 1:
            # The client has looked for other credentials by now.
            return self._random.uniform(0.0, 0.2)
        if self.state is not State.REFUSED:
            log.warning("watch refused", extra={**self._fields(), "error": str(error)})
        if isinstance(error, NoMatch):
            self._forget_all()
        elif isinstance(error, NotFound):
            # Perhaps only the version is gone, or the server is starting: discovery tells, at the next
            # attempt.
            self._discovery.invalidate()
        self.state = State.REFUSED
        self._version = ""
        if isinstance(error, NotFound) and self._failures == 1:
            return self._random.uniform(0.3, 0.6)
        self._settled.set()
        settings = self._settings
        return self._spread(settings.refused_minimum, settings.refused_maximum)

    def _forget_all(self) -> None:
        """The kind is served no more, so none of its objects exists."""
        objects, self._objects = self._objects, {}
        for old in objects.values():
            self._notify(old.reference, old, None)

    def _backoff(self) -> float:
        return self._spread(self._settings.retry_minimum, self._settings.retry_maximum)

    def _spread(self, minimum: float, maximum: float) -> float:
        """The delay after so many failures, widely spread: what ended all watches at once must not bring them
        back at once (REL-20)."""
        return Backoff(minimum, maximum, self._random).delay(self._failures) * self._random.uniform(0.5, 1.5)

    def _fields(self) -> dict[str, str]:
        selection = self.selection
        return {"kind": selection.kind, "group": selection.group, "cluster": self._client.cluster}


def _same(live: LiveObject) -> LiveObject:
    return live


def _key(live: LiveObject) -> tuple[str, str]:
    return live.metadata.namespace, live.metadata.name


def _partial(live: LiveObject) -> LiveObject:
    """A whole object as a watch of metadata would have shown it."""
    if live.partial:
        return live
    raw = msgspec.json.encode(Envelope(live.api_version, live.reference.kind, live.metadata))
    return LiveObject(live.reference, live.api_version, live.metadata, raw, partial=True)


def _version_too_large(error: KubeError) -> bool:
    """The server is behind our version: another one behind a load balancer, or one restored from a backup."""
    if not isinstance(error, ApiError):
        return False
    causes = error.details.causes if error.details is not None else None
    return any(cause.reason == "ResourceVersionTooLarge" for cause in causes or ())


def _asked_delay(error: KubeError) -> float:
    return (error.retry_after or 0.0) if isinstance(error, ApiError) else 0.0
