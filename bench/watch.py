"""Readiness by watch: the newest state of the objects of one kind in one namespace, and waiting for it.

The bench never polls, so that it does not add to what it measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

Predicate = Callable[["Live"], bool]


class Condition(msgspec.Struct):
    """A condition of a status."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class Metadata(msgspec.Struct, rename="camel"):
    """Metadata as far as it is needed."""

    name: str
    generation: int = 0


class Artifact(msgspec.Struct):
    """`status.artifact` as far as it is needed."""

    revision: str = ""


class Status(msgspec.Struct, rename="camel"):
    """The status fields that say whether something is done, of all watched kinds together."""

    observed_generation: int = -1
    conditions: list[Condition] = []
    last_applied_revision: str = ""
    last_handled_reconcile_at: str = ""
    artifact: Artifact = msgspec.field(default_factory=Artifact)


class Container(msgspec.Struct):
    """A container's image."""

    image: str = ""


class PodSpec(msgspec.Struct):
    """The containers of a pod template."""

    containers: list[Container] = []


class Template(msgspec.Struct):
    """A pod template."""

    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class Spec(msgspec.Struct):
    """The spec of a Deployment as far as it is needed."""

    template: Template = msgspec.field(default_factory=Template)


class Live(msgspec.Struct):
    """An object as the API server shows it."""

    metadata: Metadata
    spec: Spec = msgspec.field(default_factory=Spec)
    status: Status = msgspec.field(default_factory=Status)

    def condition(self, kind: str) -> str:
        """Status of a condition, empty when there is none."""
        return next((condition.status for condition in self.status.conditions if condition.type == kind), "")


class Watch:
    """What is known of the objects of one kind, by name, and who waits for what of them."""

    def __init__(self) -> None:
        self._objects: dict[str, Live] = {}
        self._waiting: dict[str, list[tuple[Predicate, asyncio.Future[None]]]] = {}

    def changed(self, raw: bytes) -> None:
        """Take in an object as it is now."""
        live = msgspec.json.decode(raw, type=Live)
        self._objects[live.metadata.name] = live
        waiting = self._waiting.pop(live.metadata.name, [])
        still = [(predicate, future) for predicate, future in waiting if not _settle(live, predicate, future)]
        if still:
            self._waiting[live.metadata.name] = still

    def replaced(self, raws: Iterable[bytes]) -> None:
        """Take in a list of all objects there are."""
        self._objects.clear()
        for raw in raws:
            self.changed(raw)

    def deleted(self, name: str) -> None:
        """Forget an object."""
        self._objects.pop(name, None)

    async def until(self, name: str, predicate: Predicate) -> None:
        """Wait until the predicate holds for an object, which need not exist yet."""
        live = self._objects.get(name)
        if live is not None and predicate(live):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, []).append((predicate, future))
        await future

    async def until_all(self, names: Iterable[str], predicate: Predicate) -> None:
        """Wait until the predicate holds for all of them, each at some time."""
        await asyncio.gather(*(self.until(name, predicate) for name in names))

    def unfinished(self) -> list[str]:
        """Whom somebody still waits for, with what its conditions say: for the message of a phase that timed out."""
        return [f"{name}: {self._describe(name)}" for name in sorted(self._waiting)]

    def _describe(self, name: str) -> str:
        live = self._objects.get(name)
        if live is None:
            return "does not exist"
        return "; ".join(f"{c.type}={c.status} {c.reason}: {c.message}" for c in live.status.conditions) or "no status"


def _settle(live: Live, predicate: Predicate, future: asyncio.Future[None]) -> bool:
    """Whether this waiter is done with."""
    if future.done():
        return True
    if predicate(live):
        future.set_result(None)
        return True
    return False
