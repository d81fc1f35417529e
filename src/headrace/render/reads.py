"""Whether a tree still holds what a renderer read of another one: then there is nothing to render anew.

Files are compared by content, directories by the names they list, and paths looked for in vain by their absence.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from headrace.model.artifact import Tree
from headrace.model.manifests import FileRead


def changed_read(reads: Iterable[FileRead], tree: Tree) -> FileRead | None:
    """The first read that gives something else in `tree`, or None when all are the same.

    Blocks on the disk: call it in a thread when the list is long.
    """
    for read in reads:
        if digest_of(tree.directory, read.path, read.kind) != read.digest:
            return read
    return None


def digest_of(root: Path, path: str, kind: str) -> str:
    """Digest of one read as the toolbox reports it. A path that is of another kind now, or outside, has none."""
    target = _inside(root, path)
    try:
        mode = target.stat().st_mode if target is not None else 0
        if target is None or mode == 0:
            return "outside"
        if kind == "absent":
            return "present"
        if kind == "dir" and stat.S_ISDIR(mode):
            return directory_digest(target)
        if kind == "file" and stat.S_ISREG(mode):
            return hashlib.sha256(target.read_bytes()).hexdigest()
        return "other"
    except OSError:
        return "" if kind == "absent" else "gone"


def directory_digest(directory: Path) -> str:
    """Digest of what a directory lists: sorted names, directories with a slash behind, a newline after each."""
    with os.scandir(directory) as entries:
        names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries)
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def _inside(root: Path, path: str) -> Path | None:
    """The file that `path` names, links followed; None when that is outside of the tree."""
    base = root.resolve()
    resolved = (base / path.lstrip("/")).resolve()
    return resolved if resolved.is_relative_to(base) else None
