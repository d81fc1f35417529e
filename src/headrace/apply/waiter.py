"""Waiting on watches: until delivered objects are healthy, or until deleted ones are gone.

Nothing is polled: each event of a watch is judged by `health`, and time alone only where a rule says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from headrace.apply import health
from headrace.apply.expressions import HealthRules
from headrace.apply.health import CURRENT, NOT_FOUND, Health, Status
from headrace.apply.target import Target
from headrace.kube.errors import KubeError, NotFound
from headrace.kube.listeners import owners
from headrace.kube.objects import newer
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

POD = ("", "Pod")


class Checked(msgspec.Struct, frozen=True, gc=False):
    """One object whose health counts.

    `owned` says that it is one of the delivered ones; `version` is the resourceVersion below which the watch shows
    it as it was before our write; `may_vanish` that its absence is success (a Job with a TTL, KS-HC-07).
    """

    reference: Reference
    owned: bool = True
    version: str = ""
    may_vanish: bool = False


class Unhealthy(Exception):
    """What was waited for did not come; `text` is upstream's sentence, `objects` those that are to blame."""

    def __init__(self, text: str, objects: Iterable[Reference]) -> None:
        super().__init__(text)
        self.text = text
        self.objects = tuple(objects)


class HealthWait:
    """One wait for a set of objects. `answers` are what writes were answered with, newest state known so far."""

    def __init__(
        self, target: Target, checked: Iterable[Checked], answers: Mapping[Reference, LiveObject],
        *, rules: HealthRules | None = None, fail_fast: bool = True,
    ) -> None:
        self._target = target
        self._answers = answers
        self._rules = rules
        self._fail_fast = fail_fast
        self._pending = {check.reference: check for check in checked}
        self._verdicts: dict[Reference, Health] = {}
        self._moved = asyncio.Event()
        self._dirty: set[Reference] = set()
        self._asked: dict[Reference, LiveObject] = {}
        self._unwatched: set[tuple[str, str]] = set()
        for reference in self._pending:
            self._judge(reference, answers.get(reference))

    @property
    def open(self) -> tuple[Reference, ...]:
        """The objects that are not Current."""
        return tuple(r for r in self._pending if self._verdicts[r].status is not Status.CURRENT)

    def _done(self) -> bool:
        """Whether nothing is left to wait for. Raises Unhealthy as soon as that is sure (KS-HC-05, KS-HC-06)."""
        verdicts = [self._verdicts[reference] for reference in self._pending]
        failed = any(verdict.status is Status.FAILED for verdict in verdicts)
        final = all(verdict.final for verdict in verdicts)
        if failed and (self._fail_fast or final):
            raise Unhealthy(f"failed early due to stalled resources: {self._described(failed_only=True)}", self.open)
        return final

    async def wait(self, timeout: float) -> None:
        """Return when all are Current. Raises Unhealthy when one has failed or after `timeout` seconds."""
        await self._evaluate()
        if self._done():
            return
        unsubscribe = self._target.subscribe(self._on_change, self._pending)
        try:
            async with asyncio.timeout(timeout):
                await self._watch()
                await self._follow()
        except TimeoutError:
            raise Unhealthy(f"timeout waiting for: {self._described()}", self.open) from None
        finally:
            unsubscribe()

    async def _follow(self) -> None:
        while not self._done():
            rechecks = [verdict.recheck for verdict in self._verdicts.values() if verdict.recheck is not None]
            try:
                async with asyncio.timeout(min(rechecks, default=None)):
                    await self._moved.wait()
            except TimeoutError:
                self._dirty |= set(self.open)
            self._moved.clear()
            dirty, self._dirty = self._dirty, set()
            for reference in dirty & self._pending.keys():
                self._judge(reference, self._target.whole(reference))
            await self._evaluate()

    # -- watches ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Have everything that is still open watched, and judge what the watches know."""
        kinds = {self._selection(self._pending[reference]) for reference in self.open}
        kinds |= {(POD, reference.namespace, False)
                  for reference in self.open if reference.group_kind in health.POD_KINDS}
        async with asyncio.TaskGroup() as group:
            for kind, namespace, owned in kinds:
                group.create_task(self._ensure(kind, namespace, owned))
        for reference in self.open:
            if reference.group_kind not in self._unwatched:
                self._judge(reference, self._target.whole(reference))
        await self._evaluate()

    def _selection(self, check: Checked) -> tuple[tuple[str, str], str, bool]:
        return check.reference.group_kind, "" if check.owned else check.reference.namespace, check.owned

    async def _ensure(self, kind: tuple[str, str], namespace: str, owned: bool) -> None:
        """A kind that cannot be watched stays Unknown until the timeout, as a read error does upstream."""
        try:
            if not owned:
                await self._allowed(kind, namespace)
            await self._target.watch_health(kind, namespace=namespace, owned=owned)
        except KubeError as error:
            self._unwatched.add(kind)
            for reference in self.open:
                if reference.group_kind == kind:
                    self._verdicts[reference] = Health(Status.UNKNOWN, str(error))

    async def _allowed(self, kind: tuple[str, str], namespace: str) -> None:
        """The tenant must be allowed to read what somebody else has delivered (SEC-52). Raises Forbidden."""
        resource = await self._target.resource(kind, "")
        for reference in self._pending:
            if reference.group_kind == kind and reference.namespace == namespace:
                try:
                    await self._target.client.get(resource, namespace, reference.name, metadata_only=True)
                except NotFound:
                    continue

    def _on_change(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        self._dirty |= {reference, *owners(old, new)} & self._pending.keys()
        self._moved.set()

    # -- verdicts --------------------------------------------------------------------------------------------------

    def _judge(self, reference: Reference, live: LiveObject | None) -> None:
        check = self._pending[reference]
        if live is not None and check.version and newer(check.version, live.metadata.resource_version):
            live = self._answers.get(reference)  # the watch shows it as it was before our write
            if live is None:
                self._verdicts[reference] = Health(Status.IN_PROGRESS, "not seen since it was applied")
                return
        self._asked.pop(reference, None)
        if live is None:
            self._verdicts[reference] = self._absent(check)
        elif self._ruled(reference) and not live.partial:
            self._asked[reference] = live
            self._verdicts.setdefault(reference, Health(Status.IN_PROGRESS, "not judged yet"))
        else:
            pods = self._pods(live) if reference.group_kind in health.POD_KINDS else []
            content = {} if live.partial else live.content()
            self._verdicts[reference] = health.assess(reference, content, now=self._target.clock.now(), pods=pods)

    def _ruled(self, reference: Reference) -> bool:
        return self._rules is not None and self._rules.covers(reference)

    async def _evaluate(self) -> None:
        """Have the rules of the specification judge what has moved and they cover, all in one call."""
        asked, self._asked = self._asked, {}
        if asked and self._rules is not None:
            self._verdicts |= await self._rules.assess(asked.values())

    def _absent(self, check: Checked) -> Health:
        ruled = self._ruled(check.reference)
        if check.owned and not ruled and check.reference.group_kind in health.ALWAYS_CURRENT:
            return CURRENT  # was applied or is unchanged, as the watch of delivered objects tells
        return CURRENT if check.may_vanish else NOT_FOUND

    def _pods(self, owner: LiveObject) -> list[Mapping[str, object]]:
        uid = owner.metadata.uid
        return [
            pod.content()
            for pod in self._target.all_in(POD, owner.metadata.namespace)
            if any(ref.uid == uid for ref in pod.metadata.owner_references or ())
        ]

    def _described(self, *, failed_only: bool = False) -> str:
        """Upstream's list of objects that are not as they should be, and why nothing is known of one (KS-HC-04)."""
        parts = [
            f"{reference} status: '{verdict.status.value}'"
            + (f": {verdict.message}" if verdict.status is Status.UNKNOWN else "")
            for reference, verdict in ((r, self._verdicts[r]) for r in self._pending)
            if (verdict.status is Status.FAILED if failed_only else verdict.status is not Status.CURRENT)
        ]
        return f"[{', '.join(parts)}]"

    def reasons(self) -> list[str]:
        """Why each open object is not Current, for the trace."""
        return [f"{r}: {self._verdicts[r].status.value}: {self._verdicts[r].message}" for r in self.open]


async def wait_gone(
    target: Target, references: Iterable[Reference], exists: Callable[[Reference], Awaitable[bool]], timeout: float
) -> tuple[Reference, ...]:
    """Wait until deleted objects are gone; returns those that are not after `timeout` seconds.

    `exists` asks the cluster: the watch of delivered objects only tells when to ask, and about which. What no watch
    covers is looked at again and again, ever more slowly.
    """
    left = dict.fromkeys(references)
    moved, dirty = asyncio.Event(), set(left)
    pause = UNWATCHED_LOOKS[0]

    def on_change(reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        if reference in left:
            dirty.add(reference)
            moved.set()

    unsubscribe = target.subscribe(on_change, tuple(left))
    try:
        async with asyncio.timeout(timeout):
            while True:
                moved.clear()
                while dirty:
                    if not await exists(reference := dirty.pop()):
                        left.pop(reference, None)
                if not left:
                    return ()
                unwatched = [reference for reference in left if not target.look(reference, None).watched]
                if not await _happens(moved, pause if unwatched else None):
                    dirty.update(unwatched)
                    pause = min(2 * pause, UNWATCHED_LOOKS[1])
    except TimeoutError:
        return tuple(left)
    finally:
        unsubscribe()


UNWATCHED_LOOKS = (2.0, 30.0)
"""Seconds between looks at objects that no watch covers: upstream's interval at first, and the most it doubles to."""


async def _happens(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether the event comes within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
