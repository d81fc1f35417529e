"""Helm indexes and charts made by somebody hostile (SEC-05, SEC-15, SEC-16, SEC-29, SEC-30)."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.core.egress import EgressPolicy
from headrace.model.errors import StepError
from headrace.toolbox import Toolbox
from tests.servers.helm_http import chart_files, helm_server, package
from tests.servers.helm_world import HelmWorld, helm_world
from tests.servers.sources import REQUESTED


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HelmWorld]:
    async with Toolbox(size=1) as toolbox, helm_world(tmp_path, toolbox) as made:
        yield made


def bomb() -> bytes:
    """A billion laughs in one entry."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    inner = "\n      ".join(levels)
    start = "apiVersion: v1\nentries:\n  app:\n  - name: app\n    version: 1.0.0\n    annotations:\n      "
    return f"{start}{inner}\n".encode()


@pytest.mark.spec("SEC-16")
@pytest.mark.parametrize(
    "index",
    [
        pytest.param(bomb(), id="aliases that double"),
        pytest.param(b"apiVersion: v1\nentries: " + b"[" * 100_000, id="endless nesting"),
        pytest.param(b'{"entries":' + b"[" * 100_000, id="endless nesting in JSON"),
        pytest.param(b"apiVersion: v1\nentries: &a {app: *a}\n", id="an anchor that holds itself"),
        pytest.param(b"apiVersion: v1\nentries:\n  app:\n  - &a [*a]\n", id="an entry that holds itself"),
        pytest.param(b"\xff\xfe\x00\x01", id="no text"),
        pytest.param(b"- " * 1000, id="a list"),
    ],
)
async def test_an_index_that_would_exhaust_a_parser_is_refused_and_the_next_one_is_read(
    world: HelmWorld, index: bytes
) -> None:
    world.server.raw_index = index
    error = await world.failure(world.repository())
    assert (error.reason, error.condition) == ("IndexationFailed", "FetchFailed")
    world.server.raw_index = None
    world.server.add()
    done, _ = await world.run(world.repository(), REQUESTED)
    assert done.status.artifact is not None


@pytest.mark.spec("SEC-16", "SRC-HRP-03")
async def test_null_entries_never_crash_anything(world: HelmWorld) -> None:
    nulls = [None, {"name": "app", "version": "1.0.0", "urls": None, "dependencies": [None]}, None]
    world.server.raw_index = msgspec.json.encode({"apiVersion": "v1", "entries": {"app": nulls, "other": None}})
    await world.indexed()
    error = await world.failure(world.chart())
    assert (error.reason, "no chart version found" in error.message) == ("InvalidChartReference", True)


@pytest.mark.spec("SEC-29", "SEC-30")
@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "http://[::1]:1/x.tgz", "ftp://example.com/a.tgz",
     "http://user:pass@127.0.0.1:1/app.tgz"],
)  # fmt: skip
async def test_a_chart_s_address_leads_nowhere_it_may_not(tmp_path: Path, url: str) -> None:
    async with Toolbox(size=1) as toolbox:
        async with helm_world(tmp_path, toolbox) as world:
            policy = EgressPolicy(allow_hosts=frozenset({f"127.0.0.1:{world.server.port}"}))
            world.egress.policy = policy
            world.server.add(url=url)
            await world.indexed()
            error = await world.failure(world.chart())
            assert (error.reason, error.condition) == ("ChartPullError", "FetchFailed")
            assert "pass@" not in error.message


def hostile(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in chart_files().items():
            entry = tarfile.TarInfo(f"app/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))
        for entry, data in entries:
            entry.size = len(data) if entry.isfile() else 0
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(raw.getvalue())


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry, b""


@pytest.mark.spec("SEC-15", "SRC-HCH-18")
@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(hostile((tarfile.TarInfo("../../evil"), b"x")), id="a path out of the chart"),
        pytest.param(hostile((tarfile.TarInfo("/etc/evil"), b"x")), id="an absolute path"),
        pytest.param(hostile((tarfile.TarInfo("app\\..\\evil"), b"x")), id="backslashes"),
        pytest.param(hostile(link("app/Chart.lock", "/etc/passwd")), id="a linked lock file"),
        pytest.param(hostile(link("app/prod.yaml", "../../../etc/passwd")), id="a linked values file"),
        pytest.param(package(chart_files("../../x")), id="a name that is a path"),
        pytest.param(package(chart_files(".")), id="a name that is the directory"),
        pytest.param(gzip.compress(b"\0" * 300_000_000), id="a bomb of zeros"),
    ],
)
async def test_a_hostile_chart_is_refused_and_leaves_nothing(world: HelmWorld, archive: bytes) -> None:
    world.server.add()
    world.server.archives["/charts/app-1.0.0.tgz"] = archive
    await world.indexed()
    for files in ([], ["prod.yaml"]):
        error = await world.failure(world.chart(valuesFiles=files))
        assert error.reason in ("ChartPullError", "ChartPackageError")
    assert list(world.store.root.glob("helmchart/**/*")) == []
    assert list(world.store.scratch.iterdir()) == []


@pytest.mark.spec("SEC-15")
@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../etc/passwd", "http://127.0.0.1/x", "templates/../../x"])
async def test_a_values_file_is_a_file_of_the_chart_or_nothing(world: HelmWorld, name: str) -> None:
    world.server.add()
    await world.indexed()
    error = await world.failure(world.chart(valuesFiles=[name]))
    assert (error.reason, error.condition) == ("ValuesFilesError", "BuildFailed")
    await world.tree({f"charts/app/{path}": content for path, content in chart_files().items()})
    source = {"kind": "GitRepository", "name": "files"}
    error = await world.failure(world.chart(chart="charts/app", sourceRef=source, valuesFiles=[name]))
    assert (error.reason, error.condition) == ("ValuesFilesError", "BuildFailed")


@pytest.mark.spec("SEC-30")
async def test_a_dependency_elsewhere_never_gets_the_credentials_of_the_repository(world: HelmWorld) -> None:
    async with helm_server() as other:
        other.add("lib", "1.0.0")
        world.server.basic = ("user", "canary-password")
        world.server.add("lib", "1.0.0", url=f"{other.url}/charts/lib-1.0.0.tgz")
        world.secret("creds", username=b"user", password=b"canary-password")
        await world.indexed(secretRef={"name": "creds"})
        meta = (
            "apiVersion: v2\nname: app\nversion: 1.0.0\n"
            f"dependencies: [{{name: lib, version: '*', repository: '{world.server.url}'}}]\n"
        )
        files = chart_files(**{"Chart.yaml": meta})
        await world.tree({f"charts/app/{path}": content for path, content in files.items()})
        await world.run(world.chart(chart="charts/app", sourceRef={"kind": "GitRepository", "name": "files"}))
        assert other.authorizations == [""]


@pytest.mark.spec("SEC-49")
async def test_a_chart_pulled_with_credentials_is_not_given_to_those_without(world: HelmWorld) -> None:
    world.server.add()
    world.secret("creds", username=b"user", password=b"canary-password")
    await world.indexed("open")
    await world.indexed("closed", secretRef={"name": "creds"})
    world.server.basic = ("user", "canary-password")
    await world.run(world.chart("mine", sourceRef={"kind": "HelmRepository", "name": "closed"}))
    with pytest.raises(StepError, match="401"):
        await world.run(world.chart("yours", sourceRef={"kind": "HelmRepository", "name": "open"}))
