"""HelmRepository and HelmChart as users see them: a real engine, a real control plane, real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import GIT_REPOSITORY, HELM_CHART, HELM_REPOSITORY, KindInfo
from headrace.kube.client import MERGE_PATCH
from headrace.kube.errors import Invalid
from headrace.kube.resource import Resource
from tests.cluster.kustomization.conftest import engine, world
from tests.cluster.kustomization.world import Json, RunningEngine, World, condition
from tests.servers.helm_http import HelmServer, chart_files, helm_server

__all__ = ["engine", "world"]


@pytest.fixture
async def server() -> AsyncIterator[HelmServer]:
    async with helm_server() as running:
        running.add("app", "1.0.0")
        yield running


async def repository(world: World, server: HelmServer, **spec: Any) -> None:
    await world.create(HELM_REPOSITORY, "charts", {"url": server.url, "interval": "1h"} | spec)


async def chart(world: World, **spec: Any) -> None:
    source = {"kind": "HelmRepository", "name": "charts"}
    await world.create(HELM_CHART, "app", {"chart": "app", "interval": "1h", "sourceRef": source} | spec)


async def ready(world: World, kind: KindInfo[Any], name: str, revision: str = "") -> Json:
    return await world.until(
        kind, name,
        lambda o: condition(o, "Ready").get("status") == "True"
        and (not revision or o["status"]["artifact"]["revision"] == revision),
    )  # fmt: skip


@pytest.mark.spec("SRC-COM-01", "SRC-COM-14", "SRC-COM-15", "SRC-HRP-01", "SRC-HCH-02", "SRC-HCH-09")
async def test_a_chart_follows_its_repository_by_events(
    world: World, engine: RunningEngine, server: HelmServer
) -> None:
    await chart(world)
    await repository(world, server)
    found = await ready(world, HELM_REPOSITORY, "charts")
    assert found["metadata"]["finalizers"] == ["finalizers.fluxcd.io"]
    assert {c["type"] for c in found["status"]["conditions"]} == {"Ready", "ArtifactInStorage"}
    event = await world.until_event("stored fetched index of size", name="charts", kind="HelmRepository")
    assert event["reason"] == "NewArtifact"
    found = await ready(world, HELM_CHART, "app", "1.0.0")
    told = {c["type"]: (c["status"], c["reason"], c["message"]) for c in found["status"]["conditions"]}
    message = "pulled 'app' chart with version '1.0.0'"
    assert told == {
        "Ready": ("True", "ChartPullSucceeded", message),
        "ArtifactInStorage": ("True", "ChartPullSucceeded", message),
    }
    event = await world.until_event(message, kind="HelmChart")
    assert (event["reason"], event["type"]) == ("ChartPullSucceeded", "Normal")
    server.add("app", "1.1.0")
    await world.request(HELM_REPOSITORY, "charts")
    found = await ready(world, HELM_CHART, "app", "1.1.0")
    trace = await engine.until_trace(HELM_CHART.reference(world.namespace, "app"), lambda t: "1.1.0" in t.message)
    said = f"HelmRepository/{world.namespace}/charts changed (helm-repository)"
    assert [str(cause) for cause in trace.causes] == [said]


@pytest.mark.spec("SRC-HRP-10", "SRC-HRP-11")
async def test_a_repository_that_becomes_oci_is_wiped_and_left_alone(
    world: World, engine: RunningEngine, server: HelmServer, tmp_path: Path
) -> None:
    await repository(world, server)
    found = await ready(world, HELM_REPOSITORY, "charts")
    stored = tmp_path / "state" / "storage" / found["status"]["artifact"]["path"]
    assert stored.is_file()
    await patch(world, "charts", {"spec": {"type": "oci", "url": "oci://registry.example/charts"}})
    found = await world.until(
        HELM_REPOSITORY, "charts",
        lambda o: not o["metadata"].get("finalizers") and not set(o.get("status", {})) - {"observedGeneration"},
    )  # fmt: skip
    assert not stored.exists()
    before = engine.writes()
    await patch(world, "charts", {"spec": {"interval": "2h"}})
    await engine.until_trace(
        HELM_REPOSITORY.reference(world.namespace, "charts"),
        lambda t: t.result == "gone" and "spec" in [cause.what for cause in t.causes],
    )
    assert engine.writes() == before
    await world.create(HELM_REPOSITORY, "born-oci", {"url": "oci://registry.example/x", "type": "oci"})
    reference = HELM_REPOSITORY.reference(world.namespace, "born-oci")
    await engine.until_trace(reference, lambda t: t.result == "gone")
    assert engine.writes() == before


@pytest.mark.spec("SRC-HCH-13", "SRC-COM-13")
async def test_denied_access_is_shown_as_upstream_shows_it(
    world: World, engine: RunningEngine, server: HelmServer
) -> None:
    await repository(world, server)
    await ready(world, HELM_REPOSITORY, "charts")
    server.basic = ("user", "password")
    await chart(world)
    found = await world.until(HELM_CHART, "app", lambda o: condition(o, "Ready").get("status") == "False")
    assert condition(found, "FetchFailed")["reason"] == "Unknown"
    assert condition(found, "Ready")["reason"] == "Unknown"
    assert condition(found, "Ready")["message"].startswith("unknown build error: failed to authenticate")
    event = await world.until_event("failed to authenticate with the Helm repository", kind="HelmChart")
    assert (event["type"], event["reason"]) == ("Warning", "AuthenticationFailed")


@pytest.mark.spec("SRC-HCH-20")
async def test_a_chart_that_cannot_be_verified_says_so_in_two_conditions(
    world: World, engine: RunningEngine, server: HelmServer
) -> None:
    await repository(world, server)
    await chart(world, verify={"provider": "cosign"})
    found = await world.until(HELM_CHART, "app", lambda o: condition(o, "SourceVerified").get("status") == "False")
    assert condition(found, "BuildFailed")["reason"] == "ChartVerificationError"
    assert condition(found, "SourceVerified")["reason"] == "VerificationError"
    assert condition(found, "Ready")["reason"] == "VerificationError"


@pytest.mark.spec("SRC-HCH-19")
async def test_verification_of_a_chart_of_a_git_source_is_rejected(world: World) -> None:
    with pytest.raises(Invalid, match="only supported when spec.sourceRef.kind is 'HelmRepository'"):
        await chart(world, sourceRef={"kind": "GitRepository", "name": "app"}, verify={"provider": "cosign"})


@pytest.mark.spec("SRC-HCH-06", "SRC-HCH-09")
async def test_a_commit_makes_a_new_chart_with_the_revision_strategy(world: World, engine: RunningEngine) -> None:
    at = world.commit({f"charts/app/{name}": content for name, content in chart_files().items()})
    await world.source()
    source = {"kind": "GitRepository", "name": "app"}
    await chart(world, chart="charts/app", sourceRef=source, reconcileStrategy="Revision")
    found = await ready(world, HELM_CHART, "app", f"1.0.0+{at.rpartition(':')[2][:12]}")
    assert found["status"]["observedSourceArtifactRevision"] == at
    at = world.commit({"README.md": "more"})
    await world.request(GIT_REPOSITORY, "app")
    await ready(world, HELM_CHART, "app", f"1.0.0+{at.rpartition(':')[2][:12]}")


async def patch(world: World, name: str, body: Json) -> None:
    kind = HELM_REPOSITORY
    resource = Resource(kind.group, kind.storage_version, kind.kind, kind.plural, namespaced=True)
    await world.client.patch(resource, world.namespace, name, msgspec.json.encode(body), content_type=MERGE_PATCH)
