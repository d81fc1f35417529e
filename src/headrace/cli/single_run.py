"""The scope of a command that looks once: reads ask the API server, nothing is subscribed to, nothing is written."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from headrace.engine.credentials import is_secret, register_secrets
from headrace.kube.cluster import Cluster
from headrace.kube.errors import NotFound
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition
from headrace.model.plan import InventoryEntry
from headrace.model.read import Part, Read
from headrace.model.reference import Reference
from headrace.model.trace import Cause

T = TypeVar("T")


class SingleRun:
    """Implements `model.scope.Scope` for one object. Without a cluster everything is absent."""

    def __init__(self, live: LiveObject, cluster: Cluster | None) -> None:
        self._live = live
        self._cluster = cluster
        self.notes: list[str] = []

    @property
    def live(self) -> LiveObject:
        return self._live

    @property
    def causes(self) -> tuple[Cause, ...]:
        return ()

    async def read(self, reference: Reference, part: Part, *, version: str = "") -> LiveObject | None:
        """One GET. The values of a Secret are registered, so that they appear in no message."""
        if self._cluster is None:
            return None
        resource = await self._cluster.discovery.resource(reference.group, reference.kind, version)
        try:
            live = await self._cluster.client.get(resource, reference.namespace, reference.name)
        except NotFound:
            return None
        if is_secret(reference):
            register_secrets(live)
        return live

    def record(self, read: Read) -> None:
        """Nobody is woken."""

    def forget_parts(self, name: str) -> None:
        """Nothing was recorded."""

    def readers(self, reference: Reference) -> tuple[Reference, ...]:
        return ()

    def hasten(self, reader: Reference) -> None:
        """A command has no lanes."""

    def spare(self, readers: Iterable[Reference]) -> None:
        """Nobody is woken."""

    async def defer(self, note: str) -> None:
        """A command has no lanes."""

    async def wait(self, what: Awaitable[T], *, on: Iterable[Reference] = (), note: str = "") -> T:
        return await what

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        self.notes.append(text)

    def event(
        self, reason: str, message: str, *, warning: bool = False, annotations: Mapping[str, str] = {}
    ) -> None:
        """Nobody is told."""

    async def progress(self, reason: str, message: str, conditions: Sequence[Condition] = ()) -> None:
        """Nobody is told."""

    async def record_inventory(self, entries: Sequence[InventoryEntry]) -> None:
        """Raises RuntimeError: what looks has no inventory to write."""
        raise RuntimeError("a command that only looks does not write an inventory")
