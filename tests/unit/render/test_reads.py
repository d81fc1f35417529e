"""What the toolbox says it has read is recognised in another tree, and every change of it is seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from headrace.model.artifact import Tree
from headrace.model.manifests import FileRead
from headrace.render.reads import changed_read
from headrace.toolbox import BuildRequest, Toolbox

FILES = {
    "app/kustomization.yaml": "resources: [../base]\n",
    "base/kustomization.yaml": "resources: [a.yaml]\n",
    "base/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
    "loose/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
    "other/c.yaml": "x: y\n",
}


def tree(root: Path, files: dict[str, str]) -> Tree:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Tree(root, "digest")


async def reads_of(built: Tree, path: str) -> tuple[FileRead, ...]:
    async with Toolbox(size=1) as toolbox:
        return (await toolbox.build(BuildRequest(root=str(built.directory), path=path))).reads


@pytest.mark.parametrize("path", ["app", "loose"])
async def test_the_same_files_elsewhere_are_the_same_reads(tmp_path: Path, path: str) -> None:
    reads = await reads_of(tree(tmp_path / "one", FILES), path)
    again = tree(tmp_path / "two", FILES | {"other/d.yaml": "new\n", "other/c.yaml": "changed\n"})
    assert reads
    assert changed_read(reads, again) is None


@pytest.mark.parametrize(
    ("path", "change"),
    [
        pytest.param("app", {"base/a.yaml": FILES["base/a.yaml"] + "data: {k: v}\n"}, id="a file's content"),
        pytest.param("app", {"app/kustomization.yaml": "resources: [../base]\nnamePrefix: x\n"}, id="the root file"),
        pytest.param("loose", {"loose/new.yaml": "x: y\n"}, id="a new file in a listed directory"),
        pytest.param("loose", {"loose/kustomization.yaml": "resources: []\n"}, id="a file looked for in vain"),
    ],
)
async def test_a_change_of_what_was_read_is_seen(tmp_path: Path, path: str, change: dict[str, str]) -> None:
    reads = await reads_of(tree(tmp_path / "one", FILES), path)
    assert changed_read(reads, tree(tmp_path / "two", FILES | change)) is not None


async def test_a_file_that_becomes_a_directory_is_seen_by_who_lists_it(tmp_path: Path) -> None:
    listed = [read for read in await reads_of(tree(tmp_path / "one", FILES), "loose") if read.kind == "dir"]
    again = tree(tmp_path / "two", {name: text for name, text in FILES.items() if not name.startswith("loose/")})
    tree(tmp_path / "two", {"loose/b.yaml/b.yaml": FILES["loose/b.yaml"]})
    assert listed
    assert changed_read(listed, again) is not None


async def test_a_link_that_leads_elsewhere_is_seen_though_it_leads_to_the_same(tmp_path: Path) -> None:
    def linked(root: Path, target: str) -> Tree:
        made = tree(root, FILES | {"copy/a.yaml": FILES["base/a.yaml"], "base/kustomization.yaml": "resources: [l]\n"})
        (root / "base" / "l").symlink_to(target)
        return made

    reads = await reads_of(linked(tmp_path / "one", "a.yaml"), "app")
    assert changed_read(reads, linked(tmp_path / "two", "a.yaml")) is None
    assert changed_read(reads, linked(tmp_path / "three", "../copy/a.yaml")) is not None


async def test_a_directory_that_is_gone_is_seen(tmp_path: Path) -> None:
    reads = await reads_of(tree(tmp_path / "one", FILES), "app")
    again = tree(tmp_path / "two", FILES)
    shutil.rmtree(again.directory / "base")
    assert changed_read(reads, again) is not None


def test_a_read_through_a_link_that_leads_out_is_never_the_same(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    tree(outside, {"a.yaml": "x"})
    inside = tree(tmp_path / "in", {})
    inside.directory.mkdir()
    (inside.directory / "link").symlink_to(outside)
    assert changed_read([FileRead("link/a.yaml", "file")], inside) is not None
