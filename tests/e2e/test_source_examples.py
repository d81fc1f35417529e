"""Every example of a source, delivered by `headrace up` from real servers until it is Ready; then something changes
upstream, and a consumer that is no part of headrace sees, fetches and unpacks it. One cluster for the whole file: each
example takes the place of the one before it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import yaml

from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.source.oci.manifest import HELM_CHART, Manifest, encoded
from headrace.source.oci.reference import Repository as OciPath
from headrace.source.oci.registry import Registry
from tests.cluster.ocirepository.world import Pusher
from tests.e2e.command_line import CommandLine, until
from tests.e2e.delivered import served
from tests.e2e.delivered_example import (
    Consumer,
    Example,
    Json,
    app,
    assert_artifact,
    assert_fields_of_upstream,
    below,
)
from tests.servers.git_http import GitServer, Repository
from tests.servers.go_program import program
from tests.servers.helm_http import HELM_CONFIG, chart_files, helm_server
from tests.servers.registry import registry_server
from tests.servers.s3 import REGION, s3_server

pytestmark = pytest.mark.timeout(400)

OLD, NEW = "6.0.0", "6.1.0"


@pytest.fixture(scope="module")
def headrace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    headrace = CommandLine(tmp_path_factory.mktemp("home"))
    headrace.env["HEADRACE_FEATURE_GATES"] = "ExternalArtifact=true"
    yield headrace
    headrace("down", "--delete")


@pytest.fixture
def example(headrace: CommandLine, tmp_path: Path) -> Callable[[str], Example]:
    return lambda name: Example(headrace, tmp_path, name)


@pytest.fixture
async def git(tmp_path: Path) -> AsyncIterator[GitServer]:
    (tmp_path / "git").mkdir()
    server = GitServer(tmp_path / "git")
    await server.start()
    yield server
    await server.stop()


async def test_gitrepository(example: Callable[[str], Example], git: GitServer) -> None:
    repository = Repository(git.root, "podinfo")

    def release(version: str) -> str:
        files = below("kustomize", app(f"git {version}"))
        commit = repository.commit({**files, "README.md": version})
        repository.tag(version)
        return f"{version}@sha1:{commit}"

    release(OLD)
    delivery = example("gitrepository")
    delivery.patch("GitRepository", "podinfo", {"/spec/url": git.url("podinfo")})
    await delivery.once()
    async with delivery.up():
        await delivery.delivered(f"git {OLD}")
        consumer = delivery.consumer("gitrepositories")
        revision = release(NEW)
        await delivery.run("reconcile", "ks", "podinfo", "--with-source")
        await delivery.delivered(f"git {NEW}")
        seen = await consumer.sees("podinfo", lambda artifact: artifact["revision"] == revision)
        artifact = assert_fields_of_upstream(seen, extra=frozenset({"observedIgnore"}))
        assert await consumer.files(artifact) == below("kustomize", app(f"git {NEW}"))


async def test_ocirepository(example: Callable[[str], Example], tmp_path: Path) -> None:
    async with registry_server(tmp_path / "registry") as registry:
        delivery = example("ocirepository")
        origin = ("--source", "https://git.example.com/app", "--revision", "main@sha1:abc")

        async def release(version: str) -> None:
            for name, content in app(f"oci {version}").items():
                (tmp_path / "app").mkdir(exist_ok=True)
                (tmp_path / "app" / name).write_text(content)
            url = registry.url(f"manifests/podinfo:{version}")
            await delivery.run("push", "artifact", url, "--path", str(tmp_path / "app"), *origin)

        await release(OLD)
        url = registry.url("manifests/podinfo")
        delivery.patch("OCIRepository", "podinfo", {"/spec/url": url, "/spec/insecure": True})
        await delivery.once()
        async with delivery.up():
            await delivery.delivered(f"oci {OLD}")
            consumer = delivery.consumer("ocirepositories")
            await release(NEW)
            await delivery.run("reconcile", "ks", "podinfo", "--with-source")
            await delivery.delivered(f"oci {NEW}")
            seen = await consumer.sees("podinfo", lambda artifact: artifact["revision"].startswith(f"{NEW}@sha256:"))
            artifact = assert_fields_of_upstream(seen, extra=frozenset({"url"}))
            assert artifact["metadata"]["org.opencontainers.image.revision"] == "main@sha1:abc"
            assert await consumer.files(artifact) == app(f"oci {NEW}")


async def test_bucket(example: Callable[[str], Example], tmp_path: Path) -> None:
    async with s3_server(tmp_path / "s3") as server:
        await server.make_bucket("manifests")

        async def release(version: str) -> None:
            for key, content in {**below("app", app(f"bucket {version}")), "app/README.md": "", "other": ""}.items():
                await server.put("manifests", key, content.encode())

        await release(OLD)
        delivery = example("bucket")
        keys = {"accesskey": server.keys.access_key, "secretkey": server.keys.secret_key}
        delivery.patch("Secret", "manifests-keys", {"/stringData": keys})
        where = {"/spec/endpoint": server.endpoint, "/spec/region": REGION, "/spec/insecure": True}
        delivery.patch("Bucket", "manifests", where)
        await delivery.once()
        async with delivery.up():
            await delivery.delivered(f"bucket {OLD}")
            consumer = delivery.consumer("buckets")
            before = (await consumer.sees("manifests"))["status"]["artifact"]
            await release(NEW)
            await delivery.run("reconcile", "ks", "manifests", "--with-source")
            await delivery.delivered(f"bucket {NEW}")
            seen = await consumer.sees("manifests", lambda artifact: artifact["revision"] != before["revision"])
            artifact = assert_fields_of_upstream(seen, extra=frozenset({"observedIgnore", "url"}))
            assert re.fullmatch("sha256:[0-9a-f]{64}", artifact["revision"])
            assert await consumer.files(artifact) == below("app", app(f"bucket {NEW}"))


async def test_helmrepository(example: Callable[[str], Example], tmp_path: Path) -> None:
    async with helm_server() as server, registry_server(tmp_path / "registry") as registry:
        delivery = example("helmrepository")

        async def release(version: str) -> None:
            chart = server.add("podinfo", version)
            await push_chart(registry.address, "charts/podinfo", version, chart)

        await release(OLD)
        delivery.patch("HelmRepository", "podinfo$", {"/spec/url": server.url})
        where = {"/spec/url": registry.url("charts"), "/spec/insecure": True}
        delivery.patch("HelmRepository", "podinfo-oci", where)
        await delivery.once()
        async with delivery.up():
            repositories, charts = delivery.consumer("helmrepositories"), delivery.consumer("helmcharts")
            await release(NEW)
            await delivery.run("reconcile", "source", "chart", "podinfo", "--with-source")
            await delivery.run("reconcile", "source", "chart", "podinfo-oci", "--with-source")
            index = assert_fields_of_upstream(await repositories.sees("podinfo"), extra=frozenset({"url"}))
            assert NEW in {one["version"] for one in await index_of(repositories, index)}
            for name in ("podinfo", "podinfo-oci"):
                seen = await charts.sees(name, lambda artifact: artifact["revision"] == NEW)
                artifact = assert_fields_of_upstream(seen, reason="ChartPullSucceeded", extra=chart_fields(name))
                assert read_by_helm(await charts.file(artifact))["version"] == NEW
                assert "podinfo/values.yaml" in await charts.files(artifact)


async def test_helmchart(example: Callable[[str], Example], git: GitServer) -> None:
    repository = Repository(git.root, "podinfo", "master")

    def release(replicas: int) -> str:
        production = {"values-prod.yaml": f"replicas: {replicas}\n"}
        return repository.commit({**below("charts/podinfo", chart_files("podinfo", OLD, **production))})

    release(2)
    delivery = example("helmchart")
    delivery.patch("GitRepository", "podinfo", {"/spec/url": git.url("podinfo")})
    await delivery.once()
    async with delivery.up():
        consumer = delivery.consumer("helmcharts")
        commit = release(3)
        await delivery.run("reconcile", "source", "chart", "podinfo-prod", "--with-source")
        version = f"{OLD}+{commit[:12]}.1"
        seen = await consumer.sees("podinfo-prod", lambda artifact: artifact["revision"] == version)
        artifact = assert_fields_of_upstream(seen, reason="ChartPackageSucceeded", extra=chart_fields())
        assert seen["status"]["observedSourceArtifactRevision"] == f"master@sha1:{commit}"
        chart = read_by_helm(await consumer.file(artifact))
        assert (chart["name"], chart["version"], chart["values"]["replicas"]) == ("podinfo", version, 3)


async def test_externalartifact(example: Callable[[str], Example], tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    delivery = example("externalartifact")
    with served(tmp_path / "served") as address:

        async def offer(version: str) -> None:
            """As the README does, with tar and kubectl."""
            (tmp_path / "build").mkdir(exist_ok=True)
            for name, content in app(f"external {version}").items():
                (tmp_path / "build" / name).write_text(content)
            file = tmp_path / "served" / f"{version}.tar.gz"
            command = ["tar", "czf", str(file), "-C", str(tmp_path / "build"), "."]
            await asyncio.to_thread(subprocess.run, command, check=True)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            artifact = {"url": f"{address}/{file.name}", "path": file.name, "revision": version,
                        "digest": f"sha256:{digest}", "lastUpdateTime": "2026-01-01T00:00:00Z"}  # fmt: skip
            patch = json.dumps({"status": {"artifact": artifact}})
            await delivery.run("kubectl", "-n", "flux-system", "patch", "externalartifact", "build",
                               "--subresource=status", "--type=merge", "-p", patch)  # fmt: skip

        async with delivery.up():
            waiting = await asyncio.to_thread(delivery.line, "explain", "externalartifact", "build")
            assert "its producer has to offer an artifact" in waiting.out
            await offer(OLD)
            await delivery.delivered(f"external {OLD}")
            await offer(NEW)
            await delivery.delivered(f"external {NEW}")
            await delivery.ready("kustomization/build")
        await delivery.once()


async def test_artifactgenerator(example: Callable[[str], Example]) -> None:
    delivery = example("artifactgenerator")
    await delivery.once()
    async with delivery.up():
        get = ("get", "configmap", "web-settings", "-n", "default", "-o", "jsonpath={.data.application}")
        assert await asyncio.to_thread(delivery.line.kubectl, *get) == "web"
        consumer = delivery.consumer("externalartifacts")
        before = {name: (await consumer.sees(name))["status"]["artifact"] for name in ("web", "api")}
        file = delivery.root / "apps" / "web" / "settings.yaml"
        file.write_text(file.read_text().replace("application: web", "application: site"))
        seen = await consumer.sees("web", lambda artifact: artifact["digest"] != before["web"]["digest"])
        artifact = assert_artifact(seen["status"]["artifact"], "externalartifact/flux-system/web/")
        assert seen["spec"]["sourceRef"]["kind"] == "ArtifactGenerator"
        assert artifact["revision"] == f"latest@{artifact['digest']}"
        assert artifact["metadata"]["org.opencontainers.image.revision"].startswith("main@sha1:")
        files = await consumer.files(artifact)
        assert yaml.safe_load(files["settings.yaml"])["data"] == {"application": "site"}
        await asyncio.to_thread(until, lambda: delivery.line.kubectl(*get) == "site", "the delivery of web")
        assert (await consumer.sees("api"))["status"]["artifact"]["digest"] == before["api"]["digest"]


def chart_fields(name: str = "") -> frozenset[str]:
    """Fields of the status of charts alone; the charts of a registry come from no artifact."""
    fields = frozenset({"observedChartName", "url"})
    return fields if name == "podinfo-oci" else fields | {"observedSourceArtifactRevision"}


def read_by_helm(chart: Path) -> Json:
    """What Helm's own loader finds in an archive."""
    done = subprocess.run([program("helm"), chart], capture_output=True, check=True, text=True)
    found: Json = json.loads(done.stdout)
    return found


async def index_of(consumer: Consumer, artifact: Json) -> list[Json]:
    """The versions of `podinfo` in the index of a repository, which is stored as it is, not in a tar archive."""
    content = yaml.safe_load((await consumer.file(artifact)).read_text())
    found: list[Json] = content["entries"]["podinfo"]
    return found


async def push_chart(host: str, path: str, version: str, chart: bytes) -> None:
    """As `helm push` does it."""
    egress = Egress(EgressPolicy(allow_loopback=True))
    try:
        to = Pusher(Registry(egress, SystemClock()), OciPath(host, path))
        config = await to.blob(HELM_CONFIG, json.dumps({"name": "podinfo", "version": version}).encode())
        layer = await to.blob(HELM_CHART, chart)
        await to.manifest(version, encoded(Manifest(config=config, layers=(layer,))))
    finally:
        await egress.close()
