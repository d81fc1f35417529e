"""The phases: each does something to the cluster or the repository and waits until the engine has dealt with it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench import workload
from bench.api import Api
from bench.releases import Release, Sources
from bench.watch import Live, Watch

COMMITS = 5
REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"

Details = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything a phase works with. The watches are those of the bench's namespace, and of the chain's."""

    n: int
    idle: float
    api: Api
    apps: Release
    chain: Release
    kind: Sources
    sources: Watch
    deliveries: Watch
    links: Watch
    deployments: Watch
    restart: Callable[..., Awaitable[None]]

    @property
    def names(self) -> list[str]:
        """The apps' names."""
        return [workload.app_name(index) for index in range(self.n)]

    def source(self, name: str, namespace: str, release: Release) -> workload.Object:
        """The object that follows a release."""
        return self.kind.manifest(name, namespace, release)


async def install(stage: Stage) -> Details:
    """Create every source and Kustomization; ends when all are Ready."""
    async def create(name: str) -> None:
        await stage.api.create(stage.source(name, workload.NAMESPACE, stage.apps))
        await stage.api.create(
            workload.kustomization(
            name, workload.NAMESPACE, source=name, path=f"apps/{name}", kind=stage.kind.kind))

    started = time.monotonic()
    await _each(stage.names, create)
    created = time.monotonic() - started
    await stage.deliveries.until_all(stage.names, ready)
    await stage.sources.until_all(stage.names, ready)
    return {"created after": created}


async def upgrade(stage: Stage) -> Details:
    """Push a commit that changes the Deployment of every app and ask for one source."""
    for name in stage.names:
        _change_image(stage, name, "1.1.0")
    revision = await stage.apps.commit("Release 1.1.0")
    started = time.monotonic()
    await stage.apps.push()
    pushed = time.monotonic() - started
    await _request(stage, stage.kind.plural, stage.names[0])
    await _at_revision(stage, revision)
    return {"pushed after": pushed}


async def idle(stage: Stage) -> Details:
    """Do nothing for a while."""
    await asyncio.sleep(stage.idle)
    return {}


async def reconcile(stage: Stage) -> Details:
    """Ask for every Kustomization, with nothing changed."""
    tokens: dict[str, str] = {}

    async def request(name: str) -> None:
        tokens[name] = await _request(stage, "kustomizations", name)

    started = time.monotonic()
    await _each(stage.names, request)
    asked = time.monotonic() - started
    await asyncio.gather(*(stage.deliveries.until(name, handled(token)) for name, token in tokens.items()))
    return {"asked after": asked}


async def chain(stage: Stage) -> Details:
    """Create a row of Kustomizations, each depending on the one before it, the last one first."""
    source = stage.source("chain", workload.CHAIN_NAMESPACE, stage.chain)
    names = link_names()
    await stage.api.create(source)
    for before, name in reversed(list(zip(["", *names], names, strict=False))):
        await stage.api.create(workload.kustomization(
            name, workload.CHAIN_NAMESPACE, source="chain", path=name, depends_on=before, kind=stage.kind.kind))
    await stage.links.until_all(names, ready)
    return {}


async def commit(stage: Stage) -> Details:
    """Push commits that change one object of one app and ask for its source, then some and ask for that of another
    app; each ends when all objects are Ready at the new revision."""
    own = [await _commit(stage, number, asked=None) for number in range(COMMITS)]
    other = [await _commit(stage, COMMITS + number, asked=stage.names[-1]) for number in range(COMMITS)]
    told = ("changed object", "its Kustomization Ready", "all Ready")
    return {
        f"{whose} to {what} (median)": statistics.median(one[index] for one in seconds)
        for whose, seconds in (("own source", own), ("another source", other))
        for index, what in enumerate(told)
    }


async def _commit(stage: Stage, number: int, *, asked: str | None) -> tuple[float, float, float]:
    """Seconds from the request to what the phase tells."""
    name = stage.names[number % stage.n]
    image = _change_image(stage, name, f"1.2.{number}")
    revision = await stage.apps.commit(f"Release {name} 1.2.{number}")
    await stage.apps.push()
    started = time.monotonic()
    await _request(stage, stage.kind.plural, asked or name)
    await stage.deployments.until(name, runs(image))
    changed = time.monotonic() - started
    await stage.deliveries.until(name, at_revision(revision))
    settled = time.monotonic() - started
    await _at_revision(stage, revision)
    return changed, settled, time.monotonic() - started


async def restart(stage: Stage) -> Details:
    """Stop the engine and start it again."""
    await stage.restart(forgetful=False)
    return {}


async def loss(stage: Stage) -> Details:
    """The same, and what the engine knew of delivered objects is lost."""
    await stage.restart(forgetful=True)
    return {}


PHASES: dict[str, Callable[[Stage], Awaitable[Details]]] = {
    "install": install, "upgrade": upgrade, "idle": idle, "reconcile": reconcile, "chain": chain, "commit": commit,
    "restart": restart, "loss": loss,
}
AFRESH = frozenset({"restart", "loss"})
"""Phases after which another engine counts."""


def link_names() -> list[str]:
    """The links of the chain, first one first."""
    return [f"link-{index:02d}" for index in range(workload.CHAIN_LENGTH)]


def ready(live: Live) -> bool:
    """Ready=True for the object as it is now."""
    return live.status.observed_generation == live.metadata.generation and live.condition("Ready") == "True"


def at_revision(revision: str) -> Callable[[Live], bool]:
    """Ready at this revision, whether it is a source or a delivery."""
    return lambda live: ready(live) and revision in (live.status.last_applied_revision, live.status.artifact.revision)


def handled(token: str) -> Callable[[Live], bool]:
    """Ready, and this request was dealt with."""
    return lambda live: ready(live) and live.status.last_handled_reconcile_at == token


def runs(image: str) -> Callable[[Live], bool]:
    """A Deployment whose first container has this image."""
    return lambda live: any(container.image == image for container in live.spec.template.spec.containers)


async def _each(names: list[str], act: Callable[[str], Awaitable[None]]) -> None:
    """Act on each name, at most 50 at a time: as fast as a script that creates them would."""
    slots = asyncio.Semaphore(50)

    async def one(name: str) -> None:
        async with slots:
            await act(name)

    await asyncio.gather(*(one(name) for name in names))


async def _request(stage: Stage, resource: str, name: str) -> str:
    token = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}Z"
    await stage.api.merge(resource, workload.NAMESPACE, name, {"metadata": {"annotations": {REQUESTED_AT: token}}})
    return token


async def _at_revision(stage: Stage, revision: str) -> None:
    await stage.deliveries.until_all(stage.names, at_revision(revision))
    await stage.sources.until_all(stage.names, at_revision(revision))


def _change_image(stage: Stage, name: str, version: str) -> str:
    image = f"registry.example.com/app:{version}"
    stage.apps.write(f"apps/{name}", workload.app_objects(name, workload.NAMESPACE, image))
    return image
