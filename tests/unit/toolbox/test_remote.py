"""Remote bases, in the child that may have them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.toolbox import BuildRequest, Toolbox, ToolboxError

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: remote}\n"


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """A server that gives the same manifest to everybody."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONFIG_MAP)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + CONFIG_MAP.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def networked(binary: Path, tmp_path: Path) -> AsyncIterator[Toolbox]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    async with Toolbox(binary, size=1, network=scratch) as pool:
        yield pool
    assert list(scratch.iterdir()) == []


async def test_a_remote_file_is_loaded_where_allowed_alone(networked: Toolbox, tree, address: str):
    root = tree({"kustomization.yaml": f"resources: ['{address}/a.yaml']\n"})
    built = await networked.build(BuildRequest(root=root, allow_remote=True))
    assert [one.name for one in built.objects] == ["remote"]
    assert built.remote
    with pytest.raises(ToolboxError, match="remote bases are not allowed"):
        await networked.build(BuildRequest(root=root))


async def test_a_local_repository_is_no_remote_base(networked: Toolbox, tree, tmp_path: Path):
    repository = tmp_path / "repository.git"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    root = tree({"kustomization.yaml": f"resources: ['file://{repository}//?ref=main']\n"})
    with pytest.raises(ToolboxError, match="transport 'file' not allowed"):
        await networked.build(BuildRequest(root=root, allow_remote=True))


async def test_the_check_at_the_start_starts_the_child_that_builds_and_no_other(
    binary: Path, tmp_path: Path
) -> None:
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    (folder / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    async with Toolbox(binary, network=scratch) as pool:
        await pool.check()
        (child,) = pool.pids
        await pool.build(BuildRequest(root=str(folder), path=".", allow_remote=True))
        assert pool.pids == [child]
