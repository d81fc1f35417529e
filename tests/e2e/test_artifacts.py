"""`headrace push|pull|tag|list|diff artifact` as processes, against a real registry."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.source.oci.manifest import FLUX_CONFIG, FLUX_CONTENT
from headrace.source.oci.reference import Repository
from tests.cluster.ocirepository.world import OciWorld, oci_world
from tests.e2e.command_line import CommandLine, Done
from tests.servers.certificates import Authority
from tests.servers.registry import PASSWORD, USER, Fault, TokenServer

pytestmark = pytest.mark.timeout(300)

REVISION = "main@sha1:0123456789012345678901234567890123456789"
ORIGIN = ("--source", "https://example.com/org/app.git", "--revision", REVISION)


class Commands:
    """The command line beside a registry that runs in this process; `app` are the files to be pushed."""

    def __init__(self, home: Path, world: OciWorld) -> None:
        self.line = CommandLine(home)
        self.world = world
        self.app = home / "app"
        self.app.mkdir()

    async def __call__(self, *argv: str | Path, stdin: str = "") -> Done:
        return await asyncio.to_thread(self.line, *argv, stdin=stdin)

    def write(self, name: str, text: str = "content\n") -> Path:
        path = self.app / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def url(self, tag: str = "v1", path: str = "org/app") -> str:
        return self.world.server.url(f"{path}:{tag}")

    async def push(self, tag: str = "v1", *more: str | Path, path: Path | None = None, stdin: str = "") -> Done:
        return await self("push", "artifact", self.url(tag), "--path", path or self.app, *ORIGIN, *more, stdin=stdin)

    async def pushed_files(self, tag: str = "v1") -> list[str]:
        """The names of the files in the layer of an artifact."""
        image = await self.world.registry.image(self.repository, tag, self.world.pusher().access, timeout=20)
        assert image.layers is not None
        file = io.BytesIO()
        await self.world.registry.blob(self.repository, image.layers[0], file, self.world.pusher().access, timeout=20)
        with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as tar:
            return sorted(member.name for member in tar if member.isfile())

    @property
    def repository(self) -> Repository:
        return Repository(self.world.server.address, "org/app")

    def docker_config(self, config: dict[str, object]) -> None:
        directory = Path(self.line.env["HOME"]) / ".docker"
        directory.mkdir(exist_ok=True)
        (directory / "config.json").write_text(json.dumps(config))


@pytest.fixture
async def headrace(tmp_path: Path) -> AsyncIterator[Commands]:
    async with oci_world(tmp_path / "world") as world:
        home = tmp_path / "home"
        home.mkdir()
        yield Commands(home, world)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Commands]:
    """With a registry that wants a password."""
    async with oci_world(tmp_path / "world", password=True) as world:
        home = tmp_path / "home"
        home.mkdir()
        yield Commands(home, world)


# -- push ----------------------------------------------------------------------------------------------------------


async def test_what_is_pushed_is_delivered_by_an_ocirepository(headrace: Commands) -> None:
    headrace.write("deploy/app.yaml", "kind: ConfigMap\n")
    headrace.write("run.sh").chmod(0o755)
    headrace.write("logo.png")
    headrace.write(".git/config")
    said = await headrace.push()
    assert said.ok() == ""
    obj, _ = await headrace.world.run(headrace.world.object(ref={"tag": "v1"}))
    assert obj.status.artifact is not None
    digest = obj.status.artifact.revision.removeprefix("v1@")
    assert said.err.splitlines() == [
        f"► pushing artifact to {headrace.repository}:v1",
        f"✔ artifact successfully pushed to {headrace.repository}@{digest}",
    ]
    assert headrace.world.files(obj.status.artifact) == {
        "deploy/app.yaml": b"kind: ConfigMap\n",
        "run.sh": b"content\n",
    }
    assert obj.status.artifact.metadata is not None
    assert obj.status.artifact.metadata["org.opencontainers.image.revision"] == REVISION
    assert obj.status.artifact.metadata["org.opencontainers.image.source"] == "https://example.com/org/app.git"


async def test_a_pushed_artifact_has_the_media_types_and_the_form_of_flux(headrace: Commands) -> None:
    headrace.write("app.yaml")
    told = (await headrace.push("v1", "-o", "json", "-a", "org.example/team=one", "-a", "note=a=b")).data()
    registry, access = headrace.world.registry, headrace.world.pusher().access
    content = await registry.manifest(headrace.repository, "v1", access, timeout=20)
    manifest = content.manifest()
    digest = content.descriptor.digest
    assert told == {"url": f"oci://{headrace.repository}@{digest}", "repository": str(headrace.repository),
                    "tag": "v1", "digest": digest}  # fmt: skip
    assert manifest.config is not None
    assert manifest.config.media_type == FLUX_CONFIG
    assert manifest.layers is not None
    assert [layer.media_type for layer in manifest.layers] == [FLUX_CONTENT]
    assert manifest.annotations is not None
    created = manifest.annotations.pop("org.opencontainers.image.created")
    assert len(created) == len("2026-11-21T11:47:42Z")
    assert manifest.annotations == {
        "org.opencontainers.image.source": "https://example.com/org/app.git",
        "org.opencontainers.image.revision": REVISION, "org.example/team": "one", "note": "a=b",
    }  # fmt: skip
    file = io.BytesIO()
    await registry.blob(headrace.repository, manifest.layers[0], file, access, timeout=20)
    config = await registry.blob_bytes(headrace.repository, manifest.config, access, timeout=20)
    inner = gzip.decompress(file.getvalue())
    import hashlib

    assert json.loads(config)["rootfs"] == {
        "type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(inner).hexdigest()}"],
    }  # fmt: skip


async def test_reproducible_artifacts_of_the_same_files_are_the_same(headrace: Commands) -> None:
    headrace.write("app.yaml")
    first = (await headrace.push("v1", "--reproducible", "-o", "json")).data()
    (headrace.app / "app.yaml").touch()
    second = (await headrace.push("v2", "--reproducible", "-o", "json")).data()
    other = (await headrace.push("v3", "-o", "json")).data()
    assert first["digest"] == second["digest"] != other["digest"]


async def test_one_file_or_standard_input_is_pushed(headrace: Commands) -> None:
    one = headrace.write("one.yaml")
    headrace.write("two.yaml")
    (await headrace.push("file", path=one)).ok()
    assert await headrace.pushed_files("file") == ["one.yaml"]
    (await headrace.push("stdin", path=Path("-"), stdin="kind: ConfigMap\n")).ok()
    obj, _ = await headrace.world.run(headrace.world.object(ref={"tag": "stdin"}))
    assert headrace.world.files(obj.status.artifact) == {"manifests.yaml": b"kind: ConfigMap\n"}


async def test_ignore_paths_replace_what_is_left_out(headrace: Commands) -> None:
    for name in ("app.yaml", "logo.png", "docs/a.md", "docs/keep.md", "x/secret.txt"):
        headrace.write(name)
    (await headrace.push("v1", "--ignore-paths", "docs/,!docs/keep.md", "--ignore-paths", "*.txt")).ok()
    assert await headrace.pushed_files() == ["app.yaml", "docs/keep.md", "logo.png"]


async def test_links_are_left_out_unless_they_are_resolved(headrace: Commands, tmp_path: Path) -> None:
    headrace.write("real/app.yaml")
    (headrace.app / "link.yaml").symlink_to("real/app.yaml")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "base.yaml").write_text("base\n")
    (headrace.app / "base").symlink_to(outside)
    (await headrace.push("plain")).ok()
    assert await headrace.pushed_files("plain") == ["real/app.yaml"]
    (await headrace.push("resolved", "--resolve-symlinks")).ok()
    assert await headrace.pushed_files("resolved") == ["base/base.yaml", "link.yaml", "real/app.yaml"]
    (headrace.app / "real/loop").symlink_to("..")
    looped = await headrace.push("looped", "--resolve-symlinks")
    assert looped.code == 1
    assert "leads to a directory that it is in" in looped.err


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (("https://registry.example/app:v1",), "oci://"),
        (("oci://127.0.0.1:1/app:v1", "--path", "missing"), "must point to an existing directory or file"),
        (("oci://127.0.0.1:1/app:v1", "-a", "wrong"), "must be in the format key=value"),
        (("oci://127.0.0.1:1/app@sha256:" + "0" * 64,), "must name a tag"),
        (("oci://127.0.0.1:1/App:v1",), "no name of a repository"),
    ],
)
def test_a_push_that_cannot_be_is_a_usage_error(tmp_path: Path, argv: tuple[str, ...], wanted: str) -> None:
    url, *more = argv
    path = () if "--path" in more else ("--path", tmp_path)
    said = CommandLine(tmp_path)("push", "artifact", url, *path, *ORIGIN, *more)
    assert (said.code, wanted in said.err) == (2, True), said.said


# -- credentials ---------------------------------------------------------------------------------------------------


async def test_credentials_are_used_and_never_shown(guarded: Commands) -> None:
    guarded.write("app.yaml")
    denied = await guarded.push()
    assert denied.code == 1
    assert "denies access" in denied.err
    wrong = await guarded.push("v1", "--creds", f"{USER}:wrong-password")
    assert wrong.code == 1
    assert "wrong-password" not in wrong.said
    done = await guarded.push("v1", "--creds", f"{USER}:{PASSWORD}")
    done.ok()
    assert PASSWORD not in done.said
    assert "logging in to registry with credentials" in done.err


@pytest.mark.parametrize("form", ["auth", "username"])
async def test_the_docker_configuration_is_used(guarded: Commands, form: str) -> None:
    encoded_auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    entry = {"auth": encoded_auth} if form == "auth" else {"username": USER, "password": PASSWORD}
    guarded.docker_config({"auths": {guarded.world.server.address: entry, "ghcr.io": {}}})
    guarded.write("app.yaml")
    (await guarded.push()).ok()


@pytest.mark.parametrize("scope", ["registry", "everything"])
async def test_credential_helpers_are_asked(guarded: Commands, tmp_path: Path, scope: str) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    answer = json.dumps({"ServerURL": "", "Username": USER, "Secret": PASSWORD})
    helper = programs / "docker-credential-test"
    helper.write_text(
        "#!/bin/sh\nread server\n[ \"$1\" = get ] || exit 2\n"
        f"case $server in {guarded.world.server.address}) echo '{answer}';;\n"
        "*) echo 'credentials not found in native keychain'; exit 1;; esac\n"
    )  # fmt: skip
    helper.chmod(0o755)
    guarded.line.env["PATH"] = f"{programs}:{guarded.line.env['PATH']}"
    address = guarded.world.server.address
    guarded.docker_config({"credHelpers": {address: "test"}} if scope == "registry" else {"credsStore": "test"})
    guarded.write("app.yaml")
    (await guarded.push()).ok()
    helper.write_text(f"#!/bin/sh\necho '{PASSWORD}'; exit 3\n")
    failed = await guarded.push("v2")
    assert failed.code == 1
    assert "'docker-credential-test' failed with exit code 3" in failed.err
    assert PASSWORD not in failed.said


# -- pull, tag, list, diff -----------------------------------------------------------------------------------------


def flux_layer(files: dict[str, str]) -> bytes:
    """A layer in the form that the flux command line gives it: modes, times and headers of tar are others than ours."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        root = tarfile.TarInfo("./")
        root.type, root.mode = tarfile.DIRTYPE, 0o750
        tar.addfile(root)
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o640
            entry.pax_headers = {"mtime": "1700000000.123456789"}
            tar.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(raw.getvalue(), compresslevel=9)


async def test_an_artifact_that_flux_has_written_is_pulled(headrace: Commands, tmp_path: Path) -> None:
    annotations = {
        "org.opencontainers.image.source": "https://example.com\x1b[31m",
        "org.opencontainers.image.revision": REVISION,
    }
    long = "d/" * 60 + "long.yaml"
    layers = ((FLUX_CONTENT, flux_layer({"app.yaml": "kind: A\n", long: "long\n"})),)
    pushed = await headrace.world.pusher().push("v1", annotations=annotations, layers=layers)
    output = tmp_path / "output"
    output.mkdir()
    (output / "kept.txt").write_text("kept")
    (output / "app.yaml").write_text("old")
    said = await headrace("pull", "artifact", headrace.url(), "--output", output)
    assert said.ok() == ""
    assert said.err.splitlines() == [
        f"► pulling artifact from {headrace.repository}:v1",
        "✔ source https://example.com?[31m",
        f"✔ revision {REVISION}",
        f"✔ digest {headrace.repository}@{pushed.digest}",
        f"✔ artifact content extracted to {output}",
    ]
    found = {str(file.relative_to(output)): file.read_text() for file in output.rglob("*") if file.is_file()}
    assert found == {"app.yaml": "kind: A\n", long: "long\n", "kept.txt": "kept"}
    by_digest = await headrace("pull", "artifact", headrace.world.server.url(f"org/app@{pushed.digest}"), "-o", output)
    by_digest.ok()


async def test_a_pull_writes_nothing_outside_of_its_directory(headrace: Commands, tmp_path: Path) -> None:
    output, outside = tmp_path / "output", tmp_path / "outside"
    output.mkdir()
    outside.mkdir()
    (output / "link").symlink_to(outside)
    await headrace.world.pusher().push("up", {"../outside/x.yaml": "x"})
    await headrace.world.pusher().push("through", {"link/x.yaml": "x"})
    for tag in ("up", "through"):
        assert (await headrace("pull", "artifact", headrace.url(tag), "-o", output)).code == 1
    assert list(outside.iterdir()) == []


async def test_what_is_not_there_cannot_be_pulled(headrace: Commands, tmp_path: Path) -> None:
    assert (await headrace("pull", "artifact", headrace.url("missing"), "-o", tmp_path)).code == 4
    nowhere = await headrace("pull", "artifact", headrace.url(), "-o", tmp_path / "missing")
    assert (nowhere.code, "invalid output path" in nowhere.err) == (2, True)


async def test_tags_are_given(headrace: Commands) -> None:
    pushed = await headrace.world.pusher().push("v1")
    said = await headrace("tag", "artifact", headrace.url(), "--tag", "latest,stable", "--tag", "prod")
    said.ok()
    assert f"✔ artifact tagged as {headrace.repository}:stable" in said.err.splitlines()
    for tag in ("latest", "stable", "prod"):
        found = await headrace.world.registry.resolve(
            headrace.repository, tag, headrace.world.pusher().access, timeout=20
        )
        assert found.digest == pushed.digest
    assert (await headrace("tag", "artifact", headrace.url(), "--tag", "no tag")).code == 2


async def test_artifacts_are_listed_by_descending_tags(headrace: Commands) -> None:
    pusher = headrace.world.pusher()
    annotations = {"org.opencontainers.image.source": "here", "org.opencontainers.image.revision": REVISION}
    digests = {
        tag: (await pusher.push(tag, annotations=annotations)).digest
        for tag in ("1.0.0", "1.2.0", "2.0.0-rc.1", "main")
    }
    await pusher.push("sha256-" + "0" * 64 + ".sig")
    await pusher.push("sha256-" + "0" * 64)
    url = headrace.world.server.url("org/app")
    listed = (await headrace("list", "artifacts", url)).ok()
    lines = [[cell.strip() for cell in line.split("\t")] for line in listed.splitlines()]
    assert lines[0] == ["ARTIFACT", "DIGEST", "SOURCE", "REVISION", ""]
    assert lines[1:] == [
        [f"{headrace.repository}:{tag}", digests[tag], "here", REVISION, ""]
        for tag in ("main", "2.0.0-rc.1", "1.2.0", "1.0.0")
    ]
    ranged = (await headrace("list", "artifact", url, "--filter-semver", ">=1.0.0", "-o", "json")).data()
    assert [one["artifact"].rpartition(":")[2] for one in ranged] == ["1.2.0", "1.0.0"]
    matching = (await headrace("list", "artifacts", url, "--filter-regex", "^(main|2)", "-o", "json")).data()
    assert [one["artifact"].rpartition(":")[2] for one in matching] == ["main", "2.0.0-rc.1"]
    assert (await headrace("list", "artifacts", url, "--filter-regex", "(")).code == 2
    assert (await headrace("list", "artifacts", url, "--filter-semver", "nonsense")).code == 1


async def test_files_are_compared_with_an_artifact_that_flux_has_written(headrace: Commands) -> None:
    layers = ((FLUX_CONTENT, flux_layer({"app.yaml": "a: 1\nb: 2\n", "gone.yaml": "x: 1\n"})),)
    await headrace.world.pusher().push("v1", layers=layers)
    headrace.write("app.yaml", "a: 1\nb: 2\n")
    gone = headrace.write("gone.yaml", "x: 1\n")
    same = await headrace("diff", "artifact", headrace.url(), "--path", headrace.app)
    assert same.ok() == ""
    assert "no changes detected" in same.err
    headrace.write("app.yaml", "a: 1\nb: 3\n")
    headrace.write("new.yaml", "y: 1\n")
    gone.unlink()
    differs = await headrace("diff", "artifact", headrace.url(), "--path", headrace.app)
    assert differs.code == 1
    assert differs.out.splitlines() == [
        "► app.yaml changed", "  @@ -1,2 +1,2 @@", "   a: 1", "  -b: 2", "  +b: 3", "",
        "► gone.yaml removed", "  @@ -1 +0,0 @@", "  -x: 1", "",
        "► new.yaml added", "  @@ -0,0 +1 @@", "  +y: 1", "",
    ]  # fmt: skip
    left_out = await headrace("diff", "artifact", headrace.url(), "--path", headrace.app, "--ignore-paths", "*")
    assert left_out.code == 1
    missing = await headrace("diff", "artifact", headrace.url("missing"), "--path", headrace.app)
    assert missing.code > 1


async def test_a_pushed_artifact_does_not_differ_from_its_files(headrace: Commands) -> None:
    headrace.write("app.yaml")
    headrace.write("dir/run.sh").chmod(0o755)
    (await headrace.push()).ok()
    (await headrace("diff", "artifact", headrace.url(), "--path", headrace.app)).ok()


# -- registries ----------------------------------------------------------------------------------------------------


async def test_registries_with_tokens_and_certificates_of_their_own_are_used(tmp_path: Path) -> None:
    authority = Authority()
    tls = authority.server_context(tmp_path, "127.0.0.1")
    home = tmp_path / "home"
    home.mkdir()
    async with oci_world(tmp_path / "world", tokens=TokenServer(tls=tls), tls=tls) as world:
        headrace = Commands(home, world)
        headrace.write("app.yaml")
        creds = ("--creds", f"{USER}:{PASSWORD}")
        untrusted = await headrace.push("v1", *creds)
        assert (untrusted.code, "certificate" in untrusted.err) == (1, True), untrusted.said
        (await headrace.push("v1", *creds, "--insecure-registry")).ok()
        trusted = tmp_path / "ca.pem"
        trusted.write_bytes(authority.certificate)
        headrace.line.env["SSL_CERT_FILE"] = str(trusted)
        (await headrace("tag", "artifact", headrace.url(), "--tag", "v2", *creds)).ok()
        url = world.server.url("org/app")
        listed = (await headrace("list", "artifacts", url, *creds, "-o", "json")).data()
        assert [one["artifact"].rpartition(":")[2] for one in listed] == ["v2", "v1"]


async def test_a_cloud_gives_nothing_for_a_registry_that_is_not_its_own(headrace: Commands) -> None:
    headrace.write("app.yaml")
    said = await headrace.push("v1", "--provider", "aws")
    assert said.code == 1
    assert not headrace.world.server.requests


async def test_a_registry_that_never_ends_is_given_up(headrace: Commands, tmp_path: Path) -> None:
    await headrace.world.pusher().push("v1")
    headrace.world.server.faults.append(Fault("stall", "/blobs/"))
    said = await headrace("pull", "artifact", headrace.url(), "-o", tmp_path, "--timeout", "2s")
    assert (said.code, "--timeout" in said.err) == (5, True), said.said


@pytest.mark.parametrize("fault", ["corrupt", "truncate"])
async def test_content_that_is_not_what_it_should_be_is_not_unpacked(
    headrace: Commands, tmp_path: Path, fault: str
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    await headrace.world.pusher().push("v1")
    headrace.world.server.faults.append(Fault(fault, "/blobs/", after=10))
    assert (await headrace("pull", "artifact", headrace.url(), "-o", output)).code == 1
    assert list(output.iterdir()) == []
