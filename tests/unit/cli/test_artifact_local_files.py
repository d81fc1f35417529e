"""What of a directory becomes an artifact."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.cli.artifact.commands import ignored
from headrace.cli.artifact.local_files import IGNORED, staged
from headrace.cli.exits import CommandError


def tree(directory: Path, *names: str) -> Path:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return directory


def kept(path: Path, *ignore: str, resolve_links: bool = False) -> set[str]:
    with staged(path, ignore, resolve_links=resolve_links) as found:
        return {str(one.relative_to(found)) for one in found.rglob("*") if one.is_file()}


@pytest.mark.parametrize(
    ("ignore", "wanted"),
    [
        ((), {"a.yaml", "d/b.yaml", "d/e/c.txt"}),
        (("d/",), {"a.yaml"}),
        (("*.yaml",), {"d/e/c.txt"}),
        (("/*.yaml",), {"d/b.yaml", "d/e/c.txt"}),
        (("d/**", "!d/e/c.txt"), {"a.yaml", "d/e/c.txt"}),
    ],
)
def test_patterns_are_those_of_gitignore(tmp_path: Path, ignore: tuple[str, ...], wanted: set[str]) -> None:
    assert kept(tree(tmp_path, "a.yaml", "d/b.yaml", "d/e/c.txt"), *ignore) == wanted


def test_files_of_git_images_and_archives_are_left_out_unless_patterns_are_given(tmp_path: Path) -> None:
    tree(tmp_path, "a.yaml", ".git/HEAD", ".gitignore", "x.png", "x.tar.gz", "sub/.git", ".sourceignore")
    assert kept(tmp_path, *IGNORED) == {"a.yaml", ".sourceignore"}
    assert ignored(None) == IGNORED
    assert ignored(["a,b", "c"]) == ("a", "b", "c")


def test_a_file_that_is_named_is_never_left_out(tmp_path: Path) -> None:
    assert kept(tree(tmp_path, "x.zip") / "x.zip", *IGNORED) == {"x.zip"}


def test_an_ignored_directory_leaves_no_empty_one(tmp_path: Path) -> None:
    tree(tmp_path, "a.yaml", "d/b.yaml")
    with staged(tmp_path, ["d/"]) as found:
        assert [one.name for one in found.iterdir()] == ["a.yaml"]


def test_only_files_directories_and_what_may_be_executed_are_kept(tmp_path: Path) -> None:
    tree(tmp_path, "run.sh", "a.yaml")
    (tmp_path / "run.sh").chmod(0o755)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("a.yaml")
    with staged(tmp_path, []) as found:
        modes = {one.name: one.stat().st_mode & 0o777 for one in found.iterdir()}
    assert modes == {"run.sh": 0o700, "a.yaml": 0o600}


def test_a_link_to_nothing_is_told_when_links_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to("missing")
    assert kept(tmp_path) == set()
    assert kept(tmp_path, "broken", resolve_links=True) == set()
    with pytest.raises(CommandError, match="leads nowhere"):
        kept(tmp_path, resolve_links=True)


def test_what_is_staged_is_gone_afterwards(tmp_path: Path) -> None:
    with staged(tree(tmp_path, "a.yaml"), []) as found:
        pass
    assert not found.exists()
