"""HelmRepository against a real server: indexes kept, revisions, credentials, and what a poll costs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import tracemalloc
from pathlib import Path

import pytest

from headrace.controllers.helm.helmrepository import human_size
from headrace.core.egress import parse_url
from headrace.core.limits import HelmLimits
from headrace.model.errors import Retry, Stalled
from headrace.model.outcome import Condition
from headrace.source.helm.calls import yaml_reader
from headrace.source.helm.index import normalise
from headrace.source.helm.repository import ANONYMOUS, HelmRepositoryClient
from headrace.toolbox import Toolbox
from tests.servers.certificates import Authority
from tests.servers.helm_http import helm_server
from tests.servers.helm_world import HelmWorld, helm_world
from tests.servers.sources import INTERVAL, REQUESTED

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.spec("SRC-HRP-01", "SRC-COM-24")
async def test_an_index_is_kept_as_json_under_the_hash_of_what_was_served(world: HelmWorld) -> None:
    world.server.add("app", "1.0.0")
    world.server.add("app", "1.10.0")
    world.server.add("app", "1.9.0")
    served = world.server.index()
    done, outcome = await world.run(world.repository())
    artifact = done.status.artifact
    assert artifact is not None
    digest = hashlib.sha256(served).hexdigest()
    assert artifact.revision == f"sha256:{digest}"
    assert artifact.path == f"helmrepository/default/charts/index-{digest}.yaml"
    stored = (world.store.root / artifact.path).read_bytes()
    assert artifact.digest == f"sha256:{hashlib.sha256(stored).hexdigest()}"
    assert artifact.size == len(stored)
    content = json.loads(stored)
    assert stored == json.dumps(content, indent=2).encode()
    assert [entry["version"] for entry in content["entries"]["app"]] == ["1.10.0", "1.9.0", "1.0.0"]
    assert content["apiVersion"] == "v1"
    assert done.status.url == "http://source.example:9090/helmrepository/default/charts/index.yaml"
    assert (world.store.root / "helmrepository/default/charts/index.yaml").read_bytes() == stored
    message = f"stored artifact: revision 'sha256:{digest}'"
    assert (outcome.reason, outcome.message) == ("Succeeded", message)
    assert outcome.conditions == (Condition("ArtifactInStorage", "True", "Succeeded", message),)
    assert outcome.event_reason == "NewArtifact"
    assert outcome.event == f"stored fetched index of size {human_size(len(stored))} from '{world.server.url}'"


@pytest.mark.spec("SRC-HRP-02", "SRC-COM-26")
@pytest.mark.parametrize("etags", [True, False])
async def test_an_index_with_the_same_hash_is_up_to_date(world: HelmWorld, etags: bool) -> None:
    world.server.etags = etags
    world.server.add()
    done, _ = await world.run(world.repository())
    again, outcome = await world.run(done, REQUESTED)
    assert again.status.artifact == done.status.artifact
    assert outcome.event_reason == "ArtifactUpToDate"
    assert world.server.statuses[304] == int(etags)
    assert world.server.paths["/index.yaml"] == 2
    assert list(world.store.scratch.iterdir()) == []


async def test_objects_of_one_repository_share_a_poll_and_the_stored_index(world: HelmWorld) -> None:
    world.server.add()
    paths = set()
    for name in ("one", "two", "three"):
        done, _ = await world.run(world.repository(name, interval="1h"))
        assert done.status.artifact is not None
        paths.add((world.store.root / done.status.artifact.path).stat().st_ino)
    assert len(paths) == 1
    assert world.server.paths["/index.yaml"] == 1
    await world.run(done, INTERVAL)
    assert world.server.paths["/index.yaml"] == 1, "an answer of another object's poll is young enough"


async def test_the_end_of_a_run_does_not_wait_for_the_download_of_another(world: HelmWorld) -> None:
    world.server.add()
    client = HelmRepositoryClient(parse_url(world.server.url), ANONYMOUS, world.egress)
    async with world.indexes._repository(client).lock, asyncio.timeout(10):
        await world.indexes.settle(client)


async def test_a_new_index_that_one_object_finds_wakes_the_others(world: HelmWorld) -> None:
    world.server.add()
    done, _ = await world.run(world.repository())
    world.server.add("app", "2.0.0")
    newer, _ = await world.run(done, REQUESTED)
    assert newer.status.artifact is not None
    async with asyncio.timeout(10):
        while not world.changed:
            await asyncio.sleep(0.01)
    ((reference, _, digest),) = world.changed
    assert (reference.kind, digest) == ("HelmIndex", newer.status.artifact.revision)


@pytest.mark.spec("SRC-HRP-03", "SEC-16")
async def test_entries_that_are_worth_nothing_are_dropped_and_the_others_kept(world: HelmWorld) -> None:
    world.server.raw_index = b"""
apiVersion: v1
entries:
  app:
  - {name: app, version: 1.0.0, urls: [a.tgz]}
  - null
  -
  - {name: ../evil, version: 1.0.0}
  - {name: app, version: not-a-version}
  - {name: app, version: 1.1.0, type: nonsense}
  - {name: app, version: 1.2.0, maintainers: [null]}
  - {version: 1.3.0}
  nothing:
"""
    done, _ = await world.run(world.repository())
    assert done.status.artifact is not None
    content = json.loads((world.store.root / done.status.artifact.path).read_bytes())
    assert [entry["version"] for entry in content["entries"]["app"]] == ["1.0.0"]
    assert content["entries"]["nothing"] == []


@pytest.mark.spec("SRC-HRP-03")
@pytest.mark.parametrize(
    ("index", "said"),
    [
        (b"entries: {}\n", "no API version specified"),
        (b'{"entries": {}}', "no API version specified"),
        (b"", "empty index.yaml file"),
        (b"<html>not found</html>", "not a map of fields"),
        (b"apiVersion: v1\nunknown: 1\nentries: {}\n", "unknown"),
        (b"apiVersion: v1\nentries:\n  app:\n  - {name: app, version: 1.0.0, surprise: 1}\n", "surprise"),
        (b"apiVersion: v1\nentries:\n  app:\n  - name: app\n    version: 1.0.0\n    created: yesterday\n", "yesterday"),
    ],
)
async def test_what_is_no_index_fails_indexation(world: HelmWorld, index: bytes, said: str) -> None:
    world.server.raw_index = index
    error = await world.failure(world.repository())
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("IndexationFailed", "FetchFailed")
    assert error.message.startswith("failed to load Helm repository from index YAML: failed to load index: ")
    assert said in error.message


@pytest.mark.spec("SRC-HRP-04")
async def test_an_index_beyond_the_limit_fails(tmp_path: Path, toolbox: Toolbox) -> None:
    assert HelmLimits().index_bytes == 50 * 1024 * 1024
    async with helm_world(tmp_path, toolbox, limits=HelmLimits(index_bytes=1000)) as world:
        world.server.raw_index = b"apiVersion: v1\nentries: {}\n" + b"#" * 1000
        error = await world.failure(world.repository())
        assert (error.reason, error.condition) == ("Failed", "FetchFailed")
        assert error.message.endswith("index exceeds the maximum index file size of 1000 bytes")
        assert list(world.store.scratch.iterdir()) == []


@pytest.mark.spec("SRC-HRP-05")
async def test_interval_and_timeout_are_a_minute_by_default(world: HelmWorld) -> None:
    world.server.add()
    repo = world.repository(interval="")
    assert (repo.spec.interval_or_default, repo.spec.timeout_or_default) == ("1m", "1m")
    _, outcome = await world.run(repo)
    assert (outcome.after, outcome.jitter) == (60.0, True)


@pytest.mark.spec("SRC-HRP-06")
@pytest.mark.parametrize(("key", "missing"), [("username", "password"), ("password", "username")])
async def test_half_of_basic_auth_fails(world: HelmWorld, key: str, missing: str) -> None:
    world.secret("creds", **{key: b"canary"})
    error = await world.failure(world.repository(secretRef={"name": "creds"}))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")
    assert f"'{missing}' is missing" in error.message
    assert "canary" not in error.message


async def test_basic_auth_opens_the_repository_and_wrong_credentials_are_told(world: HelmWorld) -> None:
    world.server.add()
    world.server.basic = ("user", "canary-password")
    world.secret("creds", username=b"user", password=b"canary-password")
    done, _ = await world.run(world.repository(secretRef={"name": "creds"}))
    assert done.status.artifact is not None
    world.secret("creds", username=b"user", password=b"canary-wrong")
    error = await world.failure(world.repository(secretRef={"name": "creds"}))
    assert (error.reason, "401" in error.message, "canary" in error.message) == ("Failed", True, False)


@pytest.mark.spec("SRC-HRP-09", "SRC-COM-08")
async def test_an_oci_url_with_the_default_type_stalls(world: HelmWorld) -> None:
    error = await world.failure(world.repository(url="oci://registry.example/charts"))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("URLInvalid", "FetchFailed")
    assert "'oci' URL scheme cannot be used with 'default' HelmRepository type" in error.message


async def test_a_server_that_is_not_there_is_named(world: HelmWorld) -> None:
    error = await world.failure(world.repository(url="http://127.0.0.1:1/charts"))
    assert (error.reason, error.condition) == ("Failed", "FetchFailed")
    assert error.message.startswith("failed to fetch Helm repository index: failed to cache index to temporary file: ")
    world.server.entries = {}
    error = await world.failure(world.repository(url=world.server.url + "/elsewhere"))
    assert error.message.endswith(f"failed to fetch {world.server.url}/elsewhere/index.yaml : 404 Not Found")


async def test_two_identities_never_share_an_index(world: HelmWorld) -> None:
    world.server.add()
    world.secret("one", username=b"one", password=b"1")
    await world.run(world.repository("one", secretRef={"name": "one"}))
    await world.run(world.repository("nobody"))
    assert world.server.paths["/index.yaml"] == 2


@pytest.mark.spec("SEC-30")
async def test_a_redirect_to_another_server_gets_no_credentials(world: HelmWorld) -> None:
    async with helm_server() as other:
        other.add()
        world.secret("creds", username=b"user", password=b"canary-password")
        world.server.add()
        world.server.redirect_charts = other.url
        await world.indexed(secretRef={"name": "creds"})
        done, _ = await world.run(world.chart())
        assert done.status.artifact is not None
        assert world.server.authorizations[-1].startswith("Basic ")
        assert other.authorizations == [""]


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0B"), (961, "961B"), (1234, "1.234kB"), (68_149_642, "68.15MB"), (5 * 10**9, "5GB")]
)
async def test_sizes_are_written_as_flux_writes_them(size: int, shown: str) -> None:
    assert human_size(size) == shown


SERVERS, CLIENTS = Authority("servers"), Authority("clients")


@pytest.mark.spec("SRC-HRP-08", "SRC-COM-29")
async def test_the_certificates_of_cert_secret_ref_win_over_those_of_secret_ref(
    world: HelmWorld, tmp_path: Path
) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    context = SERVERS.server_context(folder, "127.0.0.1", client_ca=CLIENTS.certificate)
    certificate, key = CLIENTS.issue("tester")
    wrong_certificate, wrong_key = SERVERS.issue("stranger")
    world.secret("right", ca__crt=SERVERS.certificate, tls__crt=certificate, tls__key=key)
    world.secret("legacy", caFile=SERVERS.certificate, certFile=certificate, keyFile=key)
    world.secret("wrong", ca__crt=CLIENTS.certificate, tls__crt=wrong_certificate, tls__key=wrong_key)
    async with helm_server(context) as server:
        server.add()
        for name, spec in (
            ("both", {"secretRef": {"name": "wrong"}, "certSecretRef": {"name": "right"}}),
            ("deprecated", {"secretRef": {"name": "legacy"}}),
        ):
            done, _ = await world.run(world.repository(name, url=server.url, **spec))
            assert done.status.artifact is not None
        spec = {"secretRef": {"name": "legacy"}, "certSecretRef": {"name": "wrong"}}
        error = await world.failure(world.repository("other", url=server.url, **spec))
        assert (error.reason, error.condition) == ("Failed", "FetchFailed")
        assert ": tls: " in error.message


@pytest.mark.spec("SRC-COM-28")
async def test_half_a_certificate_fails(world: HelmWorld) -> None:
    world.secret("half", tls__crt=CLIENTS.certificate)
    error = await world.failure(world.repository(certSecretRef={"name": "half"}))
    assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")


async def test_a_large_index_costs_little_memory(tmp_path: Path, toolbox: Toolbox) -> None:
    entry = "  - name: app-{0}\n    version: 1.0.{1}\n    description: {2}\n    urls: [a.tgz]\n"
    source = tmp_path / "index.yaml"
    with source.open("w") as file:
        file.write("apiVersion: v1\nentries:\n")
        for chart in range(300):
            file.write(f"  app-{chart}:\n")
            file.writelines(entry.format(chart, patch, "x" * 1000) for patch in range(10))
    size = source.stat().st_size
    tracemalloc.start()
    try:
        with (tmp_path / "out").open("wb") as target, tempfile.TemporaryFile() as scratch:
            await normalise(source, target, scratch, yaml_reader(toolbox))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 3_000_000
    assert peak < size / 2
