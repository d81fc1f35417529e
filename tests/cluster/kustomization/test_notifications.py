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


MARK = "kustomize.toolkit.fluxcd.io/commit_status"
REVISION = "kustomize.toolkit.fluxcd.io/revision"


@pytest.mark.spec("KS-REC-13")
async def test_commits_are_marked_by_events_of_their_own_even_where_nothing_has_changed(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    """notification-controller sends what is marked to git servers alone, and of a success nothing else to them."""
    receiver = EventReceiver()
    await receiver.start()

    def of(revision: str, *, marked: bool) -> list[str]:
        return [str(event["message"]) for event in receiver.events
                if event["reportingController"] == "kustomize-controller"
                and event["metadata"].get(REVISION) == revision and (MARK in event["metadata"]) is marked]

    async with Notifier(parse_url(receiver.url), SystemClock()) as notifier:
        async with running_engine(cluster.config, tmp_path / "state", world.namespace, sinks=(notifier,)):
            first = world.commit({"app/a.yaml": config_map("a", k="1")})
            await world.source()
            await world.kustomization(path="app", targetNamespace=world.namespace)
            await world.ready()
            await eventually(lambda: of(first, marked=True))
            second = await world.push({"readme.md": "nothing that is delivered"})
            await world.ready(revision=second)
            await eventually(lambda: of(second, marked=True))
            third = await world.push({"app/a.yaml": "{"})
            await world.failed(reason="BuildFailed")
            await eventually(lambda: of(third, marked=False))
            told = await world.events()
    await receiver.stop()

    assert of(first, marked=False) == [f"ConfigMap/{world.namespace}/a created"]
    assert [message.partition(" in ")[0] for message in of(first, marked=True)] == ["Reconciliation finished"]
    assert of(second, marked=False) == []
    assert of(third, marked=True) == []
    assert [event["reason"] for event in told] == ["ReconciliationSucceeded", "BuildFailed"], "for sinks alone"


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
