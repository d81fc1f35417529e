"""What the benchmark of the sources polls: many small repositories and artifacts, and a large one of each.

The servers are those of the tests, git's own http-backend and the registry of CNCF Distribution, since both count
the requests that they get.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from bench.repository import git
from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.source.oci.credentials import Access
from headrace.source.oci.manifest import FLUX_CONFIG, FLUX_CONTENT, MANIFEST, Manifest, encoded
from headrace.source.oci.reference import Repository, parse_repository
from headrace.source.oci.registry import Registry

FILES = 1000
"""Files of the large repository; each commit changes one of them."""
_LINES = 60
_AT_ONCE = 16
_TIMEOUT = 600.0
_FILE_BYTES = 64 * 1024
_AUTHOR = "bench <bench@example.com>"
_BASE_TIME = 1_700_000_000


# -- git -------------------------------------------------------------------------------------------------------------


async def small_repositories(root: Path, names: list[str]) -> None:
    """A bare repository of one commit for each name, no two alike."""
    empty = root / ".empty"
    await git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(empty))
    limit = asyncio.Semaphore(_AT_ONCE)

    async def make(name: str) -> None:
        async with limit:
            bare = root / f"{name}.git"
            shutil.copytree(empty, bare)
            await _import(bare, iter([_commit(0, {"deployment.yaml": f"name: {name}\n".encode() * 40})]))

    await asyncio.gather(*(make(name) for name in names))


async def large_repository(root: Path, name: str, commits: int) -> None:
    """A bare repository with a long history: first all files, then one of them changed by each commit."""
    bare = root / f"{name}.git"
    await git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    await _import(bare, _history(commits))
    await git("repack", "-a", "-d", "--quiet", cwd=bare)


def _history(commits: int) -> Iterator[bytes]:
    yield _commit(0, {_path(number): _text(number, 0) for number in range(FILES)})
    for number in range(1, commits):
        yield _commit(number, {_path(number % FILES): _text(number % FILES, number)})


def _path(number: int) -> str:
    return f"apps/team-{number % 40}/app-{number}/deployment.yaml"


def _text(number: int, version: int) -> bytes:
    lines = [f"  - name: setting-{number}-{line}\n    value: '{number * 7919 + line}'" for line in range(_LINES)]
    return "\n".join([f"# version {version}", *lines, ""]).encode()


def _commit(number: int, files: dict[str, bytes]) -> bytes:
    message = f"Change {number}".encode()
    head = f"commit refs/heads/main\ncommitter {_AUTHOR} {_BASE_TIME + number} +0000\ndata {len(message)}\n"
    parts = [head.encode(), message, b"\n"]
    for path, content in files.items():
        parts += [f"M 100644 inline {path}\ndata {len(content)}\n".encode(), content, b"\n"]
    return b"".join(parts)


async def _import(bare: Path, commits: Iterator[bytes]) -> None:
    importing = await asyncio.create_subprocess_exec(
        "git", "fast-import", "--quiet", cwd=bare, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert importing.stdin is not None
    for commit in commits:
        importing.stdin.write(commit)
        await importing.stdin.drain()
    importing.stdin.close()
    if await importing.wait():
        raise RuntimeError(f"git fast-import failed in {bare}")


# -- registry --------------------------------------------------------------------------------------------------------


async def small_artifacts(address: str, names: list[str]) -> None:
    """An artifact tagged `latest` in a repository of its own for each name, no two alike."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def make(registry: Registry, name: str) -> None:
        async with limit:
            layer = _archive({"deployment.yaml": f"name: {name}\n".encode() * 40})
            await _push(registry, parse_repository(f"{address}/{name}"), layer)

    egress = Egress(EgressPolicy(allow_loopback=True))
    try:
        registry = Registry(egress, SystemClock())
        await asyncio.gather(*(make(registry, name) for name in names))
    finally:
        await egress.close()


async def large_artifact(address: str, name: str, size: int) -> bytes:
    """An artifact of files that no compression makes smaller, `size` bytes in all; returns its layer."""
    count = size // _FILE_BYTES
    layer = await asyncio.to_thread(
        _archive, {f"data/{number % 50}/{number}.bin": os.urandom(_FILE_BYTES) for number in range(count)}
    )
    egress = Egress(EgressPolicy(allow_loopback=True))
    try:
        await _push(Registry(egress, SystemClock()), parse_repository(f"{address}/{name}"), layer)
    finally:
        await egress.close()
    return layer


async def _push(registry: Registry, repository: Repository, layer: bytes) -> None:
    access = Access(insecure=True)
    config = await registry.push_blob(repository, b"{}", FLUX_CONFIG, access, timeout=_TIMEOUT)
    pushed = await registry.push_blob(repository, layer, FLUX_CONTENT, access, timeout=_TIMEOUT)
    body = encoded(Manifest(config=config, layers=(pushed,)))
    await registry.push_manifest(repository, "latest", body, MANIFEST, access, timeout=_TIMEOUT)


def _archive(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), compresslevel=1, mtime=0)
