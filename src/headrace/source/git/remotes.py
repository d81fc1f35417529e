"""Git remotes, shared: objects that name the same repository with the same identity share one poll and one fetch.

A remote is a URL and an identity (SEC-49). Whoever asks when an answer is being fetched waits for that answer; whoever
asks soon after uses it. When a ref is seen to have moved, `changed` tells the engine, which wakes all who read it.

`Polls` is not used, since its answers have one key and one digest, while one answer here serves all the refs it covers
and each reader records its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.core.clock import Clock
from headrace.core.egress import Egress, RemoteUrl
from headrace.core.limits import UNPACK, UnpackLimits
from headrace.model.read import Read
from headrace.model.reference import REMOTE, Reference
from headrace.source.git.checkout import Base, Commit, Selection, check_out, read_commit, read_links, read_object
from headrace.source.git.credentials import Credentials
from headrace.source.git.errors import AuthenticationRequired, EmptyRepository, GitError, RefNotFound
from headrace.source.git.http import HttpTransport
from headrace.source.git.inclusion import Inclusion
from headrace.source.git.mirror import FETCHES, Mirror
from headrace.source.git.refs import (
    RefKind,
    RefTarget,
    Resolved,
    WantedRef,
    part_digest,
    resolve,
    resolve_commit,
)
from headrace.source.git.ssh_algorithms import ANY, SshAlgorithms
from headrace.source.git.submodules import DEPTH, Submodule, list_submodules, locate
from headrace.source.git.transport import Transport
from headrace.source.polls import FORGET, GROUP, Changed, serves, tell_later
from headrace.source.turns import Turns
from headrace.source.versions import MatchVersions

if TYPE_CHECKING:
    from headrace.source.git.ssh import SshConnections

KIND = "GitRemote"
_COMMITS = 32
_IDLE = 6 * 3600.0
"""Seconds after which the mirror of a remote that nobody polls is deleted; it is only a cache."""


@dataclass(frozen=True, slots=True)
class Refs:
    """Refs of a remote, and the read to record by whoever uses them."""

    refs: Mapping[str, RefTarget]
    read: Read


@dataclass(slots=True)
class _Poll:
    """An answer of a server, good or bad, and when it was asked for."""

    started: float
    prefixes: frozenset[str]
    refs: Mapping[str, RefTarget] = field(default_factory=dict)
    error: GitError | None = None

    def covers(self, prefix: str) -> bool:
        return prefix in self.prefixes or any(prefix.startswith(p) for p in self.prefixes if p.endswith("/"))


class Remote:
    """One repository with one identity. Made by `Remotes`."""

    def __init__(
        self, key: str, origin: tuple[RemoteUrl, Credentials], transport: Transport, mirror: Mirror, clock: Clock,
        changed: Changed, *, turns: Turns,
    ) -> None:  # fmt: skip
        self.key = key
        self.origin = origin
        self.reference = Reference(GROUP, KIND, "", key, cluster=REMOTE)
        self.mirror = mirror
        self._transport = transport
        self._clock = clock
        self._changed = changed
        self._turns = turns
        self._polling = asyncio.Lock()
        self._fetching = asyncio.Lock()
        self._wanted: dict[str, float] = {}
        self._digests: dict[str, str] = {}
        self._last: _Poll | None = None
        self._commits: dict[str, Commit] = {}
        self.used = clock.monotonic()

    def renew(self, credentials: Credentials) -> None:
        """Use credentials that were issued anew for the same identity."""
        self.origin = self.origin[0], credentials
        if isinstance(self._transport, HttpTransport):
            self._transport.renew(credentials)

    async def refs(self, prefix: str, *, max_age: float, timeout: float) -> Refs:
        """The refs at `prefix` from an answer that was asked for at most `max_age` seconds before this call.

        Those who call while another polls share the next answer. One who accepts no older answer is waited for by
        somebody, and goes before the others at the host. `timeout` begins when it is this poll's turn. Raises GitError.
        """
        asked, host, urgent = self._want(prefix), self.origin[0].origin, max_age <= 0
        if urgent:
            self._turns.hasten(host, self.key)
        async with self._polling:
            poll = self._answer(prefix, asked, max_age)
            if poll is None:
                async with self._turns.turn(host, self.key, urgent=urgent):
                    poll = self._last = await self._poll(timeout)
        return self._refs(prefix, poll)

    def refs_nowait(self, prefix: str, *, max_age: float) -> Refs | None:
        """As `refs` from an answer that is there already; None when the server has to be asked. Raises GitError."""
        poll = self._answer(prefix, self._want(prefix), max_age)
        return None if poll is None else self._refs(prefix, poll)

    def known(self, prefix: str) -> str:
        """The digest of the refs at `prefix` as of the last answer that told them; empty before there was one."""
        return self._digests.get(prefix, "")

    def _want(self, prefix: str) -> float:
        """Have `prefix` among those that are polled; returns the time."""
        asked = self.used = self._clock.monotonic()
        self._wanted[prefix] = asked
        return asked

    def _answer(self, prefix: str, asked: float, max_age: float) -> _Poll | None:
        poll = self._last
        if poll is None or not poll.covers(prefix) or not serves(poll.started, asked, max_age, poll.error):
            return None
        return poll

    def _refs(self, prefix: str, poll: _Poll) -> Refs:
        if poll.error is not None:
            raise poll.error
        return Refs(poll.refs, Read(self.reference, prefix, part_digest(prefix, poll.refs)))

    async def _poll(self, timeout: float) -> _Poll:
        started = self._clock.monotonic()
        self._wanted = {prefix: asked for prefix, asked in self._wanted.items() if asked > started - FORGET}
        prefixes = frozenset(self._wanted)
        try:
            async with asyncio.timeout(timeout):
                refs = await self._transport.refs(sorted(prefixes), timeout)
        except GitError as error:
            return _Poll(started, prefixes, error=error)
        except TimeoutError:
            return _Poll(started, prefixes, error=GitError("context deadline exceeded: no answer in time"))
        self._tell(prefixes, refs)
        return _Poll(started, prefixes, refs)

    def _tell(self, prefixes: frozenset[str], refs: Mapping[str, RefTarget]) -> None:
        """Say what moved."""
        for prefix in prefixes:
            digest = part_digest(prefix, refs)
            known = self._digests.get(prefix)
            self._digests[prefix] = digest
            if known is not None and known != digest:
                tell_later(self._changed, Read(self.reference, prefix, digest))

    async def is_empty(self, timeout: float) -> bool:
        """Whether the repository has no branch at all."""
        refs = await self._transport.refs(["refs/heads/"], timeout)
        return not refs

    async def hold(self, target: Resolved, timeout: float) -> None:
        """Have the commit in the mirror: one fetch, however many ask. Raises GitError."""
        self.used = self._clock.monotonic()
        async with self._fetching:
            if not self.mirror.holds(target.commit):
                await self.mirror.fetch(target, timeout)

    async def hold_pinned(self, commit: str, timeout: float) -> Resolved:
        """Have a commit that another repository names by its hash: alone if the server gives it so. Raises GitError."""
        alone = Resolved(commit, commit, f"sha1:{commit}", ref=commit)
        try:
            await self.hold(alone, timeout)
        except AuthenticationRequired:
            raise
        except GitError:
            await self.hold(Resolved(commit, commit, f"sha1:{commit}"), timeout)
        return alone

    async def read_object(self, kind: str, oid: str, target: Resolved, timeout: float) -> bytes:
        """The bytes of the commit or of the tag object of a target, as they are stored. Raises GitError."""
        await self.hold(target, timeout)
        async with self._fetching:
            if not self.mirror.holds(oid):
                await self.mirror.fetch(target, timeout)
            return await read_object(self.mirror.directory, kind, oid, timeout)

    async def submodules(self, target: Resolved, timeout: float) -> tuple[Submodule, ...]:
        """The submodules of a commit. Raises GitError."""
        await self.hold(target, timeout)
        async with self._fetching:
            links = await read_links(self.mirror.directory, target.commit, timeout)
            return await list_submodules(self.mirror.directory, target.commit, links, timeout)

    async def commit(self, target: Resolved, timeout: float) -> Commit:
        """The commit itself: read once, however many ask. Raises GitError."""
        await self.hold(target, timeout)
        async with self._fetching:
            known = self._commits.get(target.commit)
            if known is None:
                known = await read_commit(self.mirror.directory, target.commit, timeout)
                self._commits = {**dict(list(self._commits.items())[-_COMMITS:]), target.commit: known}
            return known

    def commit_nowait(self, target: Resolved) -> Commit | None:
        """The commit, if it was read before and is still in the mirror."""
        return self._commits.get(target.commit) if self.mirror.holds(target.commit) else None

    @property
    def busy(self) -> bool:
        """Whether somebody polls or fetches."""
        return self._polling.locked() or self._fetching.locked()

    async def check_out(
        self, target: Resolved, selection: Selection, directory: Path, timeout: float, limits: UnpackLimits,
        inclusions: Sequence[Inclusion] = (), *, base: Base | None = None,
    ) -> frozenset[str] | None:  # fmt: skip
        """Write the files of a commit. Raises GitError, CopyFailed, OSError."""
        await self.hold(target, timeout)
        async with self._fetching:
            mirror = self.mirror.directory
            return await check_out(
                mirror, target.commit, selection, directory, timeout, limits, inclusions=inclusions, base=base
            )


class Remotes:
    """All git remotes of the engine.

    `directory` holds the mirrors; `key` is this installation's secret, so that names of directories tell nothing of
    credentials; `match_versions` sorts semver tags; `changed` is told of refs that moved.
    """

    def __init__(
        self,
        directory: Path,
        *,
        key: bytes,
        egress: Egress,
        clock: Clock,
        match_versions: MatchVersions,
        changed: Changed,
        limits: UnpackLimits = UNPACK,
        ssh_algorithms: SshAlgorithms = ANY,
    ) -> None:
        self._directory = directory
        self._ssh_algorithms = ssh_algorithms
        self._key = key
        self._egress = egress
        self._clock = clock
        self._match_versions = match_versions
        self._changed = changed
        self._limits = limits
        self._remotes: dict[str, Remote] = {}
        self._connections: SshConnections | None = None
        self._fetches = asyncio.Semaphore(FETCHES)
        self._turns = Turns()
        self._collected = clock.monotonic()

    async def collect(self) -> None:
        """Delete mirrors that nobody has used for hours, and those that an earlier engine has left."""
        now = self._clock.monotonic()
        if now - self._collected < _IDLE:
            return
        self._collected = now
        for key, remote in list(self._remotes.items()):
            if now - remote.used > _IDLE and not remote.busy:
                del self._remotes[key]
        for name in await asyncio.to_thread(os.listdir, self._directory):
            if name not in self._remotes:
                await asyncio.to_thread(shutil.rmtree, self._directory / name, ignore_errors=True)

    def remote(self, url: RemoteUrl, credentials: Credentials) -> Remote:
        """The remote of a URL and an identity, always the same one."""
        location = url.text.rstrip("/").encode()
        data = len(location).to_bytes(8, "big") + location + credentials.identity
        key = hashlib.blake2b(data, digest_size=16, key=self._key).hexdigest()
        found = self._remotes.get(key)
        if found is None:
            found = self._remotes[key] = self._new(key, url, credentials)
        elif credentials.authorization != found.origin[1].authorization:
            found.renew(credentials)
        return found

    def _new(self, key: str, url: RemoteUrl, credentials: Credentials) -> Remote:
        transport = self._transport(url, credentials)
        mirror = Mirror(self._directory / key, transport, self._fetches)
        return Remote(key, (url, credentials), transport, mirror, self._clock, self._changed, turns=self._turns)

    def _transport(self, url: RemoteUrl, credentials: Credentials) -> Transport:
        if credentials.ssh is None:
            return HttpTransport(url, credentials, self._egress)
        # Only when it is needed: it takes a third of a second and 16 MiB.
        from headrace.source.git.ssh import SshConnections, SshTransport

        if self._connections is None:
            self._connections = SshConnections(self._egress, self._ssh_algorithms)
        return SshTransport(url, credentials.ssh, self._connections, credentials.proxy)

    async def resolve(self, remote: Remote, want: WantedRef, refs: Refs | None, timeout: float) -> Resolved:
        """The commit that `want` means among `refs` (None only for a commit, for which nobody is asked).

        Raises GitError: RefNotFound, EmptyRepository, or what else went wrong; ValueError for a bad semver range.
        """
        if want.kind is RefKind.COMMIT or refs is None:
            return resolve_commit(want)
        try:
            found = await resolve(want, refs.refs, self._match_versions)
        except RefNotFound:
            if want.kind is RefKind.BRANCH and await remote.is_empty(timeout):
                raise EmptyRepository("git repository is empty") from None
            raise
        return found[0] if len(found) == 1 else await self._newest(remote, found, timeout)

    async def _newest(self, remote: Remote, found: list[Resolved], timeout: float) -> Resolved:
        """Versions of equal precedence differ only in build metadata: the newest commit is meant (SRC-GIT-07)."""
        times = {one.commit: (await remote.commit(one, timeout)).time for one in found}
        return max(found, key=lambda one: (times[one.commit], one.ref))

    async def check_out(
        self, remote: Remote, target: Resolved, selection: Selection, directory: Path, timeout: float,
        inclusions: Sequence[Inclusion] = (), *, base: Base | None = None,
    ) -> frozenset[str] | None:  # fmt: skip
        """Write the selected files of the commit, and what is included, below an empty directory.

        With a `base` only what differs from it is written, and which paths these are is returned; None when it is not
        known. Raises GitError, CopyFailed, OSError.
        """
        if base is not None and not selection.submodules and remote.mirror.holds(base.commit):
            return await remote.check_out(target, selection, directory, timeout, self._limits, inclusions, base=base)
        await self._check_out(remote, target, selection, directory, timeout, inclusions)
        return None

    async def _check_out(
        self, remote: Remote, target: Resolved, selection: Selection, directory: Path, timeout: float,
        inclusions: Sequence[Inclusion], *, depth: int = 0,
    ) -> None:  # fmt: skip
        with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
            filled: list[Inclusion] = []
            if selection.submodules:
                filled = await self._submodules(remote, target, selection, Path(scratch), timeout, depth)
            await remote.check_out(target, selection, directory, timeout, self._limits, [*filled, *inclusions])

    async def _submodules(
        self, remote: Remote, target: Resolved, selection: Selection, scratch: Path, timeout: float, depth: int
    ) -> list[Inclusion]:
        """Check out the submodules of a commit, and theirs, below `scratch`: they are included like any directory."""
        filled: list[Inclusion] = []
        for module in await remote.submodules(target, timeout):
            if not selection.keeps(module.path):
                continue
            if depth >= DEPTH:
                raise GitError(f"submodules are nested more than {DEPTH} deep")
            folder = scratch / str(len(filled))
            folder.mkdir()
            child = self.remote(*locate(module, *remote.origin))
            commit = await child.hold_pinned(module.commit, timeout)
            everything = Selection(submodules=True, everything=True)
            await self._check_out(child, commit, everything, folder, timeout, (), depth=depth + 1)
            filled.append(Inclusion(f"submodule {module.path}", folder, "", module.path))
        return filled
