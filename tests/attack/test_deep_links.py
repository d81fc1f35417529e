"""SEC-62: links in circles and paths of ten thousand segments, in git trees, in archives and in what objects name.

Everything ends with files or with an error that can be read, before the timeout of the tests.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.artifact.fetch import Fetcher
from headrace.artifact.server import artifact_application
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.core.paths import PathRefused, resolve_inside
from headrace.core.unpack import ArchiveRefused, unpack
from headrace.edge.listen import serve
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry
from headrace.source.helm.chart import ChartRefused, locate
from headrace.toolbox import BuildRequest, Toolbox, ToolboxError
from tests.servers.sources import REQUESTED, Sources, sources

pytestmark = pytest.mark.spec("SEC-62")

DEEP = 10_000
DEEP_PATH = "/".join("d" * DEEP)
CIRCLES = {"self": "self", "one": "two", "two": "one", "folder/up": "..", "folder/here": ".", "dangling": "nowhere"}
"""Links by path, with their targets: all of them inside the tree."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        yield made


# -- git ---------------------------------------------------------------------------------------------------------------


def write_object(git: Path, kind: str, content: bytes) -> bytes:
    """A loose object of a repository; returns its id. Ten thousand runs of git would take minutes."""
    whole = f"{kind} {len(content)}\0".encode() + content
    oid = hashlib.sha1(whole).hexdigest()
    path = git / "objects" / oid[:2] / oid[2:]
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_bytes(zlib.compress(whole, 1))
    return bytes.fromhex(oid)


def commit_deep_tree(world: Sources) -> None:
    """A commit with `app.yaml` and a file DEEP directories down, pushed to main."""
    git = world.repo.work / ".git"
    tree = write_object(git, "tree", b"100644 f\0" + write_object(git, "blob", b"deep"))
    for _ in range(DEEP - 1):
        tree = write_object(git, "tree", b"40000 d\0" + tree)
    root = b"100644 app.yaml\0" + write_object(git, "blob", b"a: 1\n") + b"40000 d\0" + tree
    commit = world.repo.git("commit-tree", "-m", "deep", write_object(git, "tree", root).hex())
    world.repo.git("push", "-q", "--force", "origin", f"{commit}:refs/heads/main")


async def test_links_in_circles_are_left_out_of_the_artifact_of_a_commit(world: Sources) -> None:
    for name, target in CIRCLES.items():
        path = world.repo.work / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)
    world.repo.commit({"folder/app.yaml": "a: 1\n"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"folder/app.yaml": b"a: 1\n"}


@pytest.mark.parametrize("name", [".sourceignore", "folder/.sourceignore"])
async def test_an_ignore_file_that_is_a_link_in_a_circle_is_not_read(world: Sources, name: str) -> None:
    path = world.repo.work / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(".sourceignore")
    world.repo.commit({"app.yaml": "a: 1\n"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"app.yaml": b"a: 1\n"}


@pytest.mark.parametrize("spec", [{}, {"ignore": "/d"}], ids=["whole", "ignored"])
async def test_a_commit_with_a_very_deep_path_is_refused_and_the_next_one_is_not(
    world: Sources, spec: dict[str, object]
) -> None:
    commit_deep_tree(world)
    error = await world.failure(world.object(**spec))
    assert error.reason == "GitOperationFailed"
    assert "unable to check out commit" in error.message
    assert len(error.message) < 1000
    assert list(world.store.scratch.iterdir()) == []
    world.repo.git("push", "-q", "--force", "origin", f"{world.repo.commit({'d/app.yaml': 'a: 2'})}:refs/heads/main")
    obj, _ = await world.run(world.object(), REQUESTED)
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"d/app.yaml": b"a: 2"}


@pytest.mark.parametrize("path", [DEEP_PATH, "../" * DEEP + "app", "./" * DEEP + "missing"])
async def test_a_very_deep_sparse_path_is_said_to_be_missing(world: Sources, path: str) -> None:
    world.repo.commit({"app.yaml": "a: 1\n"})
    error = await world.failure(world.object(sparseCheckout=[path]))
    assert "no such file or directory" in error.message
    assert len(error.message) < 1000


# -- archives ----------------------------------------------------------------------------------------------------------


def archive(*members: tuple[str, bytes, str], content: bytes = b"") -> bytes:
    """A tar.gz of members as (name, type, link); files have `content`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


async def opened(directory: Path, data: bytes) -> dict[str, bytes]:
    """The files of an archive that somebody else serves as an artifact. Raises what `Trees.open` does."""
    theirs = Store(directory / "theirs", "there:1", SystemClock())
    path = theirs.root / "externalartifact" / "default" / "app" / "x.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    egress = Egress(EgressPolicy(allow_loopback=True))
    store = Store(directory / "ours", "here:1", SystemClock())
    try:
        async with serve(artifact_application(theirs), "127.0.0.1:0") as address:
            name = str(path.relative_to(theirs.root))
            artifact = Artifact(path=name, url=f"http://{address}/{name}", revision="r", digest=digest)
            async with Trees(store, SystemClock(), fetcher=Fetcher(egress)).open(artifact) as tree:
                found = [file for file in tree.directory.rglob("*") if not file.is_dir()]
                return {str(file.relative_to(tree.directory)): file.read_bytes() for file in found}
    finally:
        await egress.close()
        assert list(store.scratch.iterdir()) == []


async def test_links_in_circles_are_left_out_of_a_fetched_artifact(tmp_path: Path) -> None:
    links = [(name, tarfile.SYMTYPE, target) for name, target in CIRCLES.items()]
    hard = [("h1", tarfile.LNKTYPE, "h2"), ("h2", tarfile.LNKTYPE, "h1"), ("h3", tarfile.LNKTYPE, "h3")]
    data = archive(*links, *hard, ("app.yaml", tarfile.REGTYPE, ""), content=b"a: 1")
    assert await opened(tmp_path, data) == {"app.yaml": b"a: 1"}


async def test_a_file_below_a_link_in_a_circle_is_written_where_its_name_says(tmp_path: Path) -> None:
    data = archive(("loop", tarfile.SYMTYPE, "loop"), ("loop/loop/file", tarfile.REGTYPE, ""), content=b"1")
    assert await opened(tmp_path, data) == {"loop/loop/file": b"1"}


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE], ids=["file", "folder", "link"])
async def test_a_very_deep_path_refuses_a_fetched_artifact(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(Retry, match="is refused: it is longer than 1024 bytes") as caught:
        await opened(tmp_path, archive(("app.yaml", tarfile.REGTYPE, ""), (DEEP_PATH, kind, "app.yaml")))
    assert caught.value.reason == "ArtifactFailed"
    assert len(caught.value.message) < 1000


def test_folders_that_go_down_one_by_one_end_at_the_limit(tmp_path: Path) -> None:
    path, members = "", []
    for _ in range(100):
        path += "d/"
        members.append((path, tarfile.DIRTYPE, ""))
    with pytest.raises(ArchiveRefused, match="it is deeper than 64 directories"):
        unpack(io.BytesIO(archive(*members)), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", [DEEP_PATH, "d/../" * DEEP + "app.yaml", "./" * DEEP], ids=["d", "d/../", "./"])
async def test_a_link_with_a_very_long_way_is_left_out(tmp_path: Path, target: str) -> None:
    data = archive(("link", tarfile.SYMTYPE, target), ("app.yaml", tarfile.REGTYPE, ""), content=b"a: 1")
    assert await opened(tmp_path, data) == {"app.yaml": b"a: 1"}


async def test_a_link_that_goes_very_far_up_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Retry, match="it leads out of the tree") as caught:
        await opened(tmp_path, archive(("link", tarfile.SYMTYPE, "../" * DEEP)))
    assert len(caught.value.message) < 1000


# -- what objects name -------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that holds links in circles, as only a local directory can, and a chain that doubles at each step."""
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    for name, target in CIRCLES.items():
        (root / name).symlink_to(target)
    for number in range(40):
        (root / f"l{number}").symlink_to(f"l{number + 1}/../l{number + 1}")
    (root / "l40").mkdir()
    return root


@pytest.mark.parametrize(
    "name", ["self", "self/x", "one/two/one", "folder/up/folder/up/folder", "l0", "l0/x", "folder/here/" * 50]
)
def test_a_path_through_links_in_circles_is_found_or_refused(tree: Path, name: str) -> None:
    try:
        found = resolve_inside(tree, name)
    except PathRefused:
        return
    assert found == tree or tree in found.parents


@pytest.mark.parametrize("name", [DEEP_PATH, "folder/../" * DEEP, "folder/up/" * DEEP, "x" * 5000], ids=range(4))
def test_a_very_long_path_is_refused(tree: Path, name: str) -> None:
    with pytest.raises(PathRefused) as caught:
        resolve_inside(tree, name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["self", "one/x", DEEP_PATH, "x" * 300, "../" * DEEP + "x"], ids=range(5))
def test_a_chart_at_such_a_path_is_refused(tree: Path, name: str) -> None:
    with pytest.raises(ChartRefused) as caught:
        locate(tree, name)
    assert len(str(caught.value)) < 1000


BUILDS = {
    "path": (DEEP_PATH, []),
    "resource": ("./", [DEEP_PATH]),
    "resource up": ("./", ["../" * DEEP + "app"]),
    "around": ("./", ["folder/../" * DEEP + "missing.yaml"]),
    "self": ("./", ["."]),
    "link to itself": ("./", ["self"]),
    "link up": ("./", ["folder/up"]),
    "through links": ("./", ["folder/here/" * 100 + "missing.yaml"]),
}


@pytest.mark.parametrize("case", BUILDS)
async def test_a_build_of_such_paths_ends_with_an_error(tree: Path, case: str) -> None:
    path, resources = BUILDS[case]
    (tree / "kustomization.yaml").write_text(json.dumps({"resources": resources}))
    async with Toolbox(size=1) as toolbox:
        with pytest.raises(ToolboxError) as caught:
            await toolbox.build(BuildRequest(root=str(tree), path=path), timeout=30)
        assert str(caught.value)
        await toolbox.ping()


async def test_a_path_that_goes_very_far_up_ends_at_the_root_of_the_tree(tree: Path) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}}
    (tree / "app.yaml").write_text(json.dumps(manifest))
    (tree / "kustomization.yaml").write_text(json.dumps({"resources": ["app.yaml"]}))
    async with Toolbox(size=1) as toolbox:
        built = await toolbox.build(BuildRequest(root=str(tree), path="../" * DEEP), timeout=30)
        assert [one.name for one in built.objects] == ["app"]
