"""The floor: a bare client that makes only the requests that no engine can avoid.

For each app 2 creates, 2 finalizer patches, 1 inventory write, 4 dry-runs, 4 applies, 2 status writes and 2 events,
and the wait for the Deployment, 50 apps in flight, in a namespace of its own. What an engine takes longer than this
is its own doing; what it takes is what the cluster costs.
"""

from __future__ import annotations

import asyncio
import time

from bench import workload
from bench.api import Api
from bench.watch import Live, Watch
from bench.workload import Object

IN_FLIGHT = 50
WARM_UP = 20
_MANAGER = "kustomize-controller"
_SOURCE, _DELIVERY = "gitrepositories", "kustomizations"
_REVISION = "main@sha1:" + "0" * 40


class Floor:
    """Delivers apps with no engine at all."""

    def __init__(self, api: Api, deployments: Watch, namespace: str) -> None:
        """`deployments` watches the Deployments of `namespace`."""
        self._api = api
        self._deployments = deployments
        self._namespace = namespace
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def measure(self, n: int) -> float:
        """Seconds for `n` apps, after a warm-up."""
        await self._deliver([f"warm-{index:03d}" for index in range(WARM_UP)])
        started = time.monotonic()
        await self._deliver([workload.app_name(index) for index in range(n)])
        return time.monotonic() - started

    async def _deliver(self, names: list[str]) -> None:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._app(name))

    async def _app(self, name: str) -> None:
        async with self._slots:
            source = await self._source(name)
            await self._kustomization(name, source)

    async def _source(self, name: str) -> Object:
        created = await self._api.create(
            workload.git_repository(name, self._namespace, "http://localhost/apps.git"))
        await self._finalize(_SOURCE, name)
        await self._status(_SOURCE, name, {"conditions": [_ready("Succeeded", "stored artifact")], "artifact": {
            "path": f"gitrepository/{name}.tar.gz", "url": f"http://localhost/{name}.tar.gz", "revision": _REVISION,
            "digest": "sha256:" + "0" * 64, "lastUpdateTime": _now(), "size": 1}})
        await self._event(created, "NewArtifact", "stored artifact for commit 'first'")
        return created

    async def _kustomization(self, name: str, source: Object) -> None:
        created = await self._api.create(
            workload.kustomization(name, self._namespace, source=source["metadata"]["name"], path=f"apps/{name}"))
        await self._finalize(_DELIVERY, name)
        objects = [_owned(item, name, self._namespace) for item in workload.app_objects(name, self._namespace)]
        inventory = {"inventory": {"entries": [_entry(item) for item in objects]}}
        await self._status(_DELIVERY, name, inventory)
        for dry_run in (True, False):
            await asyncio.gather(*(self._api.apply(item, manager=_MANAGER, dry_run=dry_run) for item in objects))
        await self._deployments.until(name, deployment_is_current)
        await self._status(_DELIVERY, name, {"conditions": [_ready("ReconciliationSucceeded", "Applied revision")],
                                             "lastAppliedRevision": _REVISION, "observedGeneration": 1})
        await self._event(created, "ReconciliationSucceeded", "Reconciliation finished")

    async def _finalize(self, resource: str, name: str) -> None:
        patch = {"metadata": {"finalizers": ["finalizers.fluxcd.io"]}}
        await self._api.merge(resource, self._namespace, name, patch)

    async def _status(self, resource: str, name: str, status: Object) -> None:
        await self._api.merge(resource, self._namespace, name, {"status": status}, subresource="status")

    async def _event(self, about: Object, reason: str, message: str) -> None:
        metadata = about["metadata"]
        involved = {"apiVersion": about["apiVersion"], "kind": about["kind"], "name": metadata["name"],
                    "namespace": metadata["namespace"], "uid": metadata["uid"]}
        name = f"{metadata['name']}.{about['kind'].lower()}.{time.monotonic_ns():x}"
        await self._api.create({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": self._namespace},
            "involvedObject": involved, "reason": reason, "message": message, "type": "Normal", "count": 1,
            "firstTimestamp": _now(), "lastTimestamp": _now(), "source": {"component": "bench"}})


def deployment_is_current(live: Live) -> bool:
    """A Deployment whose controller has seen its generation and says that it is available."""
    return live.status.observed_generation == live.metadata.generation and live.condition("Available") == "True"


def _owned(item: Object, name: str, namespace: str) -> Object:
    labels = {f"{workload.OWNER}/name": name, f"{workload.OWNER}/namespace": namespace}
    return {**item, "metadata": {**item["metadata"], "labels": labels}}


def _entry(item: Object) -> dict[str, str]:
    group, _, version = item["apiVersion"].rpartition("/")
    metadata = item["metadata"]
    return {"id": f"{metadata['namespace']}_{metadata['name']}_{group}_{item['kind']}", "v": version}


def _ready(reason: str, message: str) -> Object:
    return {"type": "Ready", "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": _now()}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
