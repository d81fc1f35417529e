"""HelmChart of repositories: versions, values files, what is fetched and what is said (sources.md 2.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.api.meta import SOURCE_GROUP
from headrace.core.limits import HelmLimits
from headrace.model.errors import Retry, Stalled, Waiting
from headrace.model.outcome import Condition
from headrace.model.reference import Reference
from headrace.status.rules import SOURCES
from headrace.status.summary import failed
from headrace.toolbox import Toolbox
from tests.servers.helm_http import helm_server, package
from tests.servers.helm_world import HelmWorld, helm_world
from tests.servers.sources import INTERVAL, REQUESTED

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.spec("SRC-HCH-02", "SRC-COM-24")
async def test_a_chart_is_pulled_as_it_is(world: HelmWorld) -> None:
    archive = world.server.add("app", "1.0.0")
    repo = await world.indexed()
    done, outcome = await world.run(world.chart())
    artifact = done.status.artifact
    assert artifact is not None
    assert world.archive(done) == archive
    assert (artifact.revision, artifact.path) == ("1.0.0", "helmchart/default/app/app-1.0.0.tgz")
    summary = "pulled 'app' chart with version '1.0.0'"
    assert (outcome.reason, outcome.message) == ("ChartPullSucceeded", summary)
    assert outcome.conditions == (Condition("ArtifactInStorage", "True", "ChartPullSucceeded", summary),)
    assert (outcome.event_reason, outcome.event) == ("ChartPullSucceeded", summary)
    assert repo.status.artifact is not None
    assert done.status.observed_source_artifact_revision == repo.status.artifact.revision
    assert done.status.observed_chart_name == "app"
    assert done.status.url == "http://source.example:9090/helmchart/default/app/latest.tar.gz"


@pytest.mark.spec("SRC-HCH-01")
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("*", "1.10.0"),
        ("", "1.10.0"),
        ("1.9.0", "1.9.0"),
        ("~1.9.0", "1.9.5"),
        (">=1.0.0 <1.10.0", "1.9.5"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
        (">=2.0.0-0", "2.0.0-rc.1"),
        ("v3", "v3"),
        ("0.1.0", "0.1.0+newest"),
    ],
)
async def test_the_very_version_is_taken_or_the_best_in_the_range(world: HelmWorld, wanted: str, found: str) -> None:
    for version in ("1.9.0", "1.9.5", "1.10.0", "2.0.0-rc.1", "v3"):
        world.server.add("app", version)
    world.server.add("app", "0.1.0+oldest", created="2020-01-01T00:00:00Z")
    world.server.add("app", "0.1.0+newest", created="2023-01-01T01:00:00+02:00")
    world.server.add("app", "0.1.0+older", created="2022-12-31T22:00:00Z")
    await world.indexed()
    done, _ = await world.run(world.chart(version=wanted))
    assert done.status.artifact is not None
    assert done.status.artifact.revision == found


@pytest.mark.spec("SRC-HCH-03")
async def test_values_files_are_merged_in_order_and_the_version_gets_the_generation(world: HelmWorld) -> None:
    prod = "replicas: 3\nimage: {tag: two, pull: Always}\nlist: [c]\nodd: {1: 'yes', when: '2020-01-01', 'no': null}\n"
    world.server.add("app", "1.0.0", **{"prod.yaml": prod, "extra/more.yaml": "replicas: 4\nimage: {tag: null}\n"})
    await world.indexed()
    files = ["values.yaml", "prod.yaml", "extra/more.yaml"]
    done, outcome = await world.run(world.chart(generation=7, valuesFiles=files))
    made = world.files(done)
    assert yaml.safe_load(made["app/Chart.yaml"]) == {"apiVersion": "v2", "name": "app", "version": "1.0.0+7"}
    assert yaml.safe_load(made["app/values.yaml"]) == {
        "replicas": 4,
        "image": {"name": "app", "tag": None, "pull": "Always"},
        "list": ["c"],
        "odd": {"1": "yes", "when": "2020-01-01", "no": None},
    }
    assert made["app/prod.yaml"] == prod.encode()
    assert made["app/templates/config.yaml"].startswith(b"apiVersion: v1")
    assert done.status.artifact is not None
    assert done.status.artifact.path == "helmchart/default/app/app-1.0.0+7.tgz"
    merged = "packaged 'app' chart with version '1.0.0+7' and merged values files [" + " ".join(files) + "]"
    assert (outcome.reason, outcome.message) == ("ChartPackageSucceeded", merged)
    assert done.status.observed_values_files == ()


async def test_the_chart_s_own_values_are_not_implied(world: HelmWorld) -> None:
    world.server.add("app", "1.0.0", **{"prod.yaml": "only: this\n"})
    await world.indexed()
    done, _ = await world.run(world.chart(valuesFiles=["prod.yaml"]))
    assert yaml.safe_load(world.files(done)["app/values.yaml"]) == {"only": "this"}


@pytest.mark.spec("SRC-HCH-04")
async def test_only_values_yaml_as_values_file_changes_nothing(world: HelmWorld) -> None:
    archive = world.server.add()
    await world.indexed()
    done, outcome = await world.run(world.chart(valuesFiles=["./values.yaml"]))
    assert world.archive(done) == archive
    assert (outcome.reason, outcome.revision) == ("ChartPullSucceeded", "1.0.0")


@pytest.mark.spec("SRC-HCH-05")
async def test_a_missing_values_file_stalls_or_is_left_out(world: HelmWorld) -> None:
    world.server.add("app", "1.0.0", **{"prod.yaml": "a: 1\n"})
    await world.indexed()
    error = await world.failure(world.chart(valuesFiles=["prod.yaml", "none.yaml"]))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("ValuesFilesError", "BuildFailed")
    assert error.message == "values files merge error: no values file found at path 'none.yaml'"
    spec: dict[str, Any] = {"valuesFiles": ["none.yaml", "prod.yaml"], "ignoreMissingValuesFiles": True}
    done, outcome = await world.run(world.chart(**spec))
    assert done.status.observed_values_files == ("prod.yaml",)
    assert outcome.message.endswith("merged values files [prod.yaml]")
    again, outcome = await world.run(done, REQUESTED)
    assert outcome.message.endswith("merged values files [prod.yaml]")
    assert again.status.observed_values_files == ("prod.yaml",)


@pytest.mark.parametrize(
    ("files", "used"), [(["none.yaml", "./prod.yaml"], ("./prod.yaml",)), (["none.yaml", "templates"], ())]
)
async def test_missing_values_files_stay_unobserved_of_a_chart_that_is_known(
    world: HelmWorld, files: list[str], used: tuple[str, ...]
) -> None:
    world.server.add("app", "1.0.0", **{"prod.yaml": "a: 1\n"})
    await world.indexed()
    spec: dict[str, Any] = {"valuesFiles": files, "ignoreMissingValuesFiles": True}
    one, _ = await world.run(world.chart("one", **spec))
    two, outcome = await world.run(world.chart("two", **spec))
    assert world.server.paths["/charts/app-1.0.0.tgz"] == 1
    again, told = await world.run(two, REQUESTED)
    assert [done.status.observed_values_files for done in (one, two, again)] == [used, used, used]
    assert [("none.yaml" in message) for message in (outcome.message, told.message)] == [False, False]


async def test_values_that_are_no_map_stall(world: HelmWorld) -> None:
    world.server.add("app", "1.0.0", **{"bad.yaml": "- a\n", "worse.yaml": "a: [\n"})
    await world.indexed()
    for name in ("bad.yaml", "worse.yaml"):
        error = await world.failure(world.chart(valuesFiles=[name]))
        assert (type(error), error.reason) == (Stalled, "ValuesFilesError")
        assert name in error.message


@pytest.mark.spec("SRC-HCH-09")
async def test_a_chart_is_subscribed_to_the_index_and_access_of_its_repository(world: HelmWorld) -> None:
    world.server.add()
    await world.indexed()
    await world.run(world.chart())
    assert world.scope is not None
    (read,) = [read for read in world.scope.reads if read.reference.kind == "HelmRepository"]
    before = read.digest
    world.server.add("app", "1.1.0")
    await world.run(world.repository(), REQUESTED)
    done, _ = await world.run(world.chart())
    (read,) = [read for read in world.scope.reads if read.reference.kind == "HelmRepository"]
    assert read.digest != before
    assert done.status.artifact is not None
    assert done.status.artifact.revision == "1.1.0"


@pytest.mark.spec("SRC-HCH-08")
async def test_a_changed_spec_makes_the_chart_anew_and_nothing_else_does(world: HelmWorld) -> None:
    world.server.add()
    await world.indexed()
    done, _ = await world.run(world.chart())
    charts = world.server.paths["/charts/app-1.0.0.tgz"]
    again, _ = await world.run(done, INTERVAL)
    again, outcome = await world.run(again, REQUESTED)
    assert world.server.paths["/charts/app-1.0.0.tgz"] == charts == 1
    assert outcome.event == "pulled 'app' chart with version '1.0.0'"
    changed = world.chart(generation=2, valuesFiles=["values.yaml", "values.yaml"])
    import msgspec

    changed = msgspec.structs.replace(changed, status=again.status)
    renewed, outcome = await world.run(changed)
    assert renewed.status.artifact is not None
    assert renewed.status.artifact.revision == "1.0.0+2"


async def test_two_objects_that_want_the_same_share_one_download(world: HelmWorld) -> None:
    world.server.add()
    await world.indexed()
    one, _ = await world.run(world.chart("one"))
    two, _ = await world.run(world.chart("two"))
    assert world.server.paths["/charts/app-1.0.0.tgz"] == 1
    assert one.status.artifact is not None
    assert two.status.artifact is not None
    inodes = {(world.store.root / a.path).stat().st_ino for a in (one.status.artifact, two.status.artifact)}
    assert len(inodes) == 1


@pytest.mark.spec("SRC-HCH-10")
async def test_a_source_without_artifact_is_waited_for(world: HelmWorld) -> None:
    reference = Reference(SOURCE_GROUP, "HelmRepository", "default", "charts")
    world.put(reference, {"spec": {"url": world.server.url, "interval": "1m"}})
    error = await world.failure(world.chart())
    assert isinstance(error, Waiting)
    assert (error.reason, error.condition) == ("NoSourceArtifact", "FetchFailed")
    assert error.message == "no artifact available for HelmRepository source 'charts'"
    assert error.objects == (reference,)
    assert error.after == 30.0


async def test_a_source_that_is_not_there_is_unavailable(world: HelmWorld) -> None:
    error = await world.failure(world.chart())
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("SourceUnavailable", "FetchFailed")
    missing = 'failed to get source: helmrepositories.source.toolkit.fluxcd.io "charts" not found'
    assert error.message == missing
    error = await world.failure(world.chart(sourceRef={"kind": "OCIRepository", "name": "x"}))
    assert (type(error), error.reason) == (Stalled, "UnsupportedSourceKind")
    assert error.conditions[0].reason == "SourceUnavailable"


@pytest.mark.spec("SRC-HCH-11")
@pytest.mark.parametrize(
    ("chart", "version", "said"),
    [
        ("app", ">=2.0.0", "no 'app' chart with version matching '>=2.0.0' found"),
        ("app", "not a range", "improper constraint"),
        ("other", "*", "no chart name found"),
        ("Bad_Name", "*", "invalid chart name 'Bad_Name'"),
    ],
)
async def test_what_an_index_does_not_have_stalls(world: HelmWorld, chart: str, version: str, said: str) -> None:
    world.server.add()
    await world.indexed()
    error = await world.failure(world.chart(chart=chart, version=version))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("InvalidChartReference", "FetchFailed")
    assert error.message.startswith("invalid chart reference: ")
    assert said in error.message


@pytest.mark.spec("SRC-HCH-13")
async def test_denied_access_is_unknown_in_the_condition_and_named_in_the_event(world: HelmWorld) -> None:
    world.server.add()
    await world.indexed()
    world.server.basic = ("user", "password")
    error = await world.failure(world.chart())
    assert isinstance(error, Retry)
    assert error.reason == "AuthenticationFailed"
    assert error.message.startswith("failed to authenticate with the Helm repository: chart pull error: ")
    verdict = failed(error, SOURCES, ())
    told = {condition.type: (condition.status, condition.reason, condition.message) for condition in verdict.conditions}
    assert told["FetchFailed"] == ("True", "Unknown", f"unknown build error: {error.message}")
    assert told["Ready"][1] == "Unknown"
    assert error.status["observedSourceArtifactRevision"]


@pytest.mark.spec("SRC-HCH-13")
async def test_a_missing_secret_is_unknown_in_the_condition_too(world: HelmWorld) -> None:
    world.server.add()
    await world.indexed()
    reference = Reference(SOURCE_GROUP, "HelmRepository", "default", "charts")
    content = world.objects[reference].content()
    content["spec"]["secretRef"] = {"name": "none"}
    world.put(reference, content)
    error = await world.failure(world.chart())
    assert error.reason == "AuthenticationFailed"
    assert [condition.reason for condition in error.conditions] == ["Unknown"]


@pytest.mark.spec("SRC-HRP-07", "SEC-30")
@pytest.mark.parametrize("passed", [False, True])
async def test_credentials_stay_with_the_host_unless_they_may_be_passed(world: HelmWorld, passed: bool) -> None:
    async with helm_server() as other:
        archive = other.add()
        world.server.add(url=f"{other.url}/charts/app-1.0.0.tgz")
        world.secret("creds", username=b"user", password=b"canary-password")
        await world.indexed(secretRef={"name": "creds"}, passCredentials=passed)
        done, _ = await world.run(world.chart())
        assert world.archive(done) == archive
        assert [bool(sent) for sent in other.authorizations] == [passed]
        assert world.server.authorizations[0].startswith("Basic ")


@pytest.mark.spec("SRC-HCH-17", "SEC-05")
async def test_a_chart_or_a_file_beyond_the_limits_fails(tmp_path: Path, toolbox: Toolbox) -> None:
    assert (HelmLimits().chart_bytes, HelmLimits().file_bytes) == (10 * 1024 * 1024, 5 * 1024 * 1024)
    async with helm_world(tmp_path, toolbox, limits=HelmLimits(chart_bytes=10_000, file_bytes=3000)) as world:
        world.server.add("app", "1.0.0", **{"big.txt": "x" * 4000})
        world.server.archives["/charts/huge-1.0.0.tgz"] = world.server.add("huge", "1.0.0") + b"\0" * 10_000
        await world.indexed()
        error = await world.failure(world.chart())
        assert (error.reason, error.condition) == ("ChartPullError", "FetchFailed")
        assert "big.txt' is larger than 3000 bytes" in error.message
        error = await world.failure(world.chart(valuesFiles=["a.yaml"]))
        assert (error.reason, error.condition) == ("ChartPackageError", "BuildFailed")
        error = await world.failure(world.chart(chart="huge"))
        assert (error.reason, error.condition) == ("ChartPullError", "FetchFailed")
        assert error.message.endswith("chart exceeds the maximum chart file size of 10000 bytes")


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (b"no archive at all", "ends too early"),
        (package({"README.md": "no chart"}), "no 'Chart.yaml' found"),
        (package({"Chart.yaml": "name: app\n"}), "version '' is invalid"),
        (package({"Chart.yaml": "name: ../x\nversion: 1.0.0\n"}), "name '../x' is invalid"),
    ],
)
async def test_what_is_no_chart_is_not_stored(world: HelmWorld, archive: bytes, said: str) -> None:
    world.server.add()
    world.server.archives["/charts/app-1.0.0.tgz"] = archive
    await world.indexed()
    error = await world.failure(world.chart())
    assert (error.reason, error.condition) == ("ChartPullError", "FetchFailed")
    assert said in error.message
    assert list((world.store.root).glob("helmchart/**/*.tgz")) == []


@pytest.mark.spec("SRC-HCH-20")
async def test_verification_that_cannot_be_done_fails_the_build(world: HelmWorld) -> None:
    world.server.add()
    await world.indexed()
    error = await world.failure(world.chart(verify={"provider": "cosign"}))
    assert isinstance(error, Retry)
    verdict = failed(error, SOURCES, ())
    told = {condition.type: (condition.status, condition.reason) for condition in verdict.conditions}
    assert told["BuildFailed"] == ("True", "ChartVerificationError")
    assert told["SourceVerified"] == ("False", "VerificationError")
    assert told["Ready"] == ("False", "VerificationError")


@pytest.mark.spec("SRC-COM-20", "SRC-COM-21")
async def test_a_lost_or_changed_chart_is_made_anew(world: HelmWorld) -> None:
    archive = world.server.add()
    await world.indexed()
    done, _ = await world.run(world.chart())
    assert done.status.artifact is not None
    path = world.store.root / done.status.artifact.path
    path.unlink()
    again, _ = await world.run(done)
    assert path.read_bytes() == archive
    path.write_bytes(b"tampered")
    await world.run(again)
    assert path.read_bytes() == archive
