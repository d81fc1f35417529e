"""shadow: a directory followed by a repository outside of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from headrace.cli.shadow import Shadow, ShadowError


def git(*argv: str, cwd: Path) -> str:
    return subprocess.run(["git", *argv], cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture
async def shadow(tmp_path: Path) -> Shadow:
    directory = tmp_path / "work"
    directory.mkdir()
    (directory / "a.yaml").write_text("a: 1\n")
    home = tmp_path / "home"
    home.mkdir()
    made = Shadow(directory, home)
    await made.open()
    return made


def files(shadow: Shadow, tmp_path: Path) -> list[str]:
    return git("ls-tree", "-r", "--name-only", "main", cwd=tmp_path / "home" / shadow.name).split()


async def test_a_saved_file_makes_a_commit_and_an_unchanged_directory_none(shadow: Shadow) -> None:
    first = await shadow.record()
    again = await shadow.record()
    (shadow.directory / "a.yaml").write_text("a: 2\n")
    changed = await shadow.record()
    assert (first.new, again.new, changed.new) == (True, False, True)
    assert again.id == first.id != changed.id
    assert changed.revision == f"main@sha1:{changed.id}"


async def test_a_removed_file_is_removed(shadow: Shadow, tmp_path: Path) -> None:
    (shadow.directory / "b.yaml").write_text("b: 1\n")
    await shadow.record()
    (shadow.directory / "b.yaml").unlink()
    await shadow.record()
    assert files(shadow, tmp_path) == ["a.yaml"]


async def test_gitignore_and_the_exclude_file_of_the_own_repository_are_honoured(
    shadow: Shadow, tmp_path: Path
) -> None:
    git("init", "-q", cwd=shadow.directory)
    (shadow.directory / ".git" / "info" / "exclude").write_text("private\n")
    (shadow.directory / ".gitignore").write_text("*.log\n")
    for name in ("x.log", "private", "b.yaml"):
        (shadow.directory / name).write_text("x")
    await shadow.record()
    assert files(shadow, tmp_path) == [".gitignore", "a.yaml", "b.yaml"]


async def test_the_users_own_repository_is_not_touched(shadow: Shadow) -> None:
    git("init", "-q", cwd=shadow.directory)
    before = {p: p.stat().st_mtime_ns for p in (shadow.directory / ".git").rglob("*")}
    await shadow.record()
    assert {p: p.stat().st_mtime_ns for p in (shadow.directory / ".git").rglob("*")} == before
    assert git("status", "--porcelain", cwd=shadow.directory).split() == ["??", "a.yaml"]


async def test_an_empty_directory_has_a_commit_too(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "home").mkdir()
    shadow = Shadow(tmp_path / "empty", tmp_path / "home")
    await shadow.open()
    assert (await shadow.record()).new


async def test_a_configured_filter_of_the_user_runs_no_program(shadow: Shadow, tmp_path: Path) -> None:
    git("init", "-q", cwd=shadow.directory)
    git("config", "filter.evil.clean", f"touch {tmp_path}/ran; cat", cwd=shadow.directory)
    (shadow.directory / ".gitattributes").write_text("* filter=evil\n")
    await shadow.record()
    assert not (tmp_path / "ran").exists()


async def test_a_directory_that_is_gone_is_an_error_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with pytest.raises((ShadowError, FileNotFoundError)):
        await Shadow(tmp_path / "nowhere", tmp_path / "home").open()
