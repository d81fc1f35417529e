"""Indexes of repositories, polled once for all objects that name the same one with the same identity (SEC-49).

A poll says by ETag or date what is known; a server that has nothing newer sends nothing. What comes is hashed as it
is, which is the revision; only a revision that nobody has kept yet is normalised.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from headrace.core.clock import Clock
from headrace.core.digests import new_hash
from headrace.core.limits import HELM, HelmLimits
from headrace.source.helm.errors import RepositoryError
from headrace.source.helm.index import Lookup, ReadYaml, normalise
from headrace.source.helm.repository import Fetched, HelmRepositoryClient
from headrace.source.polls import Changed, Polled, Polls

_CHUNK = 1024 * 1024
_REPOSITORIES = 1024
_LOOKUPS = 256


@dataclass(slots=True)
class _Repository:
    """What is kept of one repository: what its server said last, and the downloaded index until somebody kept it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    fetched: Fetched | None = None
    revision: str = ""
    raw: Path | None = None

    def drop(self) -> None:
        if self.raw is not None:
            self.raw.unlink(missing_ok=True)
        self.raw = None

    def take(self, fetched: Fetched, revision: str, raw: Path) -> None:
        self.drop()
        self.fetched, self.revision, self.raw = fetched, revision, raw


class Indexes:
    """The indexes of all repositories. `key` keeps names derived from credentials meaningless; `scratch` is for files
    that live as long as a run; `algorithm` is that of revisions; `changed` is told when a repository has another one.
    """

    def __init__(
        self, scratch: Path, key: bytes, read_yaml: ReadYaml, clock: Clock, changed: Changed, *,
        algorithm: str = "sha256", limits: HelmLimits = HELM,
    ) -> None:  # fmt: skip
        self._scratch = scratch
        self._key = key
        self._read_yaml = read_yaml
        self._algorithm = algorithm
        self._limits = limits
        self._polls: Polls[str] = Polls(
            "HelmIndex", digest=lambda revision: revision, errors=RepositoryError, clock=clock, changed=changed
        )
        self._repositories: OrderedDict[str, _Repository] = OrderedDict()
        self._lookups: OrderedDict[str, Lookup] = OrderedDict()

    def name(self, client: HelmRepositoryClient) -> str:
        """What the repository, asked with this identity, is known by (SEC-49)."""
        return client.key(self._key)

    async def revision(self, client: HelmRepositoryClient, *, max_age: float, timeout: float) -> Polled[str]:
        """The revision that the repository has now: `algorithm:hex` of what it serves (SRC-HRP-01).

        An answer that was asked for at most `max_age` seconds ago will do. Raises RepositoryError, OSError.
        """
        known = self._repository(client)

        async def ask() -> str:
            async with known.lock:
                await self._ask(client, known, known.fetched, timeout)
                return known.revision

        return await self._polls.ask(self.name(client), ask, max_age=max_age, host=client.host)

    def _repository(self, client: HelmRepositoryClient) -> _Repository:
        name = self.name(client)
        known = self._repositories.setdefault(name, _Repository())
        self._repositories.move_to_end(name)
        if len(self._repositories) > _REPOSITORIES:
            _, old = self._repositories.popitem(last=False)
            old.drop()
        return known

    async def _ask(
        self, client: HelmRepositoryClient, known: _Repository, last: Fetched | None, timeout: float
    ) -> None:
        with _new_file(self._scratch) as (file, path):
            fetched = await client.index(file, timeout=timeout, limit=self._limits.index_bytes, known=last)
            if fetched.changed:
                revision = await asyncio.to_thread(self._hashed, path)
                known.take(fetched, revision, path)
                return
        path.unlink()

    def _hashed(self, path: Path) -> str:
        hashed = new_hash(self._algorithm)
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                hashed.update(data)
        return f"{self._algorithm}:{hashed.hexdigest()}"

    async def write(self, client: HelmRepositoryClient, revision: str, target: BinaryIO, *, timeout: float) -> None:
        """Write the normalised index of a revision, fetched again if what came is gone by now.

        Raises RepositoryError, also when the repository has another one by then, IndexRefused, OSError.
        """
        known = self._repository(client)
        async with known.lock:
            if known.raw is None or known.revision != revision:
                await self._ask(client, known, None, timeout)
            if known.raw is None or known.revision != revision:
                raise RepositoryError("the index changed while it was fetched")
            with tempfile.TemporaryFile(dir=self._scratch) as pieces:
                await normalise(known.raw, target, pieces, self._read_yaml)
            known.drop()

    async def settle(self, client: HelmRepositoryClient) -> None:
        """What was downloaded is not needed any more. Whoever uses it now settles later."""
        known = self._repository(client)
        if not known.lock.locked():
            known.drop()

    async def lookup(self, digest: str, path: Path) -> Lookup:
        """Where the charts stand in the kept index of this digest: once for all charts of the repository.

        Raises IndexRefused, OSError.
        """
        known = self._lookups.get(digest)
        if known is None:
            known = self._lookups[digest] = await asyncio.to_thread(Lookup, path)
        self._lookups.move_to_end(digest)
        if len(self._lookups) > _LOOKUPS:
            self._lookups.popitem(last=False)
        return known


@contextlib.contextmanager
def _new_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A file for a download, gone if the block fails."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix="index-")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            yield file, path
    except BaseException:
        path.unlink(missing_ok=True)
        raise
