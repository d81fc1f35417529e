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


def changed_read(reads: Iterable[FileRead], tree: Tree) -> FileRead | None:
    """The first read that gives something else in `tree`, or None when all are the same. Blocks on the disk."""
    root = tree.directory.resolve()
    for read in reads:
        if not _same(root, read):
            return read
    return None


def _same(root: Path, read: FileRead) -> bool:
    path = root / read.path
    try:
        # Links above the last name are reads of their own, so following them says nothing new; none leads outside.
        if not path.parent.resolve().is_relative_to(root) and path != root:
            return False
        kind = _kind(path)
        return kind == read.kind and (not read.digest or _digest(path, kind) == read.digest)
    except (OSError, RuntimeError):
        return False


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
