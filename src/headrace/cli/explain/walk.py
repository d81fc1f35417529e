"""Follows verdicts from object to object until nothing explains further: dependencies, sources, delivered objects,
their ReplicaSets and pods."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from headrace.cli.explain.verdict import State, Verdict, is_ours, judge, missing
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

_DEPTH = 16
_AT_ONCE = 8


class Event(msgspec.Struct, frozen=True):
    """The newest Warning about an object, as the cluster's components wrote it."""

    reason: str
    message: str
    at: str = ""


class NextRun(msgspec.Struct, frozen=True):
    """What the engine says about an object: when it runs next (RFC 3339, empty: not by timer), and what wakes it."""

    at: str = ""
    waiting_on: tuple[str, ...] = ()
    running: bool = False


class World(Protocol):
    """What explaining reads."""

    async def get(self, reference: Reference) -> LiveObject | None:
        """The object; None when it does not exist. Raises Unreadable."""
        ...

    async def owned(self, owner: LiveObject, group: str, kind: str) -> Sequence[LiveObject]:
        """The objects of one kind that `owner` controls."""
        ...

    async def warning(self, live: LiveObject) -> Event | None:
        """The newest Warning event about the object."""
        ...

    async def next_run(self, reference: Reference) -> NextRun | None:
        """What the engine plans; None when no engine of this user answers."""
        ...


class Unreadable(Exception):
    """The object may exist but could not be read: forbidden, or its kind is unknown to the cluster."""


class Finding(msgspec.Struct, frozen=True):
    """One object with its verdict, and what it blames."""

    reference: Reference
    verdict: Verdict
    causes: tuple[Finding, ...] = ()
    event: Event | None = None
    next_run: NextRun | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with the object."""
        return self.verdict.state is State.READY

    @property
    def root(self) -> Finding:
        """The deepest finding of the first branch that is not sound."""
        worst = next((cause for cause in self.causes if not cause.sound), None)
        return worst.root if worst else self


class Explainer:
    """Explains objects of one world; an object that comes up twice is looked at once, and a cycle is named."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def explain(self, reference: Reference) -> Finding:
        """The finding on `reference` with everything that it blames."""
        return await self._find(reference, ())

    async def _find(self, reference: Reference, path: tuple[Reference, ...]) -> Finding:
        if reference in path:
            cycle = " -> ".join(map(str, (*path[path.index(reference) :], reference)))
            return Finding(reference, Verdict(State.FAILED, "DependencyCycle", cycle,
                                              unblock="take one dependsOn out of the cycle"))  # fmt: skip
        try:
            async with self._slots:
                live = await self._world.get(reference)
        except Unreadable as error:
            return Finding(reference, Verdict(State.UNREADABLE, "Unreadable", str(error), unblock=str(error)))
        if live is None:
            return Finding(reference, missing(reference))
        return await self._found(live, (*path, reference))

    async def _found(self, live: LiveObject, path: tuple[Reference, ...]) -> Finding:
        verdict = judge(live)
        finding = Finding(live.reference, verdict)
        if is_ours(live.reference):
            finding = msgspec.structs.replace(finding, next_run=await self._world.next_run(live.reference))
        if len(path) >= _DEPTH:
            return finding
        causes = await self._causes(live, verdict, path)
        event = None
        if verdict.state is not State.READY and not causes and not is_ours(live.reference):
            event = await self._world.warning(live)
        return msgspec.structs.replace(finding, causes=causes, event=event)

    async def _causes(self, live: LiveObject, verdict: Verdict, path: tuple[Reference, ...]) -> tuple[Finding, ...]:
        """Findings that are not sound; a sound object that is followed explains nothing."""
        if verdict.state in (State.SUSPENDED, State.MISSING):
            return ()
        followed = [self._find(reference, path) for reference in verdict.follow]
        owned = [child for group, kind in verdict.owned for child in await self._newest(live, group, kind)]
        found = await asyncio.gather(*followed, *(self._found(child, (*path, child.reference)) for child in owned))
        return tuple(sorted((f for f in found if not f.sound), key=_severity))

    async def _newest(self, owner: LiveObject, group: str, kind: str) -> Sequence[LiveObject]:
        """What `owner` controls; of ReplicaSets only that of the newest revision, the others are being scaled down."""
        children = await self._world.owned(owner, group, kind)
        if kind != "ReplicaSet" or not children:
            return children[:5]
        return [max(children, key=lambda c: int(c.metadata.annotation("deployment.kubernetes.io/revision") or 0))]


def _severity(finding: Finding) -> int:
    """Failures first: what is merely under way usually waits for them."""
    order = (State.FAILED, State.MISSING, State.SUSPENDED, State.UNREADABLE, State.WAITING, State.PROGRESSING)
    state = finding.root.verdict.state
    return order.index(state) if state in order else len(order)
