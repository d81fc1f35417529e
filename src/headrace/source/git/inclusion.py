"""Directories of other artifacts, copied into a checkout (SRC-GIT-32..36): planned first, then written.

Written by core.unpack like everything else; paths come from users and never lead out of either tree.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from headrace.core.limits import UnpackLimits
from headrace.core.paths import printable
from headrace.core.unpack import TreeWriter
from headrace.source.ignore import IGNORE_FILE, Ignore

_CHUNK = 256 * 1024
Segments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inclusion:
    """A directory below `tree` to copy to one of the checkout; both paths come from users."""

    name: str
    tree: Path
    from_path: str
    to_path: str


class CopyFailed(Exception):
    """Something cannot be included; the message is for users."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A file or directory to be included, and where it goes."""

    source: Path
    target: Segments
    is_directory: bool


def planned(inclusions: Sequence[Inclusion], present: Mapping[Segments, bool]) -> list[Copy]:
    """What is to be copied, in order. `present` are the paths of the checkout, and whether each is a directory.

    Raises CopyFailed where the source is missing, or the destination holds something already, be it of an earlier
    inclusion (SRC-GIT-35).
    """
    taken = dict(present)
    copies: list[Copy] = []
    for one in inclusions:
        source, target = one.tree.joinpath(*jailed(one.from_path)), jailed(one.to_path)
        reason = _obstacle(source, target, taken)
        if reason:
            paths = f"from {printable(one.from_path)} to {printable(one.to_path)}"
            raise CopyFailed(f"failed to copy '{one.name}' include {paths}: {reason}")
        found = list(_walk(source, target))
        taken |= {copy.target: copy.is_directory for copy in found}
        copies += found
    return copies


def _obstacle(source: Path, target: Segments, taken: Mapping[Segments, bool]) -> str:
    if not source.is_dir():
        return "no such directory"
    if any(len(path) > len(target) and path[: len(target)] == target for path in taken):
        return "the destination exists and is not empty"
    if any(not taken.get(target[:depth], True) for depth in range(len(target) + 1)):
        return "a file is in the way"
    return ""


def jailed(path: str) -> Segments:
    """The segments of a path of which `..` never leads above its root (SRC-GIT-36)."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return tuple(segments)


def _walk(source: Path, target: Segments) -> Iterator[Copy]:
    yield Copy(source, target, is_directory=True)
    for folder, folders, files in os.walk(source):
        folders.sort()
        below = target + Path(folder).relative_to(source).parts
        for name in folders:
            yield Copy(Path(folder, name), (*below, name), is_directory=True)
        for name in sorted(files):
            yield Copy(Path(folder, name), (*below, name), is_directory=False)


def ignore_files_of(copies: Sequence[Copy]) -> list[tuple[Segments, str]]:
    """The ignore files among what is copied: they count like those of the repository."""
    found = [copy for copy in copies if copy.target[-1:] == (IGNORE_FILE,) and not copy.is_directory]
    return [(copy.target[:-1], copy.source.read_text("utf-8", "replace")) for copy in found]


def write_copies(copies: Sequence[Copy], ignore: Ignore, directory: Path, limits: UnpackLimits) -> None:
    """Write what is not ignored below `directory`. Raises PathRefused, ArchiveRefused, OSError."""
    with TreeWriter(directory, limits) as writer:
        for copy in copies:
            if copy.target and ignore.excludes(copy.target, copy.is_directory):
                continue
            path = "/".join(copy.target)
            if copy.is_directory:
                writer.directory(path)
                continue
            with copy.source.open("rb") as file:
                executable = bool(os.fstat(file.fileno()).st_mode & 0o100)
                writer.file(path, iter(partial(file.read, _CHUNK), b""), executable=executable)
