"""The git repositories that the benchmark delivers from: bare ones to be served, written through work trees."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import yaml

from bench import workload

_ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@example.com",
    "GIT_COMMITTER_NAME": "bench", "GIT_COMMITTER_EMAIL": "bench@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": "/usr/local/bin:/usr/bin:/bin",
}


class Repository:
    """One bare repository below `root`, and the work tree from which commits are pushed to it."""

    def __init__(self, root: Path, name: str, work: Path) -> None:
        self.name = name
        self.bare = root / f"{name}.git"
        self.work = work / name

    async def create(self) -> None:
        """Make both, with branch main and nothing in it."""
        await git("init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        await git("init", "--quiet", "--initial-branch=main", str(self.work))
        await git("remote", "add", "origin", str(self.bare), cwd=self.work)

    def write(self, path: str, objects: Iterable[workload.Object]) -> None:
        """Put one kustomization of these objects at `path`, a file each."""
        write_objects(self.work / path, objects)

    async def commit(self, message: str) -> str:
        """Commit all that changed; returns the revision as `status.artifact.revision` shows it. Not pushed yet."""
        await git("add", "--all", cwd=self.work)
        await git("commit", "--quiet", "--message", message, cwd=self.work)
        head = await git("rev-parse", "HEAD", cwd=self.work)
        return f"main@sha1:{head.strip()}"

    async def push(self) -> None:
        """Make the commit visible to everybody."""
        await git("push", "--quiet", "origin", "main", cwd=self.work)


def write_objects(directory: Path, objects: Iterable[workload.Object]) -> None:
    """One kustomization of these objects in a folder, a file each."""
    directory.mkdir(parents=True, exist_ok=True)
    names = [_write_object(directory, item) for item in objects]
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": names}
    (directory / "kustomization.yaml").write_text(yaml.dump(kustomization, Dumper=yaml.CSafeDumper))


def _write_object(directory: Path, item: workload.Object) -> str:
    name = f"{item['kind'].lower()}.yaml"
    (directory / name).write_text(yaml.dump(item, Dumper=yaml.CSafeDumper, sort_keys=False))
    return name


async def git(*arguments: str, cwd: Path | None = None) -> str:
    """Run git apart from the user's configuration; raises RuntimeError with what it said when it fails."""
    process = await asyncio.create_subprocess_exec(
        "git", *arguments, cwd=cwd, env=_ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"git {arguments[0]}: {err.decode(errors='replace').strip()}")
    return out.decode()
