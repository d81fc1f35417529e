"""HelmChart of GitRepositories and Buckets: packaging, dependencies, and what stays out (sources.md 2.4)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from headrace.api.helmchart import HelmChart
from headrace.core.limits import HelmLimits
from headrace.model.errors import Retry, Stalled
from headrace.toolbox import Toolbox
from tests.servers.helm_http import chart_files, files_of, helm_server, package
from tests.servers.helm_world import HelmWorld, helm_world
from tests.servers.sources import REQUESTED

pytestmark = pytest.mark.asyncio(loop_scope="module")


def placed(path: str, files: dict[str, str]) -> dict[str, str | bytes]:
    return {f"{path}/{name}": content for name, content in files.items()}


def chart(world: HelmWorld, *, kind: str = "GitRepository", generation: int = 1, **spec: Any) -> HelmChart:
    source = {"kind": kind, "name": "files"}
    return world.chart(generation=generation, **({"chart": "charts/app", "sourceRef": source} | spec))


async def test_a_directory_is_packaged_without_what_helmignore_names(world: HelmWorld) -> None:
    files = chart_files(**{
        ".helmignore": "# comment\n*.bak\n/secret.txt\nci/\ndocs/*.md\n!keep\n", "a.bak": "x", "secret.txt": "x",
    })  # fmt: skip
    del files[".helmignore"]
    files |= {".helmignore": "*.bak\n/secret.txt\nci/\ndocs/*.md\n", "ci/values.yaml": "x", "docs/a.md": "x",
              "docs/b.txt": "kept", "templates/.hidden": "x", "sub/secret.txt": "kept", ".other": "kept"}  # fmt: skip
    await world.tree(placed("charts/app", files))
    done, outcome = await world.run(chart(world))
    names = {name.removeprefix("app/") for name in world.files(done)}
    assert names == {"Chart.yaml", "values.yaml", "templates/config.yaml", "docs/b.txt", "sub/secret.txt", ".other",
                     ".helmignore"}  # fmt: skip
    assert (outcome.reason, outcome.message) == (
        "ChartPackageSucceeded", "packaged 'app' chart with version '1.0.0'",
    )  # fmt: skip
    assert world.files(done)["app/Chart.yaml"] == files["Chart.yaml"].encode()


async def test_the_same_files_make_the_same_bytes(tmp_path: Path, toolbox: Toolbox) -> None:
    made = set()
    for name in ("one", "two"):
        async with helm_world(tmp_path / name, toolbox) as world:
            await world.tree(placed("charts/app", chart_files()))
            done, _ = await world.run(chart(world))
            made.add(world.archive(done))
    assert len(made) == 1


@pytest.mark.spec("SRC-HCH-06")
@pytest.mark.parametrize(
    ("kind", "revision", "short"),
    [
        ("GitRepository", "main@sha1:0123456789abcdef0123456789abcdef01234567", "0123456789ab"),
        ("GitRepository", "sha1:fedcba9876543210fedcba9876543210fedcba98", "fedcba987654"),
        ("Bucket", "sha256:" + "abcdef" * 10 + "abcd", "abcdefabcdef"),
    ],
)
async def test_the_revision_strategy_puts_the_hash_into_the_version(
    world: HelmWorld, kind: str, revision: str, short: str
) -> None:
    await world.tree(placed("charts/app", chart_files()), kind=kind, revision=revision)
    done, _ = await world.run(chart(world, kind=kind, reconcileStrategy="Revision"))
    assert done.status.artifact is not None
    assert done.status.artifact.revision == f"1.0.0+{short}"
    assert yaml.safe_load(world.files(done)["app/Chart.yaml"])["version"] == f"1.0.0+{short}"
    spec: dict[str, Any] = {"reconcileStrategy": "Revision", "valuesFiles": ["charts/app/values.yaml"]}
    done, _ = await world.run(chart(world, kind=kind, generation=4, **spec))
    assert done.status.artifact is not None
    assert done.status.artifact.revision == f"1.0.0+{short}.4"


@pytest.mark.spec("SRC-HCH-07")
async def test_a_new_revision_without_a_new_version_makes_no_new_artifact(world: HelmWorld) -> None:
    await world.tree(placed("charts/app", chart_files()))
    done, _ = await world.run(chart(world))
    newer = await world.tree(placed("charts/app", chart_files(**{"README.md": "more"})))
    again, outcome = await world.run(done)
    assert again.status.artifact == done.status.artifact
    assert again.status.observed_source_artifact_revision == newer.revision
    assert outcome.event == ""
    await world.tree(placed("charts/app", chart_files(version="1.0.1")))
    bumped, outcome = await world.run(again)
    assert bumped.status.artifact is not None
    assert (bumped.status.artifact.revision, outcome.event_reason) == ("1.0.1", "ChartPackageSucceeded")


@pytest.mark.spec("SRC-HCH-08")
async def test_a_changed_spec_packages_the_same_version_anew(world: HelmWorld) -> None:
    await world.tree(placed("charts/app", chart_files()))
    done, _ = await world.run(chart(world))
    await world.tree(placed("charts/app", chart_files(**{"README.md": "more"})))
    changed = msgspec.structs.replace(chart(world, generation=2), status=done.status)
    again, _ = await world.run(changed)
    assert "app/README.md" in world.files(again)


@pytest.mark.spec("SRC-HCH-09")
async def test_a_chart_is_subscribed_to_the_artifact_of_its_source(world: HelmWorld) -> None:
    await world.tree(placed("charts/app", chart_files()))
    await world.run(chart(world))
    assert world.scope is not None
    assert [(read.reference.kind, read.part) for read in world.scope.reads][:1] == [("GitRepository", "artifact")]


@pytest.mark.spec("SRC-HCH-03")
async def test_values_files_are_read_from_the_root_of_the_source(world: HelmWorld) -> None:
    files = placed("charts/app", chart_files()) | {"envs/prod.yaml": "image: {tag: prod}\n"}
    await world.tree(files)
    spec: dict[str, Any] = {"valuesFiles": ["charts/app/values.yaml", "envs/prod.yaml"]}
    done, outcome = await world.run(chart(world, generation=2, **spec))
    values = yaml.safe_load(world.files(done)["app/values.yaml"])
    assert values["image"] == {"name": "app", "tag": "prod"}
    assert outcome.message.endswith("merged values files [charts/app/values.yaml envs/prod.yaml]")
    error = await world.failure(chart(world, valuesFiles=["prod.yaml"]))
    assert isinstance(error, Stalled)
    assert error.message.endswith("no values file found at path '/prod.yaml' (reference 'prod.yaml')")


async def test_missing_values_files_stay_unobserved_of_a_chart_that_is_known(world: HelmWorld) -> None:
    await world.tree(placed("charts/app", chart_files()) | {"prod.yaml": "a: 1\n"})
    made = chart(world, valuesFiles=["none.yaml", "prod.yaml"], ignoreMissingValuesFiles=True)
    done, _ = await world.run(made)
    assert done.status.artifact is not None
    (world.store.root / done.status.artifact.path).unlink()
    again, outcome = await world.run(done)
    assert (done.status.observed_values_files, again.status.observed_values_files) == (("prod.yaml",), ("prod.yaml",))
    assert outcome.message.endswith("merged values files [prod.yaml]")


@pytest.mark.spec("SRC-HCH-02")
async def test_a_packaged_chart_in_a_source_is_taken_as_it_is_or_packaged_with_values(world: HelmWorld) -> None:
    archive = package(chart_files())
    await world.tree({"dist/app-1.0.0.tgz": archive, "prod.yaml": "a: 1\n"})
    done, outcome = await world.run(chart(world, chart="dist/app-1.0.0.tgz"))
    assert world.archive(done) == archive
    assert outcome.reason == "ChartPullSucceeded"
    done, outcome = await world.run(chart(world, chart="dist/app-1.0.0.tgz", valuesFiles=["prod.yaml"]))
    assert yaml.safe_load(world.files(done)["app/values.yaml"]) == {"a": 1}
    assert outcome.reason == "ChartPackageSucceeded"


@pytest.mark.spec("SRC-HCH-14", "SEC-15")
async def test_local_dependencies_are_put_in_and_none_from_outside(world: HelmWorld) -> None:
    app = chart_files(**{"Chart.yaml": (
        "apiVersion: v2\nname: app\nversion: 1.0.0\ndependencies:\n"
        "- {name: common, version: ~0.1, repository: 'file://../common'}\n"
        "- {name: packed, version: '>=1', repository: 'file://../../dist/packed-1.2.0.tgz', alias: other}\n"
        "- {name: own, version: '*'}\n"
    )})  # fmt: skip
    common = chart_files("common", "0.1.3", **{".helmignore": "*.bak\n", "x.bak": "x"})
    own = placed("charts/app/charts/own", chart_files("own", "1.0.0"))
    files = placed("charts/app", app) | placed("charts/common", common) | own
    await world.tree(files | {"dist/packed-1.2.0.tgz": package(chart_files("packed", "1.2.0"), "packed")})
    done, _ = await world.run(chart(world))
    made = world.files(done)
    assert "app/charts/common/templates/config.yaml" in made
    assert "app/charts/common/x.bak" not in made
    assert "app/charts/own/Chart.yaml" in made
    assert files_of(made["app/charts/packed-1.2.0.tgz"])["packed/values.yaml"]
    for repository in ("file://../../../../etc", "file:///etc", "file://../missing"):
        broken = app | {"Chart.yaml": (
            "apiVersion: v2\nname: app\nversion: 1.0.0\n"
            f"dependencies: [{{name: etc, version: '*', repository: '{repository}'}}]\n"
        )}  # fmt: skip
        await world.tree(placed("charts/app", broken))
        error = await world.failure(chart(world))
        assert isinstance(error, Retry)
        assert (error.reason, error.condition) == ("DependencyBuildError", "BuildFailed")
        assert "failed to add local dependency 'etc': no chart found at '/" in error.message


async def test_a_local_dependency_of_another_version_is_refused(world: HelmWorld) -> None:
    app = chart_files(**{"Chart.yaml": (
        "apiVersion: v2\nname: app\nversion: 1.0.0\n"
        "dependencies: [{name: common, version: '>=2', repository: 'file://../common'}]\n"
    )})  # fmt: skip
    await world.tree(placed("charts/app", app) | placed("charts/common", chart_files("common", "0.1.3")))
    error = await world.failure(chart(world))
    assert "can't get a valid version for constraint '>=2'" in error.message


def with_dependency(repository: str, version: str = "~1.0", name: str = "lib") -> dict[str, str]:
    return chart_files(**{"Chart.yaml": (
        "apiVersion: v2\nname: app\nversion: 1.0.0\n"
        f"dependencies:\n- name: {name}\n  version: '{version}'\n  repository: '{repository}'\n"
    )})  # fmt: skip


@pytest.mark.spec("SRC-HCH-15")
async def test_a_remote_dependency_is_fetched_as_the_repository_of_its_url(world: HelmWorld) -> None:
    archive = world.server.add("lib", "1.0.4")
    world.server.add("lib", "1.1.0")
    world.server.basic = ("user", "password")
    world.secret("creds", username=b"user", password=b"password")
    await world.indexed(url=world.server.url + "///", secretRef={"name": "creds"})
    await world.tree(placed("charts/app", with_dependency(world.server.url)))
    done, _ = await world.run(chart(world))
    assert world.files(done)["app/charts/lib-1.0.4.tgz"] == archive
    assert world.server.statuses[401] == 0


@pytest.mark.spec("SRC-HCH-15")
async def test_a_dependency_of_an_unknown_repository_is_fetched_as_nobody(world: HelmWorld) -> None:
    async with helm_server() as other:
        archive = other.add("lib", "1.0.4")
        await world.tree(placed("charts/app", with_dependency(other.url)))
        done, _ = await world.run(chart(world))
        assert world.files(done)["app/charts/lib-1.0.4.tgz"] == archive
        assert set(other.authorizations) == {""}
        other.basic = ("user", "password")
        changed = msgspec.structs.replace(chart(world, generation=2), status=done.status)
        other.entries.clear()
        error = await world.failure(changed)
        assert (error.reason, error.condition) == ("DependencyBuildError", "BuildFailed")


async def test_a_lock_file_wins_and_what_is_there_is_not_fetched(world: HelmWorld) -> None:
    world.server.add("lib", "1.0.4")
    world.server.add("lib", "1.0.5")
    lock = f"dependencies:\n- name: lib\n  version: 1.0.4\n  repository: {world.server.url}\n"
    await world.tree(placed("charts/app", with_dependency(world.server.url) | {"Chart.lock": lock}))
    done, _ = await world.run(chart(world))
    assert "app/charts/lib-1.0.4.tgz" in world.files(done)
    brought = placed("charts/app", with_dependency("http://127.0.0.1:1")) | {
        "charts/app/charts/lib-9.tgz": package(chart_files("lib", "9.0.0"), "lib")
    }
    await world.tree(brought)
    done, _ = await world.run(chart(world))
    assert "app/charts/lib-9.tgz" in world.files(done)


@pytest.mark.spec("SRC-HCH-16")
@pytest.mark.parametrize(
    ("repository", "said"),
    [
        ("@stable", "aliased repository dependency is not supported: @stable"),
        ("alias:stable", "invalid dependency repository URL: alias:stable"),
        ("ftp://example.com/charts", "invalid dependency repository URL: ftp://example.com/charts"),
    ],
)
async def test_a_dependency_of_an_alias_is_refused(world: HelmWorld, repository: str, said: str) -> None:
    await world.tree(placed("charts/app", with_dependency(repository)))
    error = await world.failure(chart(world))
    assert (error.reason, error.condition) == ("DependencyBuildError", "BuildFailed")
    assert error.message == f"dependency build error: failed to add remote dependency 'lib': {said}"


@pytest.mark.spec("SRC-HCH-17")
async def test_a_file_beyond_the_limit_fails(tmp_path: Path, toolbox: Toolbox) -> None:
    async with helm_world(tmp_path, toolbox, limits=HelmLimits(file_bytes=3000)) as world:
        await world.tree(placed("charts/app", chart_files(**{"big.txt": "x" * 3001})))
        error = await world.failure(chart(world))
        assert (error.reason, error.condition) == ("ChartPackageError", "BuildFailed")
        assert error.message.endswith("cannot load file big.txt as file size (3001) exceeds limit (3000)")
        ignored = chart_files(**{"big.txt": "x" * 3001, ".helmignore": "big.txt"})
        await world.tree(placed("charts/app", ignored))
        await world.run(chart(world))


@pytest.mark.spec("SRC-HCH-18", "SEC-15")
@pytest.mark.parametrize("link", ["values.yaml", "Chart.lock", "templates", "charts"])
async def test_a_link_that_leaves_the_source_is_refused(world: HelmWorld, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("canary: 1\n")
    artifact = await world.tree(placed("charts/app", chart_files()))
    async with world.trees.open(artifact) as tree:
        target = tree.directory / "charts" / "app" / link
        await asyncio.to_thread(_replace_by_link, target, outside if link in ("templates", "charts") else
                                outside / "secret")  # fmt: skip
    error = await world.failure(chart(world))
    assert (error.reason, error.condition) == ("ChartPackageError", "BuildFailed")
    assert f"cannot load '{link}'" in error.message
    assert "traverses outside root boundary" in error.message
    assert "canary" not in error.message


def _replace_by_link(path: Path, target: Path) -> None:
    import shutil

    path.parent.chmod(0o700)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("files", "path", "said"),
    [
        ({"a": "1"}, "charts/none", "no such file or directory"),
        ({"charts/app/values.yaml": "a: 1"}, "charts/app", "no such file or directory"),
        ({"charts/app/Chart.yaml": "name: app\nversion: one\n"}, "charts/app", "version 'one' is invalid"),
        ({"charts/app/Chart.yaml": "name: .\nversion: 1.0.0\n"}, "charts/app", "name '.' is invalid"),
        ({"a.tgz": b"nothing"}, "a.tgz", "ends too early"),
        ({"a": "1"}, "../../etc", "no such file or directory"),
    ],
)
async def test_a_path_that_is_no_chart_stalls(
    world: HelmWorld, files: dict[str, str | bytes], path: str, said: str
) -> None:
    await world.tree(files)
    error = await world.failure(chart(world, chart=path), REQUESTED)
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("InvalidChartReference", "FetchFailed")
    assert error.message.startswith("invalid chart reference: ")
    assert said in error.message
