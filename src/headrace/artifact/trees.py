"""Opened artifacts: the files of each content once on disk, shared by all who read them, collected when unused.

A tree is known by the digest of its tar, and leased while somebody reads it, so that nothing in use disappears.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

from headrace.artifact.fetch import ARTIFACT_FAILED, REQUEUE, Fetcher, failed
from headrace.artifact.files import new_directory
from headrace.artifact.store import Integrity, Store, stored_reference
from headrace.core.clock import Clock
from headrace.core.limits import UNPACK, UnpackLimits
from headrace.core.unpack import ArchiveRefused, unpack
from headrace.model.artifact import Artifact, Tree
from headrace.model.errors import Waiting

_IDLE = 600.0
"""Seconds for which a tree that nobody reads stays: until the next deliveries of the same revision are done."""
_LOOKS = 10
"""How often in the time that a tree stays all of them are looked at, however often it is asked for."""


class Trees:
    """Opens artifacts of this store and, with a fetcher, those of others.

    `lost` is told of an artifact of this store whose file is missing or damaged, so that its source makes it anew.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        fetcher: Fetcher | None = None,
        lost: Callable[[Artifact], None] | None = None,
        limits: UnpackLimits = UNPACK,
        idle: float = _IDLE,
        requeue: float = REQUEUE,
    ) -> None:
        self._store = store
        self._clock = clock
        self._fetcher = fetcher
        self._lost = lost
        self._limits = limits
        self._idle = idle
        self._requeue = requeue
        self._leases: Counter[str] = Counter()
        self._used: dict[str, float] = {}
        self._next_look = 0.0
        self._known: dict[str, str] = {}
        self._opening: dict[str, asyncio.Lock] = {}

    @contextlib.asynccontextmanager
    async def open(self, artifact: Artifact) -> AsyncIterator[Tree]:
        """The files of an artifact, read-only, for as long as the context is open.

        Raises Waiting(ArtifactFailed) while it is missing in this store, which ends when its source has made it
        anew; Retry(ArtifactFailed) when it is refused or cannot be fetched; OSError (disk full).
        """
        async with self._opening.setdefault(artifact.digest, asyncio.Lock()):
            digest = await self._opened(artifact)
            path = self._store.tree_path(digest)
            self._leases[path.name] += 1
        try:
            yield Tree(path, digest)
        finally:
            self._return(path.name)

    @contextlib.asynccontextmanager
    async def opened(self, digest: str) -> AsyncIterator[Tree | None]:
        """The files of the tar with this digest if they are open already, None if not."""
        path = self._store.tree_path(digest)
        if not digest or not path.is_dir():
            yield None
            return
        self._leases[path.name] += 1
        try:
            yield Tree(path, digest)
        finally:
            self._return(path.name)

    def _return(self, name: str) -> None:
        self._leases[name] -= 1
        self._used[name] = self._clock.monotonic()

    async def _opened(self, artifact: Artifact) -> str:
        """The digest of the tree, which is on disk afterwards."""
        known = self._known.get(artifact.digest) or self._store.known_tar_digest(artifact.digest)
        if not known or not self._store.tree_path(known).is_dir():
            known = await self._open_anew(artifact)
        self._known[artifact.digest] = known
        return known

    async def _open_anew(self, artifact: Artifact) -> str:
        own = await self._store.verify(artifact) if self._store.locate(artifact.path) else Integrity.LOST
        path = self._store.locate(artifact.path) if own is Integrity.SOUND else None
        if path is not None:
            with path.open("rb") as file:
                return await asyncio.to_thread(self._unpack, file)
        if self._store.owns(artifact):
            if self._lost is not None:
                self._lost(artifact)
            text = f"artifact '{artifact.path}' is missing in storage or damaged; its source makes it anew"
            on = (stored_reference(artifact.path),)
            raise Waiting(ARTIFACT_FAILED, text, on=on, after=self._requeue, quiet=True)
        return await self._fetch(artifact)

    async def _fetch(self, artifact: Artifact) -> str:
        if self._fetcher is None:
            raise failed(f"artifact '{artifact.path}' is not in storage")
        with tempfile.TemporaryFile(dir=self._store.scratch) as file:
            await self._fetcher.fetch(artifact, file)
            return await asyncio.to_thread(self._unpack, file)

    def _unpack(self, file: BinaryIO) -> str:
        with new_directory(self._store.scratch) as directory:
            try:
                digest = unpack(file, directory, self._limits).digest
            except ArchiveRefused as error:
                raise failed(f"failed to unpack artifact: {error}") from error
            target = self._store.tree_path(digest)
            if not target.is_dir():
                directory.rename(target)
            return digest

    async def collect(self) -> None:
        """Delete trees that nobody has read for a while. To be called often: it is no work but now and then."""
        now = self._clock.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self._idle / _LOOKS
        for name in await asyncio.to_thread(os.listdir, self._store.trees):
            since = self._used.setdefault(name, now)
            if self._leases[name] <= 0 and now - since > self._idle:
                await self._delete(name)

    async def _delete(self, name: str) -> None:
        """Out of sight first, in one step, so that nobody opens it while it goes."""
        with new_directory(self._store.scratch) as folder:
            os.rename(self._store.trees / name, folder / "tree")  # noqa: PTH104 - one system call
            self._used.pop(name, None)
            del self._leases[name]
            self._forget(name)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _forget(self, name: str) -> None:
        """Which artifacts hold this tree, or every revision there ever was would be remembered."""
        for digest in [digest for digest, tree in self._known.items() if self._store.tree_path(tree).name == name]:
            del self._known[digest]
            if not self._opening[digest].locked():
                del self._opening[digest]
