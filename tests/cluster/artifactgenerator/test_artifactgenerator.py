"""ArtifactGenerator and ExternalArtifact as users see them: a real engine, a real control plane, a real git server."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from headrace.api.kinds import ARTIFACT_GENERATOR, EXTERNAL_ARTIFACT
from headrace.controllers.kustomize.kustomization import KustomizationOptions
from headrace.controllers.sources.artifact import SourcePolicy
from headrace.kube.client import MERGE_PATCH
from headrace.model.reference import Reference
from headrace.status.external import RESOURCE
from tests.cluster.kustomization.conftest import engine, world
from tests.cluster.kustomization.world import Json, RunningEngine, World, condition, config_map, running_engine
from tests.servers.control_plane import ControlPlane

__all__ = ["engine", "world"]

FILES = {"apps/a/cm.yaml": config_map("a"), "apps/b/cm.yaml": config_map("b"), "README.md": "read me"}


def reference(world: World, name: str = "app") -> Reference:
    return ARTIFACT_GENERATOR.reference(world.namespace, name)


def output(name: str, from_: str = "", **more: Any) -> Json:
    return {"name": name, "copy": [{"from": from_ or f"@git/apps/{name}/**", "to": "@artifact/"}]} | more


async def generator(world: World, *outputs: Json, name: str = "app", **spec: Any) -> None:
    sources = [{"alias": "git", "kind": "GitRepository", "name": "app"}]
    await world.create(ARTIFACT_GENERATOR, name, {"sources": sources, "artifacts": list(outputs)} | spec)


async def generated(world: World, count: int, name: str = "app") -> Json:
    """Wait until the generator is Ready with so many artifacts, for its present generation."""
    return await world.until(
        ARTIFACT_GENERATOR, name,
        lambda o: condition(o, "Ready").get("message") == f"reconciliation succeeded, generated {count} artifact(s)"
        and condition(o, "Ready")["observedGeneration"] == o["metadata"]["generation"],
    )  # fmt: skip


async def failing(world: World, reason: str, name: str = "app") -> Json:
    return await world.until(
        ARTIFACT_GENERATOR, name,
        lambda o: (condition(o, "Ready").get("status"), condition(o, "Ready").get("reason")) == ("False", reason),
    )  # fmt: skip


async def external(world: World, name: str) -> Json:
    """Wait until an ExternalArtifact is ready."""
    return await world.until(EXTERNAL_ARTIFACT, name, lambda o: condition(o, "Ready").get("status") == "True")


def stored_files(tmp_path: Path, found: Json) -> dict[str, str]:
    """The files of the artifact that an ExternalArtifact offers; checks its digest and size."""
    artifact = found["status"]["artifact"]
    content = (tmp_path / "state" / "storage" / artifact["path"]).read_bytes()
    assert artifact["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert artifact["size"] == len(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def spent(engine: RunningEngine, before: dict[str, int]) -> dict[str, int]:
    now = engine.writes()
    return {name: now[name] - before.get(name, 0) for name in sorted(now) if now[name] != before.get(name, 0)}


async def edit(world: World, name: str, patch: Json, subresource: str = "") -> None:
    await world.client.patch(
        RESOURCE, world.namespace, name, msgspec.json.encode(patch), content_type=MERGE_PATCH, subresource=subresource
    )


# -- what is made ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-AGN-08", "SRC-AGN-09", "SRC-AGN-18")
async def test_outputs_become_external_artifacts_as_in_flux(
    world: World, engine: RunningEngine, tmp_path: Path
) -> None:
    at = world.commit(FILES)
    await world.source()
    common = {"labels": {"team": "x", "app.kubernetes.io/managed-by": "me"}, "annotations": {"note": "n"}}
    await generator(
        world, output("a"), output("b", revision="@git", originRevision="@git"), commonMetadata=common
    )
    found = await generated(world, 2)
    assert found["metadata"]["finalizers"] == ["source.extensions.fluxcd.io/finalizer"]
    assert [c["type"] for c in found["status"]["conditions"]] == ["Ready"]
    a, b = await external(world, "a"), await external(world, "b")
    assert stored_files(tmp_path, a).keys() == {"cm.yaml"}
    assert a["metadata"]["labels"] == {
        "team": "x", "app.kubernetes.io/managed-by": "source-watcher",
        "source.extensions.fluxcd.io/generator": found["metadata"]["uid"],
    }  # fmt: skip
    assert a["metadata"]["annotations"] == {"note": "n"}
    assert a["spec"] == {"sourceRef": {
        "apiVersion": "source.extensions.fluxcd.io/v1beta1", "kind": "ArtifactGenerator", "name": "app",
        "namespace": world.namespace,
    }}  # fmt: skip
    assert a["status"]["artifact"]["revision"] == f"latest@{a['status']['artifact']['digest']}"
    assert "metadata" not in a["status"]["artifact"]
    assert b["status"]["artifact"]["revision"] == at
    assert b["status"]["artifact"]["metadata"] == {"org.opencontainers.image.revision": at}
    ready = condition(a, "Ready")
    assert (ready["reason"], ready["message"]) == ("Succeeded", "Artifact is ready")
    assert found["status"]["inventory"] == [
        {"name": each["metadata"]["name"], "namespace": world.namespace, "digest": each["status"]["artifact"]["digest"],
         "filename": each["status"]["artifact"]["path"].rpartition("/")[2]} for each in (a, b)
    ]  # fmt: skip
    event = await world.until_event("external artifacts reconciled: ", kind="ArtifactGenerator")
    assert (event["type"], event["reason"]) == ("Normal", "Ready")
    assert event["message"].splitlines()[1] == f"{world.namespace}/b ({b['status']['artifact']['digest']})"


@pytest.mark.spec("SRC-AGN-04")
async def test_a_run_in_which_nothing_differs_writes_and_builds_nothing(world: World, engine: RunningEngine) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a"))
    await generated(world, 1)
    await engine.until_trace(reference(world), lambda trace: trace.result == "succeeded")
    before = engine.writes()
    token = await world.request(ARTIFACT_GENERATOR, "app")
    await world.until(ARTIFACT_GENERATOR, "app", lambda o: o["status"].get("lastHandledReconcileAt") == token)
    trace = await engine.until_caused(reference(world), "requested")
    assert "build" not in [step.name for step in trace.steps]
    assert "No drift detected, 1 artifact(s) up to date" in trace.notes
    assert spent(engine, before) == {"create events": 1, "patch artifactgenerators/status": 1}


@pytest.mark.spec("SRC-AGN-07")
async def test_only_the_outputs_whose_files_changed_get_another_digest(world: World, engine: RunningEngine) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a"), output("b"))
    await generated(world, 2)
    before = {name: await external(world, name) for name in ("a", "b")}
    await world.push({"apps/b/cm.yaml": config_map("b", new="1")})
    old = before["b"]["status"]["artifact"]["digest"]
    await world.until(EXTERNAL_ARTIFACT, "b", lambda o: o["status"]["artifact"]["digest"] != old)
    await engine.until_trace(reference(world), lambda t: any("sources changed" in note for note in t.notes))
    after = await external(world, "a")
    assert after["metadata"]["resourceVersion"] == before["a"]["metadata"]["resourceVersion"]


@pytest.mark.spec("SRC-AGN-20")
async def test_a_path_pattern_makes_an_artifact_of_each_directory(
    world: World, engine: RunningEngine, tmp_path: Path
) -> None:
    world.commit({"apps/Web/x": "1", "apps/api/x": "2", "lib/x": "3"})
    await world.source()
    await generator(world, output("{app}-set", "@git/apps/{app}/**"), pathPattern="@git/apps/{app}")
    await generated(world, 2)
    found = await external(world, "web-set")
    assert found["metadata"]["labels"]["app"] == "web"
    assert stored_files(tmp_path, found) == {"x": "1"}
    await world.push({"apps/new/x": "4", "apps/api/x": None})
    await external(world, "new-set")
    await world.until_gone(EXTERNAL_ARTIFACT, "api-set")


# -- what others do to it ----------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-AGN-05")
@pytest.mark.parametrize(
    ("patch", "subresource"),
    [
        pytest.param({"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}, "", id="label"),
        pytest.param({"spec": {"sourceRef": {"name": "other"}}}, "", id="spec"),
        pytest.param({"status": {"artifact": {"url": "http://example.com/x"}}}, "status", id="artifact"),
        pytest.param({"status": {"conditions": []}}, "status", id="conditions"),
    ],
)
async def test_an_edited_external_artifact_is_restored_at_once(
    world: World, engine: RunningEngine, patch: Json, subresource: str
) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a"))
    await generated(world, 1)
    await engine.until_trace(reference(world), lambda trace: trace.result == "succeeded")
    before = await external(world, "a")
    await edit(world, "a", patch, subresource)

    def restored(content: Json) -> bool:
        return (
            content["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
            and content["metadata"]["labels"] == before["metadata"]["labels"]
            and content["spec"] == before["spec"]
            and content["status"]["artifact"] == before["status"]["artifact"]
            and condition(content, "Ready").get("status") == "True"
        )

    await world.until(EXTERNAL_ARTIFACT, "a", restored)


@pytest.mark.spec("SRC-AGN-05")
async def test_a_deleted_external_artifact_is_restored_at_once(world: World, engine: RunningEngine) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a"))
    await generated(world, 1)
    before = await external(world, "a")
    await world.delete(EXTERNAL_ARTIFACT, "a")
    after = await world.until(
        EXTERNAL_ARTIFACT, "a",
        lambda o: o["metadata"]["uid"] != before["metadata"]["uid"] and condition(o, "Ready").get("status") == "True",
    )  # fmt: skip
    assert after["status"]["artifact"]["digest"] == before["status"]["artifact"]["digest"]


@pytest.mark.spec("SRC-AGN-06")
@pytest.mark.parametrize("lost", [False, True], ids=["corrupt", "lost"])
async def test_a_damaged_file_is_built_anew(world: World, engine: RunningEngine, tmp_path: Path, lost: bool) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a"))
    await generated(world, 1)
    found = await external(world, "a")
    path = tmp_path / "state" / "storage" / found["status"]["artifact"]["path"]
    if lost:
        path.unlink()
    else:
        path.write_bytes(b"damaged")
    token = await world.request(ARTIFACT_GENERATOR, "app")
    await world.until(ARTIFACT_GENERATOR, "app", lambda o: o["status"].get("lastHandledReconcileAt") == token)
    assert stored_files(tmp_path, await external(world, "a")).keys() == {"cm.yaml"}


async def test_two_generators_of_one_artifact_do_not_fight(
    world: World, engine: RunningEngine, tmp_path: Path
) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a"))
    first = await generated(world, 1)
    await generator(world, output("a", "@git/apps/b/**"), name="second")
    found = await failing(world, "ReconciliationFailed", "second")
    assert "ExternalArtifact/" in condition(found, "Ready")["message"]
    assert f"belongs to ArtifactGenerator/{world.namespace}/app" in condition(found, "Ready")["message"]
    held = await external(world, "a")
    assert held["metadata"]["labels"]["source.extensions.fluxcd.io/generator"] == first["metadata"]["uid"]
    assert stored_files(tmp_path, held).keys() == {"cm.yaml"}
    folder = tmp_path / "state" / "storage" / "externalartifact" / world.namespace / "a"
    assert [path.name for path in folder.iterdir()] == [held["status"]["artifact"]["path"].rpartition("/")[2]]


# -- the end of an artifact --------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-AGN-10")
async def test_a_dropped_output_goes_with_its_files(world: World, engine: RunningEngine, tmp_path: Path) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a"), output("b"))
    await generated(world, 2)
    folder = tmp_path / "state" / "storage" / "externalartifact" / world.namespace
    assert {path.name for path in folder.iterdir()} == {"a", "b"}
    await world.patch(ARTIFACT_GENERATOR, "app", {"spec": {"artifacts": [output("a")]}})
    await world.until_gone(EXTERNAL_ARTIFACT, "b")
    await generated(world, 1)
    assert {path.name for path in folder.iterdir()} == {"a"}


@pytest.mark.spec("SRC-AGN-11")
async def test_a_deleted_generator_takes_its_artifacts_along_and_no_others(
    world: World, engine: RunningEngine, tmp_path: Path
) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a"), output("b"))
    await generated(world, 2)
    copy = (await external(world, "a"))["metadata"]["labels"]
    body = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "ExternalArtifact",
            "metadata": {"name": "copied", "labels": copy}, "spec": {}}  # fmt: skip
    await world.client.create(RESOURCE, world.namespace, msgspec.json.encode(body))
    await world.delete(ARTIFACT_GENERATOR, "app")
    await world.until_gone(ARTIFACT_GENERATOR, "app")
    for name in ("a", "b"):
        assert await world.get("source.toolkit.fluxcd.io/v1", "ExternalArtifact", name) is None
    assert await world.get("source.toolkit.fluxcd.io/v1", "ExternalArtifact", "copied"), "nobody here has made it"
    assert list((tmp_path / "state" / "storage" / "externalartifact" / world.namespace).iterdir()) == []


# -- what fails --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-AGN-01")
@pytest.mark.parametrize(
    ("sources", "outputs", "message"),
    [
        pytest.param(["git", "git"], [output("a")], "duplicate source alias 'git' found", id="alias"),
        pytest.param(["git"], [output("a"), output("a")], "duplicate artifact name 'a' found", id="name"),
        pytest.param(
            ["git"], [output("a", revision="@other")], "artifact a revision source alias 'other' not found",
            id="revision alias",
        ),
    ],
)  # fmt: skip
async def test_a_specification_that_cannot_be_meant_stalls(
    world: World, engine: RunningEngine, sources: Sequence[str], outputs: Sequence[Json], message: str
) -> None:
    named = [{"alias": alias, "kind": "GitRepository", "name": "app"} for alias in sources]
    await generator(world, *outputs, sources=named)
    found = await failing(world, "ValidationFailed")
    assert condition(found, "Ready")["message"] == message
    assert condition(found, "Stalled")["reason"] == "ValidationFailed"
    assert not condition(found, "Reconciling")


@pytest.mark.spec("SRC-AGN-03")
async def test_a_missing_source_is_waited_for_and_its_event_ends_the_wait(world: World, engine: RunningEngine) -> None:
    world.commit(FILES)
    await generator(world, output("a"))
    found = await failing(world, "SourceFetchFailed")
    assert 'gitrepositories.source.toolkit.fluxcd.io "app" not found' in condition(found, "Ready")["message"]
    assert condition(found, "Reconciling")["reason"] == "ProgressingWithRetry"
    trace = await engine.until_trace(reference(world), lambda t: t.result == "waiting")
    assert trace.next_after is not None
    assert trace.next_after <= 5.0
    await world.source()
    await generated(world, 1)


@pytest.mark.spec("SRC-AGN-14")
async def test_a_glob_without_match_fails_the_build_until_there_is_one(world: World, engine: RunningEngine) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a", "@git/none/*"))
    found = await failing(world, "BuildFailed")
    assert condition(found, "Ready")["message"] == "a build failed: no files match pattern 'none/*'"
    assert not condition(found, "Stalled")
    await world.push({"none/x": "1"})
    await generated(world, 1)


@pytest.mark.spec("SRC-AGN-21")
async def test_a_path_pattern_that_gives_a_name_twice_stalls(world: World, engine: RunningEngine) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("same", "@git/apps/{app}/**"), pathPattern="@git/apps/{app}")
    found = await failing(world, "BuildFailed")
    assert "both resolve to artifact name 'same'" in condition(found, "Ready")["message"]
    assert condition(found, "Stalled")["reason"] == "BuildFailed"


@pytest.mark.spec("SRC-AGN-19")
@pytest.mark.parametrize("value", ["disabled", "Disabled"])
async def test_a_disabled_generator_is_paused_until_it_is_enabled(
    world: World, engine: RunningEngine, value: str
) -> None:
    world.commit(FILES)
    await world.source()
    await generator(world, output("a"))
    await generated(world, 1)
    paused = {"metadata": {"annotations": {"source.extensions.fluxcd.io/reconcile": value}}}
    await world.patch(ARTIFACT_GENERATOR, "app", paused)
    await engine.until_trace(reference(world), lambda trace: trace.result == "suspended")
    old = (await external(world, "a"))["status"]["artifact"]["digest"]
    await world.push({"apps/a/cm.yaml": config_map("a", new="1")})
    token = await world.request(ARTIFACT_GENERATOR, "app")
    await world.until(ARTIFACT_GENERATOR, "app", lambda o: o["status"].get("lastHandledReconcileAt") == token)
    assert (await external(world, "a"))["status"]["artifact"]["digest"] == old
    enabled = {"metadata": {"annotations": {"source.extensions.fluxcd.io/reconcile": "enabled"}}}
    await world.patch(ARTIFACT_GENERATOR, "app", enabled)
    await world.until(EXTERNAL_ARTIFACT, "a", lambda o: o["status"]["artifact"]["digest"] != old)


# -- consumers ---------------------------------------------------------------------------------------------------------


async def test_a_kustomization_delivers_a_generated_artifact(
    cluster: ControlPlane, world: World, tmp_path: Path
) -> None:
    options = KustomizationOptions(sources=SourcePolicy(external_artifacts=True))
    async with running_engine(cluster.config, tmp_path / "state", world.namespace, options):
        world.commit(FILES)
        await world.source()
        await generator(world, output("a"))
        source = {"kind": "ExternalArtifact", "name": "a"}
        await world.kustomization(sourceRef=source, targetNamespace=world.namespace)
        await world.ready()
        assert await world.get("v1", "ConfigMap", "a")
        await world.push({"apps/a/cm.yaml": config_map("a", new="1")})
        resource = await world.resource("v1", "ConfigMap")
        await world.until(resource, "a", lambda o: o.get("data") == {"new": "1"})


@pytest.mark.spec("SRC-ART-11")
async def test_an_external_artifact_of_a_third_party_is_delivered_as_written(
    cluster: ControlPlane, world: World, tmp_path: Path
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        content = msgspec.json.encode(config_map("theirs"))
        entry = tarfile.TarInfo("cm.yaml")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    body = packed.getvalue()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/their.tar.gz", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    options = KustomizationOptions(sources=SourcePolicy(external_artifacts=True))
    artifact = {
        "path": "their.tar.gz", "url": f"http://127.0.0.1:{port}/their.tar.gz", "revision": "v1@sha256:abc",
        "digest": f"sha256:{hashlib.sha256(body).hexdigest()}", "lastUpdateTime": "2026-01-01T00:00:00Z",
        "size": len(body),
    }  # fmt: skip
    ready = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "theirs",
             "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    try:
        async with running_engine(cluster.config, tmp_path / "state", world.namespace, options):
            await world.create(EXTERNAL_ARTIFACT, "their", {"sourceRef": {"kind": "Their", "name": "x"}})
            await edit(world, "their", {"status": {"artifact": artifact, "conditions": [ready]}}, "status")
            before = await external(world, "their")
            source = {"kind": "ExternalArtifact", "name": "their"}
            await world.kustomization(sourceRef=source, targetNamespace=world.namespace)
            await world.ready("app", "v1@sha256:abc")
            assert await world.get("v1", "ConfigMap", "theirs")
            assert await external(world, "their") == before, "it is its producer's"
    finally:
        await runner.cleanup()


