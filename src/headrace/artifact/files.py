"""File operations that survive a crash: written aside, synced, renamed, and the directory synced (REL-29)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def sync_directory(directory: Path) -> None:
    """Make renames and links in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file of an unguessable name in `folder`, mode 0600, synced at the end; gone if the block fails."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix="new-")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            yield file, path
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_directory(folder: Path) -> Iterator[Path]:
    """A new directory of an unguessable name in `folder`, mode 0700; gone at the end unless it was moved."""
    path = Path(tempfile.mkdtemp(dir=folder, prefix="new-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def link_over(source: Path, target: Path, scratch: Path) -> None:
    """Make `target` a hard link of `source`, replacing what is there in one step, durably."""
    link = scratch / f"link-{secrets.token_hex(16)}"
    os.link(source, link)
    try:
        link.replace(target)
    finally:
        link.unlink(missing_ok=True)  # renaming a link over another of the same file leaves both
    sync_directory(target.parent)
