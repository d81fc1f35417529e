"""What each copy operation of an ArtifactGenerator does to a tree of real files."""

from __future__ import annotations

import io
import random
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from headrace.api.artifactgenerator import CopyOperation
from headrace.core.limits import UNPACK, UnpackLimits
from headrace.core.paths import PathRefused
from headrace.core.unpack import ArchiveRefused
from headrace.source.generate.assembly import assemble, finish
from headrace.source.generate.errors import CopyRefused
from headrace.toolbox import Toolbox
from tests.unit.source.generate.trees import files_of, write_tree

FILES = {
    "README.md": "readme",
    "apps/web/deploy.yaml": "web",
    "apps/web/notes.md": "notes",
    "apps/api/deploy.yaml": "api",
    "apps/api/base/kustomization.yaml": "base",
    "config/values.yaml": "a: 1",
}


async def no_yaml(text: bytes) -> bytes:
    raise AssertionError("nothing is to be merged")


async def copied(
    tmp_path: Path, *operations: CopyOperation, files: Mapping[str, str | bytes] = FILES,
    already: Mapping[str, str | bytes] = {}, limits: UnpackLimits = UNPACK,
) -> dict[str, str]:  # fmt: skip
    """The files of an output, by path; directories end with a slash."""
    source, staging = tmp_path / "source", tmp_path / "staging"
    write_tree(source, files)
    staging.mkdir()
    write_tree(staging, already)
    await assemble(operations, {"git": source}, staging, no_yaml, limits=limits)
    return files_of(staging)


def copy(from_: str, to: str, *exclude: str, strategy: str = "") -> CopyOperation:
    return CopyOperation(from_=f"@git/{from_}", to=f"@artifact/{to}", exclude=exclude, strategy=strategy)


@pytest.mark.spec("SRC-AGN-12")
@pytest.mark.parametrize(
    ("from_", "to", "wanted"),
    [
        pytest.param("README.md", "x", {"x": "readme"}, id="file to a name"),
        pytest.param("README.md", "x/", {"x/": "", "x/README.md": "readme"}, id="file into a directory by slash"),
        pytest.param("README.md", "", {"README.md": "readme"}, id="file to the root"),
        pytest.param("config", "to", {"to/": "", "to/config/": "", "to/config/values.yaml": "a: 1"}, id="directory"),
        pytest.param("config/", "to/", {"to/": "", "to/config/": "", "to/config/values.yaml": "a: 1"}, id="dir/"),
        pytest.param("config/**", "to/", {"to/": "", "to/values.yaml": "a: 1"}, id="dir/** strips the directory"),
        pytest.param(
            "apps/*/deploy.yaml", "to/",
            {"to/": "", "to/apps/": "", "to/apps/api/": "", "to/apps/web/": "", "to/apps/api/deploy.yaml": "api",
             "to/apps/web/deploy.yaml": "web"},
            id="another glob keeps the matched path",
        ),
        pytest.param(
            "apps/web/**", "",
            {"deploy.yaml": "web", "notes.md": "notes"}, id="dir/** into the root",
        ),
        pytest.param(
            "apps/**", "",
            {"web/": "", "web/deploy.yaml": "web", "web/notes.md": "notes", "api/": "", "api/deploy.yaml": "api",
             "api/base/": "", "api/base/kustomization.yaml": "base"}, id="directories are copied whole",
        ),
        pytest.param(
            "apps/**/kustomization.yaml", "", None, id="two stars are one level",
        ),
    ],
)  # fmt: skip
async def test_copying_is_that_of_cp(tmp_path: Path, from_: str, to: str, wanted: dict[str, str] | None) -> None:
    if wanted is None:
        with pytest.raises(CopyRefused, match="no files match"):
            await copied(tmp_path, copy(from_, to))
        return
    assert await copied(tmp_path, copy(from_, to)) == wanted


@pytest.mark.spec("SRC-AGN-12")
async def test_the_root_of_a_source_is_copied_as_its_content(tmp_path: Path) -> None:
    found = await copied(tmp_path, copy("", "all"))
    assert {name for name in found if not name.endswith("/")} == {f"all/{name}" for name in FILES}


@pytest.mark.spec("SRC-AGN-12")
async def test_a_file_goes_into_a_directory_that_exists(tmp_path: Path) -> None:
    found = await copied(tmp_path, copy("config", "here"), copy("README.md", "here"))
    assert found["here/README.md"] == "readme"


@pytest.mark.spec("SRC-AGN-12")
async def test_later_operations_replace_what_earlier_ones_copied(tmp_path: Path) -> None:
    found = await copied(tmp_path, copy("apps/web/deploy.yaml", "d.yaml"), copy("apps/api/deploy.yaml", "d.yaml"))
    assert found == {"d.yaml": "api"}


async def test_a_script_stays_executable(tmp_path: Path) -> None:
    write_tree(tmp_path / "source", {"run.sh": "#!"})
    (tmp_path / "source" / "run.sh").chmod(0o755)
    await copied(tmp_path, copy("run.sh", "bin/"), files={})
    assert (tmp_path / "staging" / "bin" / "run.sh").stat().st_mode & 0o111


# -- what is left out --------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-AGN-13")
@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("apps/web/notes.md", id="path in the source"),
        pytest.param("web/notes.md", id="path after the literal prefix"),
        pytest.param("*.md", id="base name"),
        pytest.param("**/notes.md", id="any depth"),
        pytest.param("web/{notes,other}.md", id="alternatives"),
    ],
)
async def test_a_file_is_excluded_by_each_of_its_names(tmp_path: Path, pattern: str) -> None:
    found = await copied(tmp_path, copy("apps/**", "", pattern))
    assert {name for name in found if not name.endswith("/")} == {
        "web/deploy.yaml", "api/deploy.yaml", "api/base/kustomization.yaml",
    }  # fmt: skip


@pytest.mark.spec("SRC-AGN-13")
async def test_an_excluded_directory_is_left_out_with_all_in_it(tmp_path: Path) -> None:
    found = await copied(tmp_path, copy("apps", "", "api"))
    assert sorted(found) == ["apps/", "apps/web/", "apps/web/deploy.yaml", "apps/web/notes.md"]


@pytest.mark.spec("SRC-AGN-13")
async def test_a_pattern_with_a_slash_is_no_base_name(tmp_path: Path) -> None:
    assert "apps/web/notes.md" in await copied(tmp_path, copy("apps", "", "other/*.md"))


@pytest.mark.spec("SRC-AGN-14")
@pytest.mark.parametrize(
    ("operation", "message"),
    [
        pytest.param(copy("none/*", ""), "no files match", id="glob without match"),
        pytest.param(copy("apps/web/*", "", "*.yaml", "*.md"), "were excluded", id="all excluded"),
        pytest.param(copy("none", ""), "does not exist", id="missing path"),
        pytest.param(copy("apps/[", ""), "invalid glob pattern", id="malformed glob"),
        pytest.param(copy("apps", "", "["), "invalid exclude pattern", id="malformed exclude"),
        pytest.param(copy("apps", "", "{a"), "invalid exclude pattern", id="brace left open"),
        pytest.param(copy("README.md", "", strategy="Extract"), "requires tarball", id="extract of no tarball"),
        pytest.param(copy("apps", "", strategy="Extract"), "not supported for directories", id="extract of a dir"),
    ],
)
async def test_what_names_nothing_is_refused(tmp_path: Path, operation: CopyOperation, message: str) -> None:
    with pytest.raises(CopyRefused, match=message):
        await copied(tmp_path, operation)


@pytest.mark.spec("SRC-AGN-14")
async def test_what_is_emptied_by_exclusions_succeeds(tmp_path: Path) -> None:
    assert await copied(tmp_path, copy("README.md", "x", "*.md")) == {}
    found = await copied(tmp_path / "again", copy("config", "", "*.yaml"))
    assert found == {"config/": ""}


# -- confinement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "/etc/passwd", "../*", "a\\..\\b"])
async def test_no_path_leads_out_of_the_source(tmp_path: Path, path: str) -> None:
    write_tree(tmp_path, {"secret": "s"})
    with pytest.raises((CopyRefused, PathRefused)):
        await copied(tmp_path, copy(path, "x"))


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x"])
async def test_no_path_leads_out_of_the_output(tmp_path: Path, path: str) -> None:
    with pytest.raises(PathRefused):
        await copied(tmp_path, copy("README.md", path))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("from_", ["in/link", "in/folder/key", "in"])
async def test_links_are_neither_copied_nor_followed(tmp_path: Path, from_: str) -> None:
    write_tree(tmp_path, {"secret/key": "s", "source/in/a": "1"})
    (tmp_path / "source" / "in" / "link").symlink_to(tmp_path / "secret" / "key")
    (tmp_path / "source" / "in" / "folder").symlink_to(tmp_path / "secret")
    if from_ == "in":
        assert await copied(tmp_path, copy(from_, ""), files={}) == {"in/": "", "in/a": "1"}
        return
    with pytest.raises(CopyRefused, match="does not exist"):
        await copied(tmp_path, copy(from_, "x"), files={})


# -- tarballs ----------------------------------------------------------------------------------------------------------


def tarball(files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return written.getvalue()


@pytest.mark.parametrize("from_", ["charts/one.tgz", "charts/*", "**/*.tgz", "**"])
async def test_extract_unpacks_tarballs_by_name_and_by_any_pattern(tmp_path: Path, from_: str) -> None:
    files = {"charts/one.tgz": tarball({"one/Chart.yaml": b"one"}), "charts/readme": "r"}
    found = await copied(tmp_path, copy(from_, "to", strategy="Extract"), files=files)
    assert found == {"to/": "", "to/one/": "", "to/one/Chart.yaml": "one"}


@pytest.mark.spec("SRC-AGN-14")
async def test_an_extract_pattern_without_tarballs_succeeds(tmp_path: Path) -> None:
    assert await copied(tmp_path, copy("apps/**", "to", strategy="Extract")) == {}


@pytest.mark.spec("SRC-AGN-16")
async def test_a_tarball_with_a_link_is_refused_though_it_stays_inside(tmp_path: Path) -> None:
    files = {"a.tgz": tarball({"x": b"1"}, links={"link": "x"})}
    with pytest.raises(ArchiveRefused, match="links are not allowed"):
        await copied(tmp_path, copy("a.tgz", "", strategy="Extract"), files=files)
    assert files_of(tmp_path / "staging") == {}


@pytest.mark.spec("SRC-AGN-16")
async def test_a_tarball_that_unpacks_to_more_than_its_cap_is_refused(tmp_path: Path) -> None:
    blocks = random.Random(1)
    content = b"".join(blocks.randbytes(8192) * 128 for _ in range(105))  # not so small that the ratio is refused
    files = {"a.tar.gz": tarball({"big": content})}
    with pytest.raises(ArchiveRefused, match="more than 104857600 bytes when unpacked"):
        await copied(tmp_path, copy("a.tar.gz", "", strategy="Extract"), files=files)


async def test_many_tarballs_share_the_limit_of_the_output(tmp_path: Path) -> None:
    files = {f"{n}.tgz": tarball({f"f{n}": b"x" * 10_000}) for n in range(5)}
    with pytest.raises(ArchiveRefused, match="unpacks to more than"):
        await copied(tmp_path, copy("*.tgz", "", strategy="Extract"), files=files,
                     limits=UnpackLimits(total_bytes=45_000))  # fmt: skip


# -- merging -----------------------------------------------------------------------------------------------------------


async def merged_text(tmp_path: Path, files: Mapping[str, str], operations: Sequence[CopyOperation]) -> dict[str, str]:
    write_tree(tmp_path / "source", files)
    (tmp_path / "staging").mkdir()
    async with Toolbox(size=1) as toolbox:
        await assemble(operations, {"git": tmp_path / "source"}, tmp_path / "staging", toolbox.yaml_to_json)
    return files_of(tmp_path / "staging")


@pytest.mark.spec("SRC-AGN-15")
async def test_merge_is_deep_and_replaces_lists(tmp_path: Path) -> None:
    files = {
        "a.yaml": "image: {name: app, tag: '1.10'}\nargs: [a, b]\nkeep: on_disk\n",
        "b.yaml": "image: {tag: '1e3'}\nargs: [c]\nnew: {deep: 'yes'}\n---\nmore: true\n",
    }
    operations = [copy("a.yaml", "values.yaml"), copy("b.yaml", "values.yaml", strategy="Merge")]
    found = await merged_text(tmp_path, files, operations)
    assert found["values.yaml"] == (
        "args:\n- c\nimage:\n  name: app\n  tag: \"1e3\"\nkeep: on_disk\nmore: true\nnew:\n  deep: \"yes\"\n"
    )


@pytest.mark.spec("SRC-AGN-15")
async def test_merge_copies_what_is_not_there_yet(tmp_path: Path) -> None:
    found = await merged_text(tmp_path, {"a.yaml": "a:   1 # kept"}, [copy("a.yaml", "v.yaml", strategy="Merge")])
    assert found == {"v.yaml": "a:   1 # kept"}


# -- the name, and what is never packed --------------------------------------------------------------------------------


@pytest.mark.spec("SRC-AGN-17")
def test_files_excluded_by_default_are_dropped_whatever_a_source_says(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.yaml": "1", "logo.png": "p", "x/b.tar.gz": "t", "x/c": "2", ".sourceignore": "*.yaml",
                          ".github/workflows/x": "w"})  # fmt: skip
    finish(tmp_path, "out")
    assert files_of(tmp_path) == {".sourceignore": "*.yaml", "a.yaml": "1", "x/": "", "x/c": "2"}


def test_the_name_of_the_file_is_that_of_upstream(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": "a", "b/c": "bc"})
    lines = f"{zlib.adler32(b'a'):x}  out/a\n{zlib.adler32(b'bc'):x}  out/b/c\n"
    assert finish(tmp_path, "out") == f"{zlib.adler32(lines.encode())}.tar.gz"
