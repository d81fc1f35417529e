"""git_server: a real git client against the loopback server."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.edge.git_server import USER, git_application
from headrace.edge.listen import serve


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    root = tmp_path / "root"
    work = tmp_path / "work"
    for argv in (
        ["git", "init", "-q", "-b", "main", str(work)],
        [
            "git",
            "-C",
            str(work),
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "x",
        ],
        ["git", "clone", "-q", "--bare", str(work), str(root / "a.git")],
    ):
        subprocess.run(argv, check=True)
    (tmp_path / "secret.git").mkdir()
    async with serve(git_application(root, "pass word"), "127.0.0.1:0") as served:
        yield served


async def git(*argv: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "git", "-c", "credential.helper=", *argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0", "HOME": "/nonexistent"},
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_a_repository_is_cloned_with_the_password(address: str, tmp_path: Path) -> None:
    code, out = await git("clone", "-q", f"http://{USER}:pass%20word@{address}/a.git", str(tmp_path / "clone"))
    assert code == 0, out
    assert (tmp_path / "clone" / ".git").is_dir()


@pytest.mark.parametrize("userinfo", ["", f"{USER}:wrong@", "other:pass%20word@"])
async def test_without_the_password_nothing_is_served(address: str, userinfo: str) -> None:
    code, out = await git("ls-remote", f"http://{userinfo}{address}/a.git")
    assert code != 0
    assert "refs/heads/main" not in out


async def test_a_push_is_refused(address: str, tmp_path: Path) -> None:
    code, out = await git(
        "-C", str(tmp_path / "work"), "push", f"http://{USER}:pass%20word@{address}/a.git", "main:new"
    )
    assert code != 0
    assert "403" in out


@pytest.mark.parametrize("path", ["..%2Fsecret.git", "%2e%2e/secret.git", "a.git/../../secret.git"])
async def test_a_path_out_of_the_root_is_not_served(address: str, path: str) -> None:
    code, _ = await git("ls-remote", f"http://{USER}:pass%20word@{address}/{path}")
    assert code != 0
