"""Sources as the engine has them, without an engine: a git server, a store, remotes and a controller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headrace.api.gitrepository import GitRepository
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.git.gitrepository import GitRepositoryController
from headrace.core.clock import Clock, SystemClock, rfc3339
from headrace.core.egress import Egress, EgressPolicy
from headrace.model.artifact import Artifact
from headrace.model.errors import StepError
from headrace.model.objects import LiveObject, Metadata
from headrace.model.outcome import Condition, Outcome
from headrace.model.plan import InventoryEntry
from headrace.model.read import Part, Read
from headrace.model.reference import Reference
from headrace.model.trace import Cause
from headrace.source.git.remotes import Remotes
from tests.servers.git_http import GitServer, Repository

T = TypeVar("T")
CREATED = (Cause("created"),)
REQUESTED = (Cause("requested"),)
INTERVAL = (Cause("interval"),)


@dataclass
class RecordedScope:
    """A run without an engine: reads come from `objects`, everything that is said is kept."""

    live: LiveObject
    causes: tuple[Cause, ...] = CREATED
    objects: dict[Reference, LiveObject] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    events: list[tuple[str, str, bool]] = field(default_factory=list)
    said: list[tuple[str, str, tuple[Condition, ...]]] = field(default_factory=list)
    subscribed: tuple[Reference, ...] = ()
    spared: frozenset[Reference] = frozenset()

    async def read(self, reference: Reference, part: Part, *, version: str = "") -> LiveObject | None:
        live = self.objects.get(reference)
        self.record(Read(reference, part.name, part.digest(live, b"key")))
        return live

    def record(self, read: Read) -> None:
        self.reads.append(read)

    def forget_parts(self, name: str) -> None:
        self.reads = [read for read in self.reads if read.part != name]

    def readers(self, reference: Reference) -> tuple[Reference, ...]:
        return self.subscribed

    def hasten(self, reader: Reference) -> None:
        """A run without an engine is the only one."""

    def spare(self, readers: Iterable[Reference]) -> None:
        self.spared = frozenset(readers)

    async def defer(self, note: str) -> None:
        self.note(note)

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
        self.events.append((reason, message, warning))

    async def progress(self, reason: str, message: str, conditions: Sequence[Condition] = ()) -> None:
        self.said.append((reason, message, tuple(conditions)))

    async def record_inventory(self, entries: Sequence[InventoryEntry]) -> None:
        raise AssertionError("a source has no inventory")


@dataclass
class SlotScope(RecordedScope):
    """A run that holds one of few slots, and gives it back while it waits."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    waits: int = 0

    async def wait(self, what: Awaitable[T], *, on: Iterable[Reference] = (), note: str = "") -> T:
        self.waits += 1
        if self.waits == 1:
            self.slots.release()
        try:
            return await what
        finally:
            self.waits -= 1
            if not self.waits:
                await self.slots.acquire()


async def highest_first(wanted: str, tags: Sequence[str]) -> list[str]:
    """Stands for the toolbox where a test is not about ranges: any version, by its numbers."""
    return sorted(tags, key=lambda tag: [int(n) for n in tag.lstrip("v").partition("+")[0].split(".")], reverse=True)


@dataclass
class Sources:
    """One engine's worth of sources, and a repository `repo` on `server` to fetch from."""

    directory: Path
    server: GitServer
    repo: Repository
    egress: Egress
    store: Store
    remotes: Remotes
    trees: Trees
    controller: GitRepositoryController
    changed: list[tuple[Reference, str, str]]
    lost: list[Artifact]
    objects: dict[Reference, LiveObject] = field(default_factory=dict)
    scope: RecordedScope | None = None

    def secret(self, name: str, data: dict[str, bytes], namespace: str = "default") -> None:
        body = {"metadata": {"name": name, "namespace": namespace, "uid": "1"}, "data": data}
        reference = Reference("", "Secret", namespace, name)
        metadata = Metadata(name=name, namespace=namespace, uid="1")
        self.objects[reference] = LiveObject(reference, "v1", metadata, msgspec.json.encode(body))

    def object(self, name: str = "app", *, namespace: str = "default", **spec: Any) -> GitRepository:
        """A GitRepository as the API server would hold it; `spec` in the form of the API."""
        body = {
            "metadata": {"name": name, "namespace": namespace, "generation": 1,
                         "creationTimestamp": rfc3339(SystemClock().now())},
            "spec": {"url": self.server.url(self.repo.name), "interval": "1m", "ref": {"branch": "main"}} | spec,
        }  # fmt: skip
        return msgspec.json.decode(msgspec.json.encode(body), type=GitRepository)

    async def run(self, obj: GitRepository, causes: tuple[Cause, ...] = CREATED) -> tuple[GitRepository, Outcome]:
        """Reconcile; returns the object with its new status, and the outcome. Raises StepError."""
        reference = self.controller.kind.reference(obj.metadata.namespace, obj.metadata.name)
        live = LiveObject(reference, self.controller.kind.api_version, obj.metadata, msgspec.json.encode(obj))
        self.scope = RecordedScope(live, causes, self.objects)
        outcome = await self.controller.reconcile(obj, self.scope)
        return self.with_status(obj, outcome.status), outcome

    def with_status(self, obj: GitRepository, change: dict[str, object]) -> GitRepository:
        content = msgspec.to_builtins(obj)
        status = {**content.get("status", {}), **change, "observedGeneration": obj.metadata.generation}
        content["status"] = {key: value for key, value in status.items() if value is not None}
        return msgspec.convert(content, GitRepository)

    async def failure(self, obj: GitRepository, causes: tuple[Cause, ...] = CREATED) -> StepError:
        """The StepError of a run that must fail."""
        try:
            _, outcome = await self.run(obj, causes)
        except StepError as error:
            return error
        raise AssertionError(f"the run succeeded: {outcome.message}")

    def files(self, artifact: Artifact) -> dict[str, bytes]:
        """What is in a stored artifact."""
        import tarfile

        with tarfile.open(self.store.root / artifact.path) as tar:
            found = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            return {name: file.read() for name, file in found.items() if file is not None}


@contextlib.asynccontextmanager
async def sources(
    directory: Path, *, clock: Clock | None = None, policy: EgressPolicy | None = None, server: GitServer | None = None
) -> AsyncIterator[Sources]:
    """Everything made below `directory`, closed at the end."""
    clock = clock or SystemClock()
    served = directory / "git"
    served.mkdir()
    server = server or GitServer(served)
    server.root = served
    await server.start()
    egress = Egress(policy or EgressPolicy(allow_loopback=True))
    changed: list[tuple[Reference, str, str]] = []
    lost: list[Artifact] = []
    store = Store(directory / "data", "source.example:9090", clock)
    remotes = Remotes(
        store.mirrors, key=store.installation_key(), egress=egress, clock=clock, match_versions=highest_first,
        changed=lambda *moved: changed.append(moved),
    )  # fmt: skip
    trees = Trees(store, clock, lost=lost.append)
    controller = GitRepositoryController(remotes, store, trees, clock)
    try:
        yield Sources(
            directory, server, Repository(served, "app.git"), egress, store, remotes, trees, controller, changed, lost
        )
    finally:
        await egress.close()
        await server.stop()
