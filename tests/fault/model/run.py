"""A run: rounds of one commit and some faults each, and now and then a pause in which everything has to come right."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from headrace.api.kinds import GIT_REPOSITORY
from headrace.kube.errors import KubeError
from tests.cluster.kustomization.world import World
from tests.fault.model.commits import commit, mended
from tests.fault.model.desired import HOME, OWNERS, Json, Key, Repository, Revision, difference
from tests.fault.model.judge import Judge, condition, inventory_of, owner_of, ready_at
from tests.fault.model.observer import Observer
from tests.fault.model.process import EngineProcess
from tests.fault.model.trouble import FAULTS, Trouble, Undo

PAUSE_EVERY = 10
API_SERVER_EVERY = 30
"""Rounds between two deaths of the API server: each costs seconds."""
DEADLINE = 90.0
"""Seconds until all is right once all faults have ended; it takes a few."""
SETTLED = 0.3
"""Seconds after which an event is judged: watches of different kinds are not equally quick."""


class Violated(AssertionError):
    """An invariant does not hold."""


@dataclass
class Run:
    """See the module. `log` gets the story: commits, faults and, with a violation, all that happened since."""

    seed: int
    world: World
    observer: Observer
    judge: Judge
    trouble: Trouble
    engine: EngineProcess
    log: Path
    repository: Repository
    pauses: list[float] = field(default_factory=list)
    _undo: list[tuple[int, Undo]] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)

    async def rounds(self, count: int) -> None:
        """So many rounds. Raises Violated."""
        for number in range(1, count + 1):
            await self._round(number)
            if number % PAUSE_EVERY == 0 or number == count:
                await self.pause(number)

    async def _round(self, number: int) -> None:
        chance = random.Random(f"{self.seed}/{number}")
        await self.push(commit(self.repository.head, chance), f"round {number}")
        for what in self._faults(number, chance):
            undo = await self.trouble.begin(what, random.Random(f"{self.seed}/{number}/{what}"))
            self._undo.append((number + chance.randint(0, 3), undo))
        await asyncio.sleep(chance.uniform(0.0, 0.5))  # the moment is what is tested
        await self._end_faults(number)
        self.check()

    def _faults(self, number: int, chance: random.Random) -> list[str]:
        names = list(dict.fromkeys(chance.choices(list(FAULTS), list(FAULTS.values()), k=chance.choice((0, 1, 1, 2)))))
        if number % API_SERVER_EVERY == API_SERVER_EVERY // 2:
            names.append("api_server")
        return names

    async def push(self, revision: Revision, what: str) -> None:
        """Commit a revision and ask the source to look."""
        before = self.repository.head.files() if self.repository.revisions else {}
        files = revision.files()
        changed: dict[str, str | None] = {name: text for name, text in files.items() if before.get(name) != text}
        changed |= dict.fromkeys(before.keys() - files.keys())
        self.repository.revisions.append(replace(revision, at=time.monotonic()))
        name = await asyncio.to_thread(self.world.commit, changed)
        self.repository.revisions[-1] = replace(self.repository.head, name=name)
        self.tell(f"{what}: revision {revision.index} ({name[-7:]}): {'; '.join(revision.did)}")
        await self._ask()

    async def _ask(self) -> None:
        """A push is told of. Whoever tells tries again only for a while."""
        for _ in range(3):
            with contextlib.suppress(KubeError):
                await self.world.request(GIT_REPOSITORY, "app")
                return
            await asyncio.sleep(0.1)

    async def _end_faults(self, number: int | None) -> None:
        """End those that last until this round, or all."""
        due = [undo for until, undo in self._undo if number is None or until <= number]
        self._undo = [] if number is None else [(until, undo) for until, undo in self._undo if until > number]
        for undo in due:
            await undo()

    # -- judging ---------------------------------------------------------------------------------------------------

    def check(self, *, everything: bool = False) -> None:
        """Judge what has happened. Raises Violated."""
        if self.engine.ended:
            self._fail(["the engine has ended by itself"])
        if everything or self.observer.connected:
            self.judge.judge(self.observer.take(time.monotonic() - (0.0 if everything else SETTLED)))
        if self.judge.violations:
            self._fail(self.judge.violations)

    async def pause(self, number: int) -> None:
        """All faults end: what is not broken has to come right, and after that is mended, all. Raises Violated."""
        await self._end_faults(None)
        self.trouble.proxy.clear()
        self.engine.thaw()
        await self.engine.start()
        self.tell(f"pause after round {number}")
        await self._ask()
        began = time.monotonic()
        await self._until(self._unbroken, "what is not broken")
        if self.repository.head.broken:
            chance = random.Random(f"{self.seed}/{number}/mend")
            await self.push(mended(self.repository.head, chance), "mended")
        await self._until(self._everything, "everything")
        self.pauses.append(time.monotonic() - began)
        self.tell(f"all is right after {self.pauses[-1]:.1f}s")
        wrong = self._everything(await self.observer.fresh())
        if wrong:
            self._fail([f"C: by new lists: {wrong}"])
        self.trouble.foreign.unsure.clear()
        self._lines.clear()
        self.judge.story.clear()

    async def _until(self, wrong: Callable[[dict[Key, Json]], str], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while (said := wrong(self.observer.live)) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            self.check()
        await asyncio.sleep(SETTLED)
        self.check(everything=True)
        if said:
            self._fail([f"C: {what} is not right {DEADLINE:g}s after the last fault: {said}"])

    def _unbroken(self, live: dict[Key, Json]) -> str:
        """What is wrong with Kustomizations that are not broken; broken ones have to say so."""
        head = self.repository.head
        needs = {key.kind for owner in head.broken for key in head.wanted[owner]} & {"CustomResourceDefinition"}
        for owner in OWNERS:
            ks = live.get(Key("Kustomization", HOME, owner), {})
            if owner in head.broken:
                status = ks.get("status", {})
                failed = condition(ks, "Ready").get("status") == "False"
                if not failed or status.get("lastAttemptedRevision") != head.name:
                    return f"{owner} is broken ({head.broken[owner].what}) and does not say so: {_said(ks)}"
            elif needs and any(key.kind == "Widget" for key in head.wanted[owner]):
                continue  # its definition is broken, or comes with what is
            elif wrong := self._wrong(owner, live):
                return wrong
        return ""

    def _everything(self, live: dict[Key, Json]) -> str:
        """What differs between the cluster and the newest revision; empty when nothing does."""
        for owner in OWNERS:
            if wrong := self._wrong(owner, live):
                return wrong
            listed = inventory_of(live[Key("Kustomization", HOME, owner)])
            wanted = {item.id for item in self.repository.head.wanted[owner].values()}
            if listed != wanted:
                return f"the inventory of {owner} differs: {sorted(listed ^ wanted)}"
        for key, each in live.items():
            owner = owner_of(each)
            unwanted = owner and key not in self.repository.head.wanted[owner]
            if unwanted and "deletionTimestamp" not in each["metadata"] and not self.judge.is_forged(each):
                return f"{key} is still of {owner}, which does not want it"
        return ""

    def _wrong(self, owner: str, live: dict[Key, Json]) -> str:
        ks = live.get(Key("Kustomization", HOME, owner), {})
        if ready_at(ks) != self.repository.head.name:
            return f"{owner} is not Ready at {self.repository.head.name[-7:]}: {_said(ks)}"
        for key, item in self.repository.head.wanted[owner].items():
            if key not in live:
                return f"{key} of {owner} is not there"
            if wrong := difference(item, live[key]):
                return wrong
            if owner_of(live[key]) != owner:
                return f"{key} is of '{owner_of(live[key])}', not of {owner}"
        return ""

    # -- report ----------------------------------------------------------------------------------------------------

    def tell(self, line: str) -> None:
        line = f"{time.monotonic():.3f} {line}"
        self._lines.append(line)
        with self.log.open("a") as file:
            file.write(line + "\n")

    def _fail(self, violations: list[str]) -> None:
        """Raises Violated, with everything since all was right the last time."""
        story = sorted(self._lines + self.judge.story, key=lambda line: float(line.split()[0]))
        said = "\n".join(violations)
        with self.log.open("a") as file:
            file.write("\n".join(["VIOLATED", said, "what happened since all was right:", *story]) + "\n")
        print(f"\nSEED={self.seed}\nwhat happened since all was right (the whole log: {self.log}):")
        print("\n".join(story[-400:]))
        print(f"\nthe engine's log:\n{self.engine.said()}")
        raise Violated(f"SEED={self.seed}\n{said}")


def _said(kustomization: Json) -> str:
    ready, status = condition(kustomization, "Ready"), kustomization.get("status", {})
    applied, attempted = (status.get(name, "")[-7:] for name in ("lastAppliedRevision", "lastAttemptedRevision"))
    says = f"{ready.get('status')} {ready.get('reason')} {ready.get('message')}"
    return f"applied {applied}, attempted {attempted}, Ready={says}"
