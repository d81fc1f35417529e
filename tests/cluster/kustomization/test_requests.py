"""What a delivery costs the API server: requests are the honest measure."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from headrace.model.trace import LAST
from tests.cluster.kustomization.world import DEADLINE, RunningEngine, World, config_map, deployment


def app() -> dict[str, Any]:
    """The four objects of one app of the bench."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}
    port = {"port": 80, "targetPort": 8080}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
               "spec": {"selector": {"app": "web"}, "ports": [port]}}
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rule = {"host": "web.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
               "spec": {"rules": [rule]}}
    return {"account.yaml": account, "service.yaml": service, "ingress.yaml": ingress,
            "deployment.yaml": deployment("web", 0)}


class Budget:
    """What may have been spent so far. Events are written behind the runs, so each phase is waited for; what comes too
    late or too often shows in the next one."""

    def __init__(self, engine: RunningEngine) -> None:
        self._engine = engine
        self._allowed = Counter(engine.writes())

    async def spends(self, requests: dict[str, int]) -> None:
        self._allowed += Counter(requests)
        allowed = dict(self._allowed)
        try:
            async with asyncio.timeout(DEADLINE):
                while any(self._engine.writes().get(name, 0) < number for name, number in allowed.items()):
                    await asyncio.sleep(0.01)
        finally:
            assert self._engine.writes() == allowed


async def test_each_phase_makes_no_request_that_it_could_avoid(world: World, engine: RunningEngine) -> None:
    budget = Budget(engine)
    world.commit(app())
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, wait=True, timeout="1m")
    await world.ready()
    kinds = ("deployments", "ingresses", "serviceaccounts", "services")
    await budget.spends({f"patch {kind}{dry}": 1 for kind in kinds for dry in ("", " (dry-run)")} | {
        "create events": 2, "patch gitrepositories": 1, "patch gitrepositories/status": 1,
        "patch kustomizations": 1, "patch kustomizations/status": 2,
    })  # fmt: skip

    service = app()["service.yaml"]
    service["spec"]["ports"][0]["port"] = 81
    await world.ready(revision=await world.push({"service.yaml": service}))
    await budget.spends({
        "create events": 2, "patch gitrepositories/status": 1, "patch kustomizations/status": 1,
        "patch services": 1, "patch services (dry-run)": 1,
    })  # fmt: skip

    await world.ready(revision=await world.push({"service.yaml": None}))
    await budget.spends({
        "create events": 2, "patch gitrepositories/status": 1, "patch kustomizations/status": 1,
        "get services": 1, "delete services": 1,
    })  # fmt: skip

    await world.handled("app", await world.request(KUSTOMIZATION, "app"))
    await budget.spends({"create events": 1, "patch kustomizations/status": 1})


async def test_a_commit_that_touches_nothing_that_was_read_only_moves_the_revision(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"app/a.yaml": config_map("a"), "other/b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(path="./app", targetNamespace=world.namespace)
    await world.ready()
    await world.until_event("ConfigMap/")
    await world.until_event("stored artifact", kind="GitRepository")

    budget = Budget(engine)
    revision = await world.push({"other/b.yaml": config_map("b", k="2")})
    await world.ready(revision=revision)
    await budget.spends({"create events": 1, "patch gitrepositories/status": 1, "patch kustomizations/status": 1})
    trace = await engine.until_trace(world.reference(), lambda trace: revision in trace.message)
    assert "build" not in [step.name for step in trace.steps]


async def test_whom_a_commit_is_about_goes_first_and_the_others_only_note_the_revision(
    world: World, engine: RunningEngine
) -> None:
    """All have sources of their own of one repository; what they are told is the revision, without an event."""
    names = [f"app{number}" for number in range(12)]
    world.commit({f"{name}/map.yaml": config_map(name, k="1") for name in names})
    for name in names:
        await world.source(name)
        source = {"kind": "GitRepository", "name": name}
        await world.kustomization(name, path=f"./{name}", targetNamespace=world.namespace, sourceRef=source)
    for name in names:
        await world.ready(name)
        await world.until_event("ConfigMap/", name=name)
        await world.until_event("stored artifact", kind="GitRepository", name=name)

    budget = Budget(engine)
    revision = world.commit({"app5/map.yaml": config_map("app5", k="2")})
    await world.request(GIT_REPOSITORY, "app0")
    for name in names:
        await world.ready(name, revision=revision)
    await budget.spends({
        "create events": 3, "patch gitrepositories/status": 12, "patch kustomizations/status": 12,
        "patch configmaps": 1, "patch configmaps (dry-run)": 1,
    })  # fmt: skip
    for name in names:
        trace = await engine.until_trace(world.reference(name), lambda trace: revision in trace.message)
        assert (trace.lane == LAST) == (name != "app5"), name
    source = GIT_REPOSITORY.reference(world.namespace, "app5")
    assert (await engine.until_trace(source, lambda trace: revision in trace.message)).lane < LAST
