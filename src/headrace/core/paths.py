"""Relative paths that come from outside: names in archives, git trees, specs and URLs."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from headrace.core.limits import UNPACK, UnpackLimits

_SEGMENT_BYTES = 255


class PathRefused(ValueError):
    """A path that leads out of where it belongs, or that some system would read otherwise than it is written."""


def safe_segments(name: str, limits: UnpackLimits = UNPACK) -> tuple[str, ...]:
    """The segments of a relative path; `.` and a trailing slash are dropped, so the root gives `()`.

    Raises PathRefused for absolute names, `..`, backslashes, drive letters, control bytes, names that stand for
    `.git` on some file system, and anything too long or too deep (SEC-01, SEC-04, SEC-08).
    """
    reason = _reason_to_refuse(name, limits)
    if reason:
        raise PathRefused(f"path {printable(name)} is refused: {reason}")
    return tuple(segment for segment in name.split("/") if segment not in ("", "."))


def resolve_inside(root: Path, name: str) -> Path:
    """`root`/`name` with links resolved, inside `root`.

    Raises PathRefused alike whether the target exists (SEC-11), and for names that no tree can hold (SEC-62).
    """
    reason = _reason_by_size(name, name.split("/"), UNPACK)
    if reason:
        raise PathRefused(f"path {printable(name)} is refused: {reason}")
    base = root.resolve(strict=True)
    if "\0" not in name:
        target = Path(os.path.realpath(base / name.lstrip("/")))
        if target == base or base in target.parents:
            return target
    raise PathRefused(f"path {printable(name)} is outside of the tree")


def printable(name: str) -> str:
    """A name from outside in a message: quoted, escaped, cut."""
    cut = name if len(name) <= 128 else name[:125] + "..."
    return "'" + cut.encode("unicode_escape", "backslashreplace").decode().replace("'", "\\'") + "'"


def _reason_to_refuse(name: str, limits: UnpackLimits) -> str:
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        return "it contains control characters"
    if name.startswith("/"):
        return "it is absolute"
    if "\\" in name:
        return "it contains a backslash"
    segments = name.split("/")
    if ".." in segments:
        return "it leads out of the tree"
    if len(segments[0]) >= 2 and segments[0][1] == ":" and segments[0][0].isascii() and segments[0][0].isalpha():
        return "it begins with a drive letter"
    if any(_means_git(segment) for segment in segments):
        return "it stands for .git"
    return _reason_by_size(name, segments, limits)


def _reason_by_size(name: str, segments: list[str], limits: UnpackLimits) -> str:
    if len(os.fsencode(name)) > limits.name_bytes:
        return f"it is longer than {limits.name_bytes} bytes"
    if len(segments) > limits.depth:
        return f"it is deeper than {limits.depth} directories"
    if any(len(os.fsencode(segment)) > _SEGMENT_BYTES for segment in segments):
        return f"a part of it is longer than {_SEGMENT_BYTES} bytes"
    return ""


def _means_git(segment: str) -> bool:
    """As git's own checks for NTFS (case, `git~1`, trailing dots, streams) and HFS+ (ignorable characters)."""
    visible = "".join(char for char in segment if unicodedata.category(char) != "Cf")
    plain = visible.partition(":")[0].rstrip(". ").casefold()
    return plain in (".git", "git~1")
