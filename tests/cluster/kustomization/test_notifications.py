"""Events by HTTP, as a receiver sees them; and what the trace of a run says of its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.core.clock import SystemClock
from headrace.core.egress import parse_url
from headrace.status.notifier import Notifier
from tests.cluster.kustomization.world import RunningEngine, World, config_map, running_engine
from tests.eventually import eventually
from tests.servers.control_plane import ControlPlane
from tests.servers.event_receiver import EventReceiver


@pytest.mark.spec("KS-OPS-04", "SRC-COM-27")
async def test_what_happens_to_sources_and_kustomizations_is_posted(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    receiver = EventReceiver()
    await receiver.start()

    def posted(controller: str, reason: str) -> dict[str, Any] | None:
        return next((event for event in receiver.events
                     if (event["reportingController"], event["reason"]) == (controller, reason)), None)

    async with Notifier(parse_url(receiver.url), SystemClock()) as notifier:
        state = tmp_path / "state"
        async with running_engine(cluster.config, state, world.namespace, sinks=(notifier,)):
            revision = world.commit({"a.yaml": config_map("a", k="1"), "b.yaml": "{"})
            await world.source()
            await world.kustomization(targetNamespace=world.namespace)
            await world.failed(reason="BuildFailed")
            await eventually(lambda: posted("kustomize-controller", "BuildFailed"))
            stored = posted("source-controller", "NewArtifact")
            failed = posted("kustomize-controller", "BuildFailed")
            fixed = await world.push({"b.yaml": None})
            await world.ready(revision=fixed)
            await eventually(lambda: posted("kustomize-controller", "ReconciliationSucceeded"))
    await receiver.stop()

    assert stored is not None
    assert (stored["severity"], stored["involvedObject"]["kind"]) == ("info", "GitRepository")
    assert failed is not None
    assert failed["severity"] == "error"
    assert failed["involvedObject"]["name"] == "app"
    assert failed["metadata"]["kustomize.toolkit.fluxcd.io/revision"] == revision
    succeeded = posted("kustomize-controller", "ReconciliationSucceeded")
    assert succeeded is not None
    assert succeeded["severity"] == "info"
    assert f"ConfigMap/{world.namespace}/a created" in str(succeeded["message"])


async def test_the_trace_of_a_run_counts_its_requests(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": config_map("a", k="1")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)
    await world.ready()
    token = await world.request(KUSTOMIZATION, "app")
    await world.handled("app", token)
    forced = await engine.until_caused(world.reference(), "requested")
    assert forced.requests == 2, "the status and the event"
    first = await engine.until_trace(world.reference(), lambda trace: trace.requests > 2)
    assert first.result == "succeeded"
