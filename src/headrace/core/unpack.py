"""The only writer of archive entries: tar archives and git trees become directories through here and nowhere else.

Only plain files and directories are ever made, relative to a descriptor of the directory, following no link, with
modes of our own. An archive is read twice: once to check every entry, once to write, so that a bad one leaves
nothing behind (SEC-01 to SEC-05, SRC-ART-10).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from headrace.core.gunzip import BadGzip, TarStream
from headrace.core.limits import UNPACK, UnpackLimits
from headrace.core.paths import PathRefused, printable, safe_segments
from headrace.core.tar import BadTar, Entry, EntryKind, entries

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ArchiveRefused(Exception):
    """The archive is damaged, too large, or tries to write where it may not. The message is for users."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What an archive held: the sha256 of the tar inside (`sha256:hex`), its entries, the bytes of its files."""

    digest: str
    entries: int
    size: int


class TreeWriter:
    """Writes files below one directory, within limits. Made for one tree; not for several threads.

    Every method raises PathRefused or ArchiveRefused, and OSError as the file system does.
    """

    def __init__(self, root: Path, limits: UnpackLimits = UNPACK) -> None:
        self.limits = limits
        self.entries = 0
        self.size = 0
        self._chain: list[tuple[str, int]] = []
        self._root = os.open(root, _DIRECTORY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_to(0)
        os.close(self._root)

    def directory(self, path: str) -> None:
        """Make a directory and those above it; it may exist."""
        self._count_entry()
        self._enter(safe_segments(path, self.limits))

    def file(self, path: str, chunks: Iterable[bytes], *, executable: bool = False) -> None:
        """Write a file; one of the same name that was written before is replaced, nothing else is."""
        segments = safe_segments(path, self.limits)
        if not segments:
            raise PathRefused(f"path {printable(path)} is refused: it names no file")
        self._count_entry()
        folder = self._enter(segments[:-1])
        file = self._create(segments[-1], folder, executable, path)
        try:
            size = 0
            for chunk in chunks:
                size += len(chunk)
                self._count_bytes(len(chunk), size, path)
                _write_all(file, chunk)
        finally:
            os.close(file)

    def link(self, path: str, source: Path, size: int) -> None:
        """Make a file of another tree of ours, at `source` and of so many bytes, a file of this one too. Raises
        OSError when it cannot."""
        segments = safe_segments(path, self.limits)
        self._count_entry()
        folder = self._enter(segments[:-1])
        os.link(source, segments[-1], dst_dir_fd=folder, follow_symlinks=False)
        self._count_bytes(size, size, path)

    def _create(self, name: str, folder: int, executable: bool, path: str) -> int:
        mode = 0o700 if executable else 0o600
        try:
            return os.open(name, _NEW_FILE, mode, dir_fd=folder)
        except FileExistsError:
            try:
                os.unlink(name, dir_fd=folder)
            except OSError as error:
                raise ArchiveRefused(f"{printable(path)} is both a file and a directory") from error
            return os.open(name, _NEW_FILE, mode, dir_fd=folder)

    def _enter(self, segments: tuple[str, ...]) -> int:
        """The descriptor of a directory. Those of the last path are kept open: trees come in order."""
        common = 0
        while common < min(len(segments), len(self._chain)) and self._chain[common][0] == segments[common]:
            common += 1
        self._leave_to(common)
        for segment in segments[common:]:
            above = self._chain[-1][1] if self._chain else self._root
            with contextlib.suppress(FileExistsError):
                os.mkdir(segment, 0o700, dir_fd=above)
            try:
                self._chain.append((segment, os.open(segment, _DIRECTORY, dir_fd=above)))
            except NotADirectoryError as error:
                raise ArchiveRefused(f"{printable('/'.join(segments))} is both a file and a directory") from error
        return self._chain[-1][1] if self._chain else self._root

    def _leave_to(self, depth: int) -> None:
        while len(self._chain) > depth:
            os.close(self._chain.pop()[1])

    def _count_entry(self) -> None:
        self.entries += 1
        check_amounts(self.limits, self.entries, self.size, 0, "")

    def _count_bytes(self, more: int, file_size: int, path: str) -> None:
        self.size += more
        check_amounts(self.limits, self.entries, self.size, file_size, path)


def check_amounts(limits: UnpackLimits, count: int, total: int, file_size: int, path: str) -> None:
    """Raise ArchiveRefused when one of the amounts is over its limit."""
    if count > limits.files:
        raise ArchiveRefused(f"more than {limits.files} files and directories")
    if file_size > limits.file_bytes:
        raise ArchiveRefused(f"{printable(path)} is larger than {limits.file_bytes} bytes")
    if total > limits.total_bytes:
        raise ArchiveRefused(f"more than {limits.total_bytes} bytes when unpacked")


def inspect(archive: BinaryIO, limits: UnpackLimits = UNPACK, *, links: bool = True) -> Unpacked:
    """Check a tar or tar.gz from its beginning to its end without writing anything. Raises ArchiveRefused.

    Without `links` every link refuses the archive, wherever it leads.
    """
    with _told_to_users():
        stream = _opened(archive, limits)
        count = total = 0
        for entry in entries(stream, limits):
            _check_entry(entry, limits, links=links)
            count, total = count + 1, total + entry.size
            check_amounts(limits, count, total, entry.size, entry.path)
        return Unpacked(stream.finish(), count, total)


def unpack(archive: BinaryIO, directory: Path, limits: UnpackLimits = UNPACK, *, links: bool = True) -> Unpacked:
    """Write the files of a seekable tar or tar.gz below `directory`, which exists and is empty.

    Links that stay inside the tree are left out, as by every consumer of Flux artifacts; those that leave it, devices
    and everything else refuse the archive, before anything is written; without `links` all of them do. Raises
    ArchiveRefused, OSError.
    """
    checked = inspect(archive, limits, links=links)
    with _told_to_users(), TreeWriter(directory, limits) as writer:
        for entry in entries(_opened(archive, limits), limits):
            if entry.kind is EntryKind.DIRECTORY:
                writer.directory(entry.path)
            elif entry.kind is EntryKind.FILE:
                writer.file(entry.path, entry.chunks(), executable=bool(entry.mode & 0o111))
    return checked


def _opened(archive: BinaryIO, limits: UnpackLimits) -> TarStream:
    archive.seek(0)
    return TarStream(archive, limits)


def _check_entry(entry: Entry, limits: UnpackLimits, *, links: bool) -> None:
    segments = safe_segments(entry.path, limits)
    if entry.kind is EntryKind.FILE and not segments:
        raise PathRefused(f"path {printable(entry.path)} is refused: it names no file")
    if not links and entry.kind in (EntryKind.SYMLINK, EntryKind.HARDLINK):
        raise PathRefused(f"{entry.kind.value} {printable(entry.path)} is refused: links are not allowed here")
    if entry.kind is EntryKind.SYMLINK:
        _check_link(entry, segments[:-1])
    elif entry.kind is EntryKind.HARDLINK:
        safe_segments(entry.link, limits)


def _check_link(entry: Entry, folder: tuple[str, ...]) -> None:
    """A symbolic link is read from its own directory and may not leave the tree at any step of the way."""
    depth = len(folder)
    for segment in entry.link.split("/"):
        depth += -1 if segment == ".." else 0 if segment in ("", ".") else 1
        if depth < 0 or entry.link.startswith("/") or "\\" in entry.link:
            shown = f"{printable(entry.path)} -> {printable(entry.link)}"
            raise PathRefused(f"symbolic link {shown} is refused: it leads out of the tree")


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


@contextlib.contextmanager
def _told_to_users() -> Iterator[None]:
    try:
        yield
    except (PathRefused, BadTar, BadGzip) as error:
        raise ArchiveRefused(str(error)) from error
