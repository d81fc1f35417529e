"""What a delivery costs the API server: requests are the honest measure."""

from __future__ import annotations

from typing import Any

from headrace.api.kinds import KUSTOMIZATION
from tests.cluster.kustomization.world import RunningEngine, World, config_map, deployment


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


def spent(engine: RunningEngine, before: dict[str, int]) -> dict[str, int]:
    now = engine.writes()
    return {name: now[name] - before.get(name, 0) for name in sorted(now) if now[name] != before.get(name, 0)}


async def test_each_phase_makes_no_request_that_it_could_avoid(world: World, engine: RunningEngine) -> None:
    world.commit(app())
    before = engine.writes()
    await world.source()
    await world.kustomization(targetNamespace=world.namespace, wait=True, timeout="1m")
    ks = await world.ready()
    await engine.until_trace(world.reference(), lambda trace: trace.result == "succeeded")
    assert spent(engine, before) == {
        "create events": 2,
        "patch gitrepositories": 1,
        "patch gitrepositories/status": 1,
        "patch kustomizations": 1,
        "patch kustomizations/status": 2,
        **{f"patch {kind}{dry}": 1 for kind in ("deployments", "ingresses", "serviceaccounts", "services")
           for dry in ("", " (dry-run)")},
    }

    before = engine.writes()
    service = app()["service.yaml"]
    service["spec"]["ports"][0]["port"] = 81
    revision = await world.push({"service.yaml": service})
    await world.ready(revision=revision)
    await engine.until_trace(world.reference(), lambda trace: revision in trace.message)
    upgraded = spent(engine, before)
    assert upgraded.pop("patch services (dry-run)") == upgraded.pop("patch services") == 1
    assert upgraded == {"create events": 2, "patch gitrepositories/status": 1, "patch kustomizations/status": 1}

    before = engine.writes()
    token = await world.request(KUSTOMIZATION, "app")
    await world.handled("app", token)
    await engine.until_caused(world.reference(), "requested")
    assert spent(engine, before) == {"create events": 1, "patch kustomizations/status": 1}
    assert ks["status"]["history"][0]["totalReconciliations"] == 1


async def test_a_commit_that_touches_nothing_that_was_read_only_moves_the_revision(
    world: World, engine: RunningEngine
) -> None:
    world.commit({"app/a.yaml": config_map("a"), "other/b.yaml": config_map("b")})
    await world.source()
    await world.kustomization(path="./app", targetNamespace=world.namespace)
    await world.ready()

    before = engine.writes()
    revision = await world.push({"other/b.yaml": config_map("b", k="2")})
    await world.ready(revision=revision)
    await engine.until_trace(world.reference(), lambda trace: revision in trace.message)
    counted = spent(engine, before)
    assert counted == {"create events": 1, "patch gitrepositories/status": 1, "patch kustomizations/status": 1}
    [trace, *_] = engine.traces(world.reference())
    assert "build" not in [step.name for step in trace.steps]
