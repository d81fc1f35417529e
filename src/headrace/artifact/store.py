"""The store of artifacts on disk: content packed once, linked to a path for each object, old ones collected.

Layout below the root: `<kind>/<namespace>/<name>/<file>` is served; `.headrace/` holds what is not: `content/` (each
tar.gz once, by digest), `trees/` (opened content), `git/` (mirrors), `tmp/` (emptied at start).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from headrace.artifact.files import link_over, new_directory, new_file, sync_directory
from headrace.artifact.pack import Packed, pack
from headrace.core.clock import Clock, rfc3339
from headrace.core.digests import digest_of, matches
from headrace.core.failpoints import failpoint
from headrace.core.unpack import ArchiveRefused, inspect
from headrace.model.artifact import Artifact
from headrace.model.reference import REMOTE, Reference

_PRIVATE = ".headrace"
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]*")
_CONTENTS = 4096
"""Contents whose making is remembered, so that the next object that wants the same packs nothing."""

Produce = Callable[[Path], Awaitable[None]]
"""Writes the files of a content below an empty directory."""


Fetch = Callable[[BinaryIO], Awaitable[None]]
"""Writes a content that is one file."""

Wait = Callable[[Awaitable[None]], Awaitable[None]]
"""Awaits something with the worker slot given back: `Scope.wait`."""


class Integrity(Enum):
    """What is found in the place of an artifact."""

    SOUND = "sound"
    LOST = "lost"
    TAMPERED = "tampered"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the artifacts of one object are kept: `gitrepository/<namespace>/<name>`. Raises ValueError if unsafe."""

    kind: str
    namespace: str
    name: str

    def __post_init__(self) -> None:
        for segment in (self.kind, self.namespace, self.name):
            if not _SEGMENT.fullmatch(segment):
                raise ValueError(f"'{segment}' cannot be part of a path")

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


ALIASES = ("latest.tar.gz", "index.yaml")
"""Second names of the current artifact of an object, which stay the same (SRC-OCI-15): links, never followed ones."""

FILE = "file"
"""The part of a stored artifact that its source reads: the digest of the file, ABSENT when it is lost."""


def stored_reference(path: str) -> Reference:
    """What names the stored artifact at a path in reads, so that its source is woken when it is lost."""
    kind, _, rest = path.partition("/")
    namespace, _, rest = rest.partition("/")
    return Reference("storage", kind, namespace, rest.partition("/")[0], cluster=REMOTE)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file that was hashed, recognised by what the file system says of it."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> _Seen:
        status = path.lstat()
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class _Turn:
    """One at a time, in order; whoever is in line can wait without a worker slot.

    The one whose turn it is may need a slot to go on. If all slots were held by those in line, nobody would move.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._taken = 0

    @property
    def idle(self) -> bool:
        """Whether nobody has the turn or waits for it."""
        return self._taken == 0

    @contextlib.asynccontextmanager
    async def taken(self, wait: Wait | None) -> AsyncIterator[None]:
        in_line, self._taken = self._taken > 0, self._taken + 1
        try:
            await self._take(wait if in_line else None)
            try:
                yield
            finally:
                self._lock.release()
        finally:
            self._taken -= 1

    async def _take(self, wait: Wait | None) -> None:
        if wait is None:
            await self._lock.acquire()
            return
        ours = False

        async def acquire() -> None:
            nonlocal ours
            ours = await self._lock.acquire()

        try:
            await wait(acquire())
        except BaseException:
            # The turn may have come before the wait was ended, or while it was in line for a slot.
            if ours:
                self._lock.release()
            raise


class Store:
    """The artifacts of this engine. `address` is the `host:port` in their URLs.

    `ttl` seconds and `records` say how long old ones stay (sources.md section 3); `published` is told of each artifact
    when its file is there. One engine at a time uses a root.
    """

    def __init__(
        self,
        root: Path,
        address: str,
        clock: Clock,
        *,
        ttl: float = 60.0,
        records: int = 2,
        algorithm: str = "sha256",
        published: Callable[[Artifact], None] | None = None,
    ) -> None:
        self.root = root
        self.address = address
        self._clock = clock
        self._ttl = ttl
        self._records = records
        self.algorithm = algorithm
        self._published = published
        self._private = root / _PRIVATE
        self._contents: OrderedDict[str, Packed] = OrderedDict()
        self._making: dict[str, _Turn] = {}
        self._tars: dict[str, str] = {}
        self._verified: dict[Path, tuple[str, _Seen]] = {}
        self._superseded: dict[Path, float] = {}
        self._made: dict[Path, float] = {}
        self._tidy: dict[Place, str] = {}
        self._prepare()

    def _prepare(self) -> None:
        """Make the folders and drop what an earlier process left half done (SEC-54)."""
        for name in ("tmp", "trees"):
            shutil.rmtree(self._private / name, ignore_errors=True)
        for name in ("tmp", "trees", "content", "git"):
            (self._private / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._private.chmod(0o700)

    @property
    def scratch(self) -> Path:
        """For files and directories that are moved into their place when complete."""
        return self._private / "tmp"

    @property
    def trees(self) -> Path:
        """For opened contents."""
        return self._private / "trees"

    @property
    def mirrors(self) -> Path:
        """For mirrors of git remotes."""
        return self._private / "git"

    def installation_key(self) -> bytes:
        """32 random bytes, made once for this root, that keep names derived from credentials meaningless."""
        path = self._private / "key"
        if not path.is_file() or path.stat().st_size != 32:
            with new_file(self.scratch) as (file, written):
                file.write(secrets.token_bytes(32))
            written.replace(path)
            sync_directory(self._private)
        return path.read_bytes()

    async def content(self, key: str, produce: Produce, *, wait: Wait | None = None) -> Packed:
        """The packed content known by `key`; `produce` makes its files when nobody has yet, once at a time.

        A `produce` that gives its worker slot back needs `wait`, so that those in line for the same do too.

        Raises OSError (disk full: nothing is changed), and what `produce` raises.
        """
        async with self._making.setdefault(key, _Turn()).taken(wait):
            known = self._contents.get(key)
            if known is not None and self._is_unchanged(self._content_path(known.digest), known.digest):
                self._contents.move_to_end(key)
                return known
            packed = await self._make(produce)
            self._remember(key, packed)
            return packed

    async def blob(self, key: str, fetch: Fetch, *, wait: Wait | None = None) -> Packed:
        """The content known by `key` that is one file as it is: a chart, an index, a layer that is not unpacked.

        `fetch` writes it when nobody has yet, once at a time; the tar digest of the answer is empty. `wait` as for
        `content`. Raises OSError (disk full: nothing is changed), and what `fetch` raises.
        """
        async with self._making.setdefault(key, _Turn()).taken(wait):
            known = self._contents.get(key)
            if known is not None and self._is_unchanged(self._content_path(known.digest), known.digest):
                self._contents.move_to_end(key)
                return known
            with new_file(self.scratch) as (file, written):
                await fetch(file)
                packed = await asyncio.to_thread(self._take, file, written)
            self._remember(key, packed)
            return packed

    def forget(self, key: str) -> None:
        """Make the content known by `key` anew when it is wanted again: it is not what the key says."""
        self._contents.pop(key, None)

    def _take(self, file: BinaryIO, written: Path) -> Packed:
        """Make a complete file a content."""
        size = file.tell()
        with written.open("rb") as whole:
            digest = digest_of(whole, self.algorithm)
        os.fsync(file.fileno())
        self._settle(written, digest)
        return Packed(digest, size, "")

    def _settle(self, written: Path, digest: str) -> None:
        """Move a synced file to its place among the contents."""
        failpoint("artifact.packed")
        target = self._content_path(digest)
        written.replace(target)
        sync_directory(target.parent)
        self._made[target] = self._clock.monotonic()
        self._verified[target] = digest, _Seen.of(target)

    def _remember(self, key: str, packed: Packed) -> None:
        self._contents[key] = packed
        if len(self._contents) > _CONTENTS:
            self._contents.popitem(last=False)
        if len(self._making) > 2 * _CONTENTS:
            self._making = {name: turn for name, turn in self._making.items() if not turn.idle}

    async def _make(self, produce: Produce) -> Packed:
        with new_directory(self.scratch) as directory:
            await produce(directory)
            return await asyncio.to_thread(self._pack, directory)

    def _pack(self, directory: Path) -> Packed:
        """Pack, then offer the directory as the opened tree, which saves the first reader the unpacking."""
        with new_file(self.scratch) as (file, written):
            packed = pack(directory, file, self.algorithm)
        self._settle(written, packed.digest)
        self._tars[packed.digest] = packed.tar_digest
        tree = self.tree_path(packed.tar_digest)
        if not tree.exists():
            directory.rename(tree)
        return packed

    def _content_path(self, digest: str) -> Path:
        return self._private / "content" / (digest.replace(":", "-") + ".tar.gz")

    def content_file(self, packed: Packed) -> Path:
        """Where a content is, as long as somebody's artifact is it, and at least for the TTL after it was made."""
        return self._content_path(packed.digest)

    def tree_path(self, tar_digest: str) -> Path:
        """Where the opened tree of a content stands when there is one."""
        return self.trees / tar_digest.replace(":", "-")

    async def publish(
        self, place: Place, file_name: str, packed: Packed, revision: str, metadata: dict[str, str] | None = None,
        *, alias: str = "",
    ) -> Artifact:  # fmt: skip
        """Put a content at `<place>/<file_name>` and return the artifact for the status. Raises OSError.

        `alias`, one of ALIASES, names the same content until the next one is published.
        """
        if not _SEGMENT.fullmatch(file_name) or alias not in ("", *ALIASES):
            raise ValueError(f"'{file_name}' cannot be the name of an artifact, or '{alias}' its alias")
        path = f"{place}/{file_name}"
        self._tidy.pop(place, None)
        await asyncio.to_thread(self._link, packed.digest, self.root / path)
        if alias:
            await asyncio.to_thread(self._link, packed.digest, self.root / str(place) / alias)
        artifact = Artifact(
            path=path,
            url=self.url(path),
            revision=revision,
            digest=packed.digest,
            last_update_time=rfc3339(self._clock.now()),
            size=packed.size,
            metadata=metadata,
        )
        if self._published is not None:
            self._published(artifact)
        return artifact

    def _link(self, digest: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        source = self._content_path(digest)
        failpoint("artifact.link")
        sound = self._is_unchanged(source, digest)
        link_over(source, target, self.scratch)
        failpoint("artifact.linked")
        self._superseded.pop(target, None)
        if sound:
            self._verified[target] = digest, _Seen.of(target)

    def _is_unchanged(self, path: Path, digest: str) -> bool:
        """Whether the file is the one whose digest was computed."""
        known = self._verified.get(path)
        try:
            return known is not None and known == (digest, _Seen.of(path))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def url(self, path: str) -> str:
        """The address under which a path is served."""
        return f"http://{self.address}/{path}"

    async def verify(self, artifact: Artifact, *, delete: bool = False) -> Integrity:
        """Look at the file of an artifact; one that does not match its digest is deleted if `delete` says so, as its
        own source does (SRC-COM-20..22): what others say of a file may be wrong (SEC-25).

        A file that was read before and is as it was then is not read again. Only paths that were found to be safe are
        remembered, and asking the file system once costs less than a thread would.
        """
        if self._is_unchanged(self.root / artifact.path, artifact.digest):
            return Integrity.SOUND
        return await asyncio.to_thread(self._verify, artifact, delete)

    def _verify(self, artifact: Artifact, delete: bool = False) -> Integrity:
        path = self.locate(artifact.path)
        if path is None or not artifact.digest:
            return Integrity.LOST
        try:
            if self._is_unchanged(path, artifact.digest):
                return Integrity.SOUND
            seen = _Seen.of(path)
            with path.open("rb") as file:
                sound = matches(file, artifact.digest)
        except FileNotFoundError:
            return Integrity.LOST
        if not sound:
            if delete:
                path.unlink(missing_ok=True)
                self._forget(artifact.digest)
            return Integrity.TAMPERED
        self._verified[path] = artifact.digest, seen
        return Integrity.SOUND

    def _forget(self, digest: str) -> None:
        """Links share their bytes: what is damaged in one place is damaged in all."""
        self._content_path(digest).unlink(missing_ok=True)
        known = tuple(self._contents.items())
        self._contents = OrderedDict((key, item) for key, item in known if item.digest != digest)
        self._verified = {path: known for path, known in tuple(self._verified.items()) if known[0] != digest}

    def locate(self, path: str) -> Path | None:
        """The file at a path of the store; None for what is none, leads elsewhere, or is not served (SEC-47)."""
        segments = path.split("/")
        if not all(_SEGMENT.fullmatch(segment) for segment in segments):
            return None
        current = self.root
        for segment in segments:
            current = current / segment
            if current.is_symlink():
                return None
        return current if current.is_file() else None

    def owns(self, artifact: Artifact) -> bool:
        """Whether the artifact says that it is served from here."""
        return artifact.url == self.url(artifact.path)

    def known_tar_digest(self, digest: str) -> str:
        """The digest of the tar inside a tar.gz of this digest, if this engine has seen it; else empty."""
        return self._tars.get(digest, "")

    async def tar_digest(self, artifact: Artifact) -> str:
        """The digest of the tar inside an artifact of this store; empty when the file is not sound."""
        known = self._tars.get(artifact.digest)
        if known is None:
            known = await asyncio.to_thread(self._read_tar_digest, artifact)
            if known:
                self._tars[artifact.digest] = known
        return known

    def _read_tar_digest(self, artifact: Artifact) -> str:
        path = self.locate(artifact.path)
        if path is None or self._verify(artifact) is not Integrity.SOUND:
            return ""
        with contextlib.suppress(ArchiveRefused, OSError), path.open("rb") as file:
            return inspect(file).digest
        return ""

    async def remove(self, place: Place) -> None:
        """Delete all artifacts of an object (SRC-COM-02)."""
        self._tidy.pop(place, None)
        await asyncio.to_thread(self._remove, place)

    def _remove(self, place: Place) -> None:
        folder = self.root / str(place)
        shutil.rmtree(folder, ignore_errors=True)
        for path in (*tuple(self._verified), *tuple(self._superseded)):
            if path.parent == folder:
                self._verified.pop(path, None)
                self._superseded.pop(path, None)
        self._collect_contents(self._clock.monotonic())

    def is_settled(self, place: Place) -> bool:
        """Whether an object has one artifact here, whose file is as it was when its digest was computed."""
        path = self._tidy.get(place)
        known = None if path is None else self._verified.get(self.root / path)
        return path is not None and known is not None and self._is_unchanged(self.root / path, known[0])

    async def collect(self, place: Place, current: Artifact | None) -> list[str]:
        """Delete the old artifacts of an object, and contents that nobody links any more. Returns the paths deleted.

        First those older than the TTL, then the oldest until `records` remain; never `current` (SRC-ART-06). The age
        counts from when it was first seen not to be the current one. An object that was seen to have no old ones is
        not looked at again until something is published for it: most calls find nothing.
        """
        if current is not None and self._tidy.get(place) == current.path:
            return []
        return await asyncio.to_thread(self._collect, place, current)

    def _collect(self, place: Place, current: Artifact | None) -> list[str]:
        folder = self.root / str(place)
        now = self._clock.monotonic()
        old = {path: self._superseded.setdefault(path, now) for path in _others(folder, current)}
        deleted: list[str] = []
        remaining = self._records - 1
        for path, since in sorted(old.items(), key=lambda item: item[1], reverse=True):
            if now - since > self._ttl or remaining <= 0:
                path.unlink(missing_ok=True)
                self._superseded.pop(path, None)
                self._verified.pop(path, None)
                deleted.append(f"{place}/{path.name}")
            else:
                remaining -= 1
        if current is not None and len(deleted) == len(old):
            self._tidy[place] = current.path
        if deleted:
            self._collect_contents(now)
        return deleted

    def _collect_contents(self, now: float) -> None:
        """A content with a single link is nobody's artifact, unless it is new and yet to be linked."""
        for path in tuple((self._private / "content").iterdir()):
            if _links(path) == 1 and now - self._made.get(path, -self._ttl) > self._ttl:
                path.unlink(missing_ok=True)
                self._made.pop(path, None)
                digest, _ = self._verified.pop(path, ("", None))
                self._tars.pop(digest, None)


def _links(path: Path) -> int:
    """How many names a file has; none when another thread that collects was faster."""
    try:
        return path.lstat().st_nlink
    except FileNotFoundError:
        return 0


def _others(folder: Path, current: Artifact | None) -> list[Path]:
    """The files of an object besides its current one. Their times are not looked at: clocks jump (REL-30, REL-31)."""
    if not folder.is_dir():
        return []
    kept = (Path(current.path).name if current else "", *ALIASES)
    with os.scandir(folder) as found:
        files = [entry.name for entry in found if entry.is_file(follow_symlinks=False)]
    return [folder / name for name in files if name not in kept]
