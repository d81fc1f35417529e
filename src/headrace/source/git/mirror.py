"""A bare mirror of one remote on disk: a cache that makes fetches incremental, thrown away when in doubt.

Commits are fetched by their hash, one deep, never by a ref that may have moved since (SEC-46).
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from headrace.core.sandbox import Completed, SandboxError
from headrace.source.git.errors import AuthenticationRequired, GitError
from headrace.source.git.program import git
from headrace.source.git.refs import HEADS, Resolved
from headrace.source.git.transport import GitAccess, Transport

_KEPT = "refs/headrace/"
_PACKS = 50
"""Fetches add a pack each; beyond this many a fresh, shallow mirror is smaller and faster."""


FETCHES = 16
"""Fetches that run at a time. Whoever waits for one holds no worker, and each is several processes: without a limit
a start with a thousand repositories would start them all."""


class Mirror:
    """The mirror of one remote. Not for several callers at a time. `places` limits the fetches of all mirrors."""

    def __init__(self, directory: Path, transport: Transport, places: asyncio.Semaphore) -> None:
        self.directory = directory
        self._transport = transport
        self._places = places

    def holds(self, commit: str) -> bool:
        """Whether the commit and its tree are here."""
        return (self.directory / _KEPT / commit).is_file()

    async def fetch(self, target: Resolved, timeout: float) -> None:
        """Get the commit and its tree. The timeout begins when there is a place. Raises GitError."""
        async with self._places:
            try:
                async with asyncio.timeout(timeout):
                    await self._fetch(target, timeout)
            except TimeoutError as error:
                raise GitError(f"context deadline exceeded: no clone within {timeout:g}s") from error
            except SandboxError as error:
                await self.discard()
                raise GitError(f"unable to clone: {error}") from error

    async def _fetch(self, target: Resolved, timeout: float) -> None:
        async with self._transport.access(timeout) as access:
            fresh = await self._prepare(timeout)
            completed = await self._ask(target, access, timeout)
            if completed.code != 0 and not fresh and not _is_of_the_server(completed):
                await self.discard()
                await self._prepare(timeout)
                completed = await self._ask(target, access, timeout)
            if completed.code != 0:
                raise _failure(completed, access.url)
            if not self.holds(target.commit):
                await self._keep(target, timeout)

    async def _ask(self, target: Resolved, access: GitAccess, timeout: float) -> Completed:
        """A commit whose ref was just seen comes alone; one that only a person named must be reachable, so all
        of the branch, or of the repository, comes with it (sources.md 2.1)."""
        if target.ref:
            refspecs = ["--depth=1", "--", access.url, f"+{target.oid}:{_KEPT}{target.oid}"]
        elif target.branch:
            refspecs = ["--", access.url, f"+{target.branch}:refs/headrace-branch"]
        else:
            refspecs = ["--", access.url, f"+{HEADS}*:refs/headrace-heads/*", "+refs/tags/*:refs/headrace-tags/*"]
        return await git(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force",
            *refspecs, cwd=self.directory, timeout=timeout, access=access,
        )  # fmt: skip

    async def _keep(self, target: Resolved, timeout: float) -> None:
        """Name the commit, so that it stays: the peeled one of a tag, or one found by its hash."""
        if not target.ref and not await self._is_reachable(target, timeout):
            where = f"branch '{target.branch.removeprefix(HEADS)}'" if target.branch else "any branch or tag"
            raise GitError(f"unable to resolve commit object for '{target.commit}': it is not on {where}")
        kept = await git("update-ref", _KEPT + target.commit, target.commit, cwd=self.directory, timeout=timeout)
        if kept.code != 0:
            raise GitError(f"unable to resolve commit object for '{target.commit}': {kept.errors}")

    async def _is_reachable(self, target: Resolved, timeout: float) -> bool:
        scopes = ["refs/headrace-branch"] if target.branch else ["refs/headrace-heads", "refs/headrace-tags"]
        found = await git(
            "for-each-ref", "--count=1", f"--contains={target.commit}", "--format=%(refname)",
            *scopes, cwd=self.directory, timeout=timeout,
        )  # fmt: skip
        return found.code == 0 and bool(found.stdout.strip())

    async def _prepare(self, timeout: float) -> bool:
        """Make the directory a repository; whether it is a new one."""
        if await asyncio.to_thread(self._is_overgrown):
            await self.discard()
        if (self.directory / "HEAD").is_file():
            return False
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = await git("init", "--quiet", "--bare", "--template=", ".", cwd=self.directory, timeout=timeout)
        if made.code != 0:
            raise GitError(f"unable to make a mirror: {made.errors}")
        return True

    def _is_overgrown(self) -> bool:
        packs = self.directory / "objects" / "pack"
        return packs.is_dir() and sum(1 for _ in packs.glob("*.pack")) > _PACKS

    async def discard(self) -> None:
        """Delete the mirror: the next fetch starts anew."""
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)


_SERVER_WORDS = (
    "could not resolve host", "failed to connect", "connection refused", "authentication failed", "returned error",
    "timed out", "could not read username", "not found", "unable to access", "couldn't find remote ref",
    "remote error", "rpc failed", "the remote end hung up", "not our ref",
)  # fmt: skip


def _is_of_the_server(completed: Completed) -> bool:
    """Whether a failure is the server's doing; any other may come from a damaged mirror."""
    errors = completed.errors.lower()
    return any(word in errors for word in _SERVER_WORDS)


def _failure(completed: Completed, url: str) -> GitError:
    lines = [line for line in completed.errors.splitlines() if line.strip()] or [f"exit code {completed.code}"]
    message = f"unable to clone '{url}': {' '.join(lines[-3:])[:512]}"
    if any(word in completed.errors for word in ("Authentication failed", "could not read Username", "error: 403")):
        return AuthenticationRequired(message)
    return GitError(message)
