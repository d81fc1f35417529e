"""OCIRepository against a real registry: revisions, layers, conditions and what a run costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.model.errors import Retry, Stalled
from headrace.model.outcome import Condition
from headrace.model.reference import REMOTE
from headrace.source.oci.manifest import FLUX_CONTENT, HELM_CHART
from headrace.source.oci.reference import digest_of
from tests.cluster.ocirepository.world import OciWorld, layer, oci_world
from tests.manual_clock import ManualClock
from tests.servers.registry import Fault
from tests.servers.sources import INTERVAL, REQUESTED


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[OciWorld]:
    async with oci_world(tmp_path) as made:
        yield made


# -- which artifact ---------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-OCI-01", "SRC-OCI-14", "SRC-OCI-15")
async def test_without_a_ref_it_is_the_tag_latest(world: OciWorld) -> None:
    annotations = {
        "org.opencontainers.image.source": "https://git.example/app",
        "org.opencontainers.image.revision": "main@sha1:abc",
        "other": "kept",
    }
    pushed = await world.pusher().push("latest", {"a.yaml": "a: 1"}, annotations=annotations)
    obj, outcome = await world.run(world.object())
    artifact, revision = obj.status.artifact, f"latest@{pushed.digest}"
    assert artifact is not None
    assert (artifact.revision, artifact.path) == (revision, f"ocirepository/default/app/{pushed.digest}.tar.gz")
    assert artifact.metadata == annotations
    assert obj.status.url == "http://source.example:9090/ocirepository/default/app/latest.tar.gz"
    latest, current = (world.store.root / path for path in ("ocirepository/default/app/latest.tar.gz", artifact.path))
    assert latest.read_bytes() == current.read_bytes()
    assert world.files(artifact) == {"a.yaml": b"a: 1"}
    message = f"stored artifact for digest '{revision}'"
    assert (outcome.reason, outcome.message) == ("Succeeded", message)
    assert outcome.conditions == (Condition("ArtifactInStorage", "True", "Succeeded", message),)
    assert outcome.event_reason == "NewArtifact"
    assert outcome.event == (
        f"stored artifact with revision '{revision}' from '{obj.spec.url}', "
        "origin source 'https://git.example/app', origin revision 'main@sha1:abc'"
    )
    assert (outcome.after, outcome.jitter) == (60.0, True)


@pytest.mark.spec("SRC-OCI-02")
async def test_a_digest_is_the_whole_revision_and_is_never_asked_for_again(world: OciWorld) -> None:
    pushed = await world.pusher().push("v1")
    obj, _ = await world.run(world.object(ref={"digest": pushed.digest}))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == pushed.digest
    world.server.requests.clear()
    await world.run(obj, INTERVAL)
    assert not world.server.requests


@pytest.mark.spec("SRC-OCI-03")
async def test_a_digest_goes_before_a_range_and_a_range_before_a_tag(world: OciWorld) -> None:
    pushed = {tag: (await world.pusher().push(tag)).digest for tag in ("1.0.0", "1.1.0", "dev")}
    ref = {"tag": "dev", "semver": "1.x", "digest": pushed["dev"]}
    seen = []
    for without in ((), ("digest",), ("digest", "semver")):
        obj, _ = await world.run(world.object(ref={key: ref[key] for key in ref if key not in without}))
        assert obj.status.artifact is not None
        seen.append(obj.status.artifact.revision)
    assert seen == [pushed["dev"], f"1.1.0@{pushed['1.1.0']}", f"dev@{pushed['dev']}"]


@pytest.mark.spec("SRC-OCI-04")
async def test_a_filter_narrows_the_tags_of_a_range(world: OciWorld) -> None:
    for tag in ("1.0.0", "1.1.0-rc.1", "1.2.0", "1.3.0-x", "junk"):
        await world.pusher().push(tag)
    obj, _ = await world.run(world.object(ref={"semver": ">=1.0.0-0", "semverFilter": ".*-rc.*"}))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision.startswith("1.1.0-rc.1@")
    error = await world.failure(world.object(ref={"semver": "1.x", "semverFilter": "(["}))
    assert (error.reason, error.condition) == ("ReadOperationFailed", "FetchFailed")
    assert "parse error" in error.message


@pytest.mark.spec("SRC-OCI-05")
@pytest.mark.parametrize(("semver", "said"), [(">9", "no match found for semver: >9"), ("x y", "parse error")])
async def test_a_range_without_a_match_fails(world: OciWorld, semver: str, said: str) -> None:
    await world.pusher().push("1.0.0")
    error = await world.failure(world.object(ref={"semver": semver}))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("ReadOperationFailed", "FetchFailed")
    assert error.message.startswith(f"failed to determine the artifact tag for '{world.server.url('org/app')}'")
    assert said in error.message


@pytest.mark.spec("SRC-OCI-06")
async def test_a_url_with_a_tag_stalls(world: OciWorld) -> None:
    error = await world.failure(world.object(url=world.server.url("org/app:v1")))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("URLInvalid", "FetchFailed")
    assert "must not contain a tag; remove ':v1'" in error.message


@pytest.mark.parametrize("ref", [{"tag": "missing"}, {"digest": "sha256:abc"}, {"digest": "sha256:" + "0" * 64}])
async def test_what_is_not_there_fails_and_is_tried_again(world: OciWorld, ref: dict[str, str]) -> None:
    await world.pusher().push("v1")
    error = await world.failure(world.object(ref=ref))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("OCIArtifactPullFailed", "FetchFailed")


# -- when it is fetched -----------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-OCI-07")
async def test_an_unchanged_tag_costs_one_head(world: OciWorld) -> None:
    await world.pusher().push("latest")
    obj, _ = await world.run(world.object())
    world.server.requests.clear()
    again, outcome = await world.run(obj, REQUESTED)
    assert world.server.counts == {"HEAD manifests": 1}
    assert again.status == obj.status
    assert outcome.event_reason == "ArtifactUpToDate"


async def test_at_the_interval_one_head_shows_whether_a_run_is_needed(tmp_path: Path) -> None:
    clock = ManualClock()
    async with oci_world(tmp_path, clock=clock) as world:
        await world.pusher().push("latest", {"a": "1"})
        _, outcome = await world.run(world.object())
        assert outcome.look is not None
        world.server.requests.clear()
        clock.time += 60
        assert await outcome.look()
        assert world.server.counts == {"HEAD manifests": 1}
        await world.pusher().push("latest", {"a": "2"})
        clock.time += 60
        assert not await outcome.look()


async def test_a_moved_tag_is_fetched_and_announced(world: OciWorld) -> None:
    await world.pusher().push("latest", {"a": "1"})
    obj, _ = await world.run(world.object())
    moved = await world.pusher().push("latest", {"a": "2"})
    again, outcome = await world.run(obj, REQUESTED)
    assert again.status.artifact is not None
    assert again.status.artifact.revision == f"latest@{moved.digest}"
    assert world.files(again.status.artifact) == {"a": b"2"}
    assert outcome.event_reason == "NewArtifact"
    assert world.scope is not None
    _, message, conditions = world.scope.said[-1]
    news = f"new revision 'latest@{moved.digest}' for '{world.server.address}/org/app:latest'"
    assert message == f"building artifact: {news}"
    assert conditions == (Condition("ArtifactOutdated", "True", "NewRevision", news),)


async def test_objects_that_ask_the_same_share_one_poll_and_one_download(world: OciWorld) -> None:
    await world.pusher().push("latest")
    world.server.requests.clear()
    first, _ = await world.run(world.object("one"))
    second, _ = await world.run(world.object("two"))
    assert world.server.counts == {"HEAD manifests": 1, "GET manifests": 2, "GET blobs": 1}
    assert first.status.artifact is not None
    assert second.status.artifact is not None
    assert first.status.artifact.digest == second.status.artifact.digest


async def test_who_waits_for_the_download_of_another_holds_no_worker(world: OciWorld) -> None:
    await world.pusher().push("latest")
    slots = asyncio.Semaphore(2)
    async with asyncio.timeout(60):
        done = await asyncio.gather(*(world.run_with(slots, world.object(f"app-{number}")) for number in range(8)))
    assert len({outcome.revision for outcome in done}) == 1
    assert world.server.counts["GET blobs"] == 1


async def test_who_polls_wakes_the_others_when_the_tag_has_moved(world: OciWorld) -> None:
    await world.pusher().push("latest", {"a": "1"})
    one, _ = await world.run(world.object("one"))
    await world.run(world.object("two"))
    assert world.scope is not None
    [read] = [read for read in world.scope.reads if read.reference.cluster == REMOTE and read.part == "answer"]
    await world.pusher().push("latest", {"a": "2"})
    await world.run(one, REQUESTED)
    async with asyncio.timeout(10):
        while not world.changed:
            await asyncio.sleep(0.01)
    [(reference, part, digest)] = world.changed
    assert (reference, part) == (read.reference, read.part)
    assert digest != read.digest


@pytest.mark.spec("SRC-OCI-08")
async def test_another_choice_of_content_is_pulled_at_the_same_revision(world: OciWorld) -> None:
    await world.pusher().push("latest", {"a.yaml": "1", "b.yaml": "2"})
    obj, _ = await world.run(world.object())
    obj = world.changed_spec(obj, ignore="b.yaml")
    obj, _ = await world.run(obj, INTERVAL)
    assert world.files(obj.status.artifact) == {"a.yaml": b"1"}
    assert obj.status.observed_ignore == "b.yaml"
    obj = world.changed_spec(obj, layerSelector={"mediaType": FLUX_CONTENT, "operation": "copy"})
    obj, _ = await world.run(obj, INTERVAL)
    assert obj.status.observed_layer_selector == obj.spec.layer_selector
    assert world.files(obj.status.artifact) == {"a.yaml": b"1", "b.yaml": b"2"}
    world.server.requests.clear()
    await world.run(obj, REQUESTED)
    assert world.server.counts == {"HEAD manifests": 1}


# -- which content ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-OCI-09")
async def test_the_first_layer_is_taken_or_the_first_of_a_media_type(world: OciWorld) -> None:
    layers = tuple(
        (media_type, layer({"name": name}))
        for media_type, name in (("a/a", "first"), ("b/b", "second"), ("b/b", "third"))
    )
    await world.pusher().push("latest", layers=layers)
    obj, _ = await world.run(world.object())
    assert world.files(obj.status.artifact) == {"name": b"first"}
    obj, _ = await world.run(world.object(layerSelector={"mediaType": "b/b"}))
    assert world.files(obj.status.artifact) == {"name": b"second"}


@pytest.mark.spec("SRC-OCI-10")
async def test_a_media_type_that_is_not_there_fails(world: OciWorld) -> None:
    await world.pusher().push("latest")
    error = await world.failure(world.object(layerSelector={"mediaType": "b/b"}))
    assert (error.reason, error.condition) == ("OCIArtifactLayerOperationFailed", "FetchFailed")
    assert error.message == "failed to find layer with media type 'b/b' in artifact"


@pytest.mark.spec("SRC-OCI-11", "SRC-IGN-01", "SRC-IGN-06")
async def test_extracted_layers_lose_links_and_what_is_ignored(world: OciWorld) -> None:
    files = {
        "app.yaml": "1", "logo.png": "2", "sub/.sourceignore": "secret.txt\n", "sub/secret.txt": "3",
        "sub/keep.txt": "4", "secret.txt": "5", "docs/x.md": "6",
    }  # fmt: skip
    await world.pusher().push("latest", layers=((FLUX_CONTENT, layer(files, links={"link": "app.yaml"})),))
    obj, _ = await world.run(world.object())
    assert set(world.files(obj.status.artifact)) == {*files} - {"sub/secret.txt"}
    obj, _ = await world.run(world.changed_spec(obj, ignore="docs/"))
    assert set(world.files(obj.status.artifact)) == {*files} - {"sub/secret.txt", "docs/x.md"}
    await world.pusher().push("plain", {"a.yaml": "1", "b.png": "2"})
    obj, _ = await world.run(world.object(ref={"tag": "plain"}))
    assert set(world.files(obj.status.artifact)) == {"a.yaml"}


@pytest.mark.spec("SRC-OCI-12")
async def test_a_copied_layer_is_stored_as_it_is(world: OciWorld) -> None:
    data = layer({"a.yaml": "1", "b.png": "2"}, links={"link": "a.yaml"})
    await world.pusher().push("latest", layers=((FLUX_CONTENT, data),))
    spec = {"layerSelector": {"operation": "copy"}, "ignore": "a.yaml"}
    obj, _ = await world.run(world.object(**spec))
    artifact = obj.status.artifact
    assert artifact is not None
    assert (artifact.digest, artifact.size) == (digest_of(data), len(data))
    assert (world.store.root / artifact.path).read_bytes() == data


@pytest.mark.spec("SRC-OCI-13")
async def test_underscores_of_chart_tags_are_plus_signs_of_versions(world: OciWorld) -> None:
    chart = layer({"app/Chart.yaml": "name: app"})
    for tag in ("1.0.0_build", "0.9.0"):
        await world.pusher().push(tag, layers=((HELM_CHART, chart),))
    spec = {"ref": {"semver": "1.x"}, "layerSelector": {"mediaType": HELM_CHART, "operation": "copy"}}
    obj, _ = await world.run(world.object(**spec))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision.startswith("1.0.0_build@")
    error = await world.failure(world.object(ref={"semver": "1.x"}))
    assert error.reason == "ReadOperationFailed"


async def test_a_layer_that_is_no_archive_fails(world: OciWorld) -> None:
    await world.pusher().push("latest", layers=((FLUX_CONTENT, b"no archive"),))
    error = await world.failure(world.object())
    assert (error.reason, error.condition) == ("OCIArtifactLayerOperationFailed", "FetchFailed")


async def test_a_registry_puts_an_object_off_for_an_hour_at_the_most(world: OciWorld) -> None:
    await world.pusher().push("latest")
    busy = {"Retry-After": "172800"}
    world.server.faults.append(Fault("status", "manifests", method="HEAD", status=429, headers=busy))
    error = await world.failure(world.object())
    assert isinstance(error, Retry)
    assert error.after == pytest.approx(3600, abs=5)


async def test_deleting_removes_what_is_stored(world: OciWorld) -> None:
    await world.pusher().push("latest")
    obj, _ = await world.run(world.object())
    assert world.scope is not None
    await world.controller.finalize(obj, world.scope)
    assert not (world.store.root / "ocirepository/default/app").exists()


def test_the_annotations_of_a_manifest_may_be_null() -> None:
    from headrace.source.oci.manifest import Content, Descriptor

    body = json.dumps({"layers": None, "annotations": None}).encode()
    assert Content(Descriptor("", "", 0), body).manifest().layers is None
