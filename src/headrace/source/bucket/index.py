"""What is in a bucket, and how that becomes an artifact (sources.md 2.5).

The index is every wanted key with its ETag; its hash is the revision. Only when that is another one is anything
downloaded: every object then, so that an artifact is one state of the bucket and never a mixture.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from headrace.core.digests import ALGORITHMS, new_hash
from headrace.core.limits import KIB, MIB, UNPACK, UnpackLimits
from headrace.core.paths import PathRefused, printable
from headrace.core.unpack import ArchiveRefused, TreeWriter
from headrace.source.bucket.errors import BucketError, ObjectNotFound
from headrace.source.bucket.storage import Listed, ObjectStorage
from headrace.source.ignore import IGNORE_FILE, Ignore

PARALLEL = 32
"""Downloads at a time; upstream allows 100. More than the connections to one server bring nothing."""
_IN_MEMORY = 256 * KIB
"""Bytes of a download that are kept in memory; what is larger goes to a file without a name."""
_IGNORE_BYTES = 1 * MIB
_CHUNK = 256 * KIB


@dataclass(frozen=True, slots=True)
class Index:
    """The wanted objects of a bucket by key, and the text of its `.sourceignore` (None without one)."""

    objects: dict[str, Listed]
    ignore_file: bytes | None = field(default=None, repr=False)

    def revision(self, algorithm: str) -> str:
        """`algorithm:hex` over the sorted lines `<key> <etag>` (SRC-BKT-01)."""
        digest = hashlib.sha1(usedforsecurity=False) if algorithm == "sha1" else new_hash(algorithm)
        for key in sorted(self.objects):
            digest.update(f"{key} {self.objects[key].etag}\n".encode())
        return f"{algorithm}:{digest.hexdigest()}"

    @property
    def digest(self) -> str:
        """What is compared between polls: the revision, and the ignore file, which is no part of it."""
        return hashlib.sha256(self.revision("sha256").encode() + (self.ignore_file or b"")).hexdigest()

    def is_revision(self, revision: str) -> bool:
        """Whether this is the index of a revision, whatever algorithm that was written with (SRC-OPS-02)."""
        algorithm = revision.partition(":")[0]
        return algorithm in (*ALGORITHMS, "sha1") and self.revision(algorithm) == revision


async def read_index(
    storage: ObjectStorage, bucket: str, *, prefix: str, ignore: str | None, limits: UnpackLimits = UNPACK
) -> Index:
    """List the bucket. Raises BucketError."""
    ignore_file: bytes | None = None
    rules: Ignore | None = None
    objects: dict[str, Listed] = {}
    async for page in storage.pages(prefix):
        if rules is None:
            ignore_file = await _ignore_file(storage) if _may_have_ignore_file(page, prefix) else None
            text = "" if ignore_file is None else ignore_file.decode("utf-8", "replace")
            rules = Ignore([((), text)], ignore, defaults=False)
        for listed in page:
            if _is_wanted(listed.key, rules):
                objects[listed.key] = listed
        if len(objects) > limits.files:
            raise BucketError(f"bucket '{bucket}' has more than {limits.files} objects")
    return Index(objects, ignore_file)


def _may_have_ignore_file(page: list[Listed], prefix: str) -> bool:
    """Whether the first page of a listing, which is sorted, leaves room for a `.sourceignore` at the root."""
    if prefix:
        return True
    return bool(page) and (page[-1].key <= IGNORE_FILE or any(listed.key == IGNORE_FILE for listed in page))


def _is_wanted(key: str, rules: Ignore) -> bool:
    """Keys that end with a slash stand for directories; the ignore file is no content (SRC-BKT-04..06)."""
    if not key or key.endswith("/") or key == IGNORE_FILE:
        return False
    return not rules.excludes(tuple(key.split("/")), is_directory=False)


async def _ignore_file(storage: ObjectStorage) -> bytes | None:
    """The `.sourceignore` at the root of the bucket, whatever the prefix."""
    try:
        async with storage.open(Listed(IGNORE_FILE, "")) as opened:
            text = bytearray()
            async for chunk in opened.chunks:
                text += chunk
                if len(text) > _IGNORE_BYTES:
                    raise BucketError(f"'{IGNORE_FILE}' is larger than {_IGNORE_BYTES} bytes")
            return bytes(text)
    except ObjectNotFound:
        return None


async def download(
    storage: ObjectStorage, index: Index, directory: Path, *, scratch: Path, limits: UnpackLimits = UNPACK
) -> Index:
    """Write all objects below `directory`; returns the index of what was written.

    An object that is gone by now is left out, one that changed is as it is now: the index says so (SRC-BKT-06).
    Raises BucketError, OSError.
    """
    paths = _paths(index)
    with TreeWriter(directory, limits) as writer:
        if index.ignore_file is not None:
            writer.file(IGNORE_FILE, [index.ignore_file])
        run = _Download(storage, writer, scratch, limits)
        waiting = iter(sorted(paths.items()))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(PARALLEL, len(paths))):
                    group.create_task(run.work(waiting))
        except* (BucketError, OSError) as errors:
            raise _first(errors) from errors
    return Index(run.written, index.ignore_file)


class _Download:
    """The downloads into one tree, which share its limits and its writer."""

    def __init__(self, storage: ObjectStorage, writer: TreeWriter, scratch: Path, limits: UnpackLimits) -> None:
        self._storage = storage
        self._writer = writer
        self._scratch = scratch
        self._limits = limits
        self._writing = asyncio.Lock()
        self._bytes = 0
        self.written: dict[str, Listed] = {}

    async def work(self, waiting: Iterator[tuple[str, Listed]]) -> None:
        """Download one object after the other until none waits."""
        for path, listed in waiting:
            try:
                await self._one(path, listed)
            except ObjectNotFound:
                continue
            except (PathRefused, ArchiveRefused) as error:
                raise BucketError(str(error)) from error

    async def _one(self, path: str, listed: Listed) -> None:
        """Whole first, then written: what breaks off leaves nothing."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(self._scratch)) as spool:
            async with self._storage.open(listed) as opened:
                await self._receive(opened.chunks, spool, listed.key)
                etag = opened.etag
            spool.seek(0)
            async with self._writing:
                await asyncio.to_thread(self._writer.file, path, iter(lambda: spool.read(_CHUNK), b""))
        self.written[listed.key] = Listed(listed.key, etag)

    async def _receive(self, chunks: AsyncIterator[bytes], spool: IO[bytes], key: str) -> None:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            self._bytes += len(chunk)
            if size > self._limits.file_bytes:
                raise BucketError(f"object {printable(key)} is larger than {self._limits.file_bytes} bytes")
            if self._bytes > self._limits.total_bytes:
                raise BucketError(f"the objects have more than {self._limits.total_bytes} bytes")
            spool.write(chunk)


def _paths(index: Index) -> dict[str, Listed]:
    """The objects by the path that each gets. Two keys for one path are refused: neither is the right one."""
    paths: dict[str, Listed] = {}
    for key, listed in index.objects.items():
        path = jailed(key)
        if path in paths:
            raise BucketError(f"objects {printable(paths[path].key)} and {printable(key)} have the same path")
        paths[path] = listed
    return paths


def jailed(key: str) -> str:
    """The path of a key below the tree: absolute ones begin there, and `..` never leads above it (SRC-BKT-07)."""
    segments: list[str] = []
    for segment in key.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return "/".join(segments)


def _first(errors: BaseExceptionGroup[BucketError | OSError]) -> BucketError | OSError:
    for error in errors.exceptions:
        if not isinstance(error, BaseExceptionGroup):
            return error
    raise errors
