"""Reading a directory whose names come from outside: relative to descriptors, following no link.

What is neither a plain file nor a directory does not exist here, as in the artifacts that consumers unpack.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

Segments = tuple[str, ...]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 256 * 1024


class Kind(Enum):
    """What a path names."""

    FILE = "file"
    DIRECTORY = "directory"


class TreeReader:
    """Reads below one directory. Every path is a tuple of names without `.` and `..`. Not for several threads."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._root)

    def kind(self, path: Segments) -> Kind | None:
        """What a path names; None for nothing, and for what is not read."""
        if not path:
            return Kind.DIRECTORY
        try:
            with self._directory(path[:-1]) as folder:
                return _kind(os.stat(_name(path[-1]), dir_fd=folder, follow_symlinks=False).st_mode)
        except OSError as error:
            if error.errno in _NO_SUCH:
                return None
            raise

    def children(self, path: Segments) -> list[tuple[str, Kind]]:
        """The entries of a directory in lexical order of bytes. Raises OSError when there is no such directory."""
        with self._directory(path) as folder, os.scandir(folder) as found:
            kinds = ((entry.name, _kind(entry.stat(follow_symlinks=False).st_mode)) for entry in found)
            children = [(name, kind) for name, kind in kinds if kind is not None]
        return sorted(children, key=lambda child: os.fsencode(child[0]))

    def walk(self, path: Segments = ()) -> Iterator[tuple[Segments, Kind]]:
        """Everything below a directory, each directory before what is in it."""
        for name, kind in self.children(path):
            below = (*path, name)
            yield below, kind
            if kind is Kind.DIRECTORY:
                yield from self.walk(below)

    @contextlib.contextmanager
    def open(self, path: Segments) -> Iterator[BinaryIO]:
        """A plain file, for reading. Raises OSError."""
        with self._directory(path[:-1]) as folder:
            descriptor = os.open(_name(path[-1]), _FILE, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"'{'/'.join(path)}' is no plain file")
            yield file

    @contextlib.contextmanager
    def _directory(self, path: Segments) -> Iterator[int]:
        current = os.dup(self._root)
        try:
            for name in path:
                below = os.open(_name(name), _DIRECTORY, dir_fd=current)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file, piece by piece."""
    return iter(partial(file.read, _CHUNK), b"")


_NO_SUCH = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def _name(segment: str) -> str:
    """A name that stays in its directory. Raises FileNotFoundError for every other."""
    if segment in ("", ".", "..") or "/" in segment or "\0" in segment:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), segment)
    return segment


def _kind(mode: int) -> Kind | None:
    return Kind.DIRECTORY if stat.S_ISDIR(mode) else Kind.FILE if stat.S_ISREG(mode) else None
