"""Whether a tree still holds what a renderer read of another one: then there is nothing to render anew.

Kinds of reads and digests are those that the toolbox reports: a file by its content, a directory by the names it
lists, a link by its target, a path looked for in vain by its absence. Without a digest only the kind counts.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from headrace.model.artifact import Tree
from headrace.model.manifests import FileRead

FILE, DIRECTORY, LINK, ABSENT = "file", "dir", "link", "absent"


class Files:
    """What a tree holds, looked at once for all who have read the same. Blocks on the disk."""

    def __init__(self, tree: Tree) -> None:
        self._root = str(tree.directory.resolve())
        self._inside: dict[str, bool] = {}
        self._found: dict[tuple[str, bool], tuple[str, str]] = {}

    def changed(self, reads: Iterable[FileRead]) -> FileRead | None:
        """The first read that gives something else here, or None when all are the same."""
        return next((read for read in reads if not self._same(read)), None)

    def _same(self, read: FileRead) -> bool:
        key = read.path, bool(read.digest)
        try:
            found = self._found.get(key)
            if found is None:
                found = self._found[key] = self._look(read.path, whole=bool(read.digest))
            return found == (read.kind, read.digest)
        except (OSError, RuntimeError):
            return False

    def _look(self, relative: str, *, whole: bool) -> tuple[str, str]:
        """Kind and, if `whole`, digest of what is at a path; both empty when the way there leads outside."""
        path = Path(self._root, relative)
        if not self._is_inside(path):
            return "", ""
        kind = _kind(path)
        return kind, _digest(path, kind) if whole else ""

    def _is_inside(self, path: Path) -> bool:
        """Links above the last name are reads of their own, so following them says nothing new; none leads out."""
        parent = str(path.parent)
        inside = self._inside.get(parent)
        if inside is None:
            real = str(Path(parent).resolve())
            inside = self._inside[parent] = real == self._root or real.startswith(self._root + os.sep)
        return inside or str(path) == self._root


def changed_read(reads: Iterable[FileRead], tree: Tree) -> FileRead | None:
    """The first read that gives something else in `tree`, or None when all are the same. Blocks on the disk."""
    return Files(tree).changed(reads)


def _kind(path: Path) -> str:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    if stat.S_ISLNK(mode):
        return LINK
    return DIRECTORY if stat.S_ISDIR(mode) else FILE if stat.S_ISREG(mode) else ""


def _digest(path: Path, kind: str) -> str:
    if kind == LINK:
        content = os.fsencode(path.readlink())
    elif kind == DIRECTORY:
        with os.scandir(path) as entries:
            content = "\n".join(sorted(entry.name + _mark(entry) for entry in entries)).encode()
    else:
        content = path.read_bytes()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _mark(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "@"
    return "/" if entry.is_dir() else ""
