"""`--path DIR`: a local directory in place of the source's artifact.

A build may read the bases beside its directory, and nothing beyond the root: the part of the path before spec.path,
as it is in the artifact; else the work tree of git that the directory is in; else the directory itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from headrace.cli import sops_mask
from headrace.cli.exits import USAGE, CommandError
from headrace.model.artifact import Tree


@dataclass(frozen=True, slots=True)
class Files:
    """What is built: a tree, and the directory in it."""

    tree: Tree
    path: str
    revision: str = ""


@contextlib.contextmanager
def local_files(path: Path, spec_path: str, *, encrypted: bool = False) -> Iterator[Files]:
    """The files of a local directory while the context is open, what is encrypted masked, unless it is wanted as it is.
    Raises CommandError(USAGE) when there is no such directory."""
    directory = path.resolve()
    if not directory.is_dir():
        raise CommandError(f"invalid resource path '{path}'", USAGE)
    root = root_of(directory, spec_path)
    inside = f"./{directory.relative_to(root)}"
    with contextlib.nullcontext(root) if encrypted else sops_mask.readable(root) as shown:
        yield Files(Tree(shown, ""), inside)


def root_of(directory: Path, spec_path: str) -> Path:
    """The root of the tree that a directory belongs to; both are absolute."""
    suffix = [part for part in PurePosixPath(os.path.normpath(spec_path or ".")).parts if part not in (".", "/")]
    if suffix and list(directory.parts[-len(suffix) :]) == suffix:
        return Path(*directory.parts[: -len(suffix)])
    return next((parent for parent in (directory, *directory.parents) if (parent / ".git").exists()), directory)
