"""One copy operation of an output, as `cp` would do it, within two directories that it never leaves.

Files are read by `files` and written by core.unpack, so that no name of a source or of a user leads anywhere else. What
has to be merged is returned: it needs a YAML parser, and waits for it.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from headrace.api.artifactgenerator import CopyOperation
from headrace.core.limits import MIB, UNPACK, UnpackLimits
from headrace.core.paths import printable, safe_segments
from headrace.core.unpack import TreeWriter, unpack
from headrace.source.generate.errors import CopyRefused
from headrace.source.generate.files import Kind, Segments, TreeReader, chunks
from headrace.source.generate.globs import (
    Exclusions,
    is_glob,
    literal_prefix,
    matching_deeply,
    matching_level_by_level,
)

MERGE, EXTRACT = "Merge", "Extract"

EXTRACTED_BYTES = 100 * MIB
"""Most that one tarball may unpack to (SRC-AGN-16)."""

_TARBALLS = (".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True)
class Merging:
    """A file of a source whose content is to be merged into one that is there already."""

    source: Path
    path: Segments
    target: Segments


@dataclass(frozen=True, slots=True)
class Spent:
    """What an output has cost so far of its limits."""

    entries: int = 0
    size: int = 0


def source_of(path: str) -> tuple[str, str]:
    """Alias and pattern of `@alias/pattern`. Raises CopyRefused."""
    alias, separator, pattern = path.removeprefix("@").partition("/")
    if not path.startswith("@") or not separator:
        raise CopyRefused(f"invalid copy source {printable(path)}: it must be '@alias/pattern'")
    return alias, pattern


def perform(
    operation: CopyOperation, sources: Mapping[str, Path], staging: Path, spent: Spent = Spent(),
    limits: UnpackLimits = UNPACK,
) -> tuple[list[Merging], Spent]:  # fmt: skip
    """Copy what the operation names from the directories of `sources`, by alias, to below `staging`.

    Blocking: call it in a thread. Raises CopyRefused, PathRefused, ArchiveRefused and OSError.
    """
    alias, pattern = source_of(operation.from_)
    source = sources.get(alias)
    if source is None:
        raise CopyRefused(f"source alias '{alias}' not found")
    with TreeReader(source) as reader, TreeReader(staging) as staged, TreeWriter(staging, limits) as writer:
        writer.entries, writer.size = spent.entries, spent.size
        copier = _Copier(operation, source, reader, staged, staging, writer)
        copier.copy(pattern)
        return copier.mergings, Spent(writer.entries, writer.size)


@dataclass(slots=True)
class _Copier:
    operation: CopyOperation
    source: Path
    reader: TreeReader
    staged: TreeReader
    staging: Path
    writer: TreeWriter
    mergings: list[Merging] = field(default_factory=list)
    exclusions: Exclusions = field(init=False)
    target: Segments = field(init=False)

    def __post_init__(self) -> None:
        self.exclusions = Exclusions(self.operation.exclude)
        self.target = _destination(self.operation.to)

    def copy(self, pattern: str) -> None:
        if is_glob(pattern):
            self._copy_matches(pattern)
            return
        path = safe_segments(posixpath.normpath(pattern) if pattern else ".")
        kind = self.reader.kind(path)
        if kind is None:
            raise CopyRefused(f"source {printable(pattern)} does not exist")
        if kind is Kind.FILE:
            self._copy_single_file(path)
        elif self.operation.strategy == EXTRACT:
            raise CopyRefused(f"extract strategy is not supported for directories, got {printable(pattern)}")
        else:
            self._copy_directory(path, (*self.target, *path[-1:]), base=path)

    # -- what a pattern names ------------------------------------------------------------------------------------

    def _copy_matches(self, pattern: str) -> None:
        deep = self.operation.strategy == EXTRACT
        found = matching_deeply(pattern, self.reader) if deep else matching_level_by_level(pattern, self.reader)
        if not found:
            raise CopyRefused(f"no files match pattern {printable(pattern)}")
        base = literal_prefix(pattern)
        wanted = [(path, kind) for path, kind in found if path and not self.exclusions.exclude(path, base)]
        if not wanted:
            raise CopyRefused(f"all files matching pattern {printable(pattern)} were excluded")
        for path, kind in wanted:
            if deep:
                if _is_tarball(path):
                    self._extract(path)
            elif kind is Kind.DIRECTORY:
                self._copy_directory(path, (*self.target, *_below(pattern, path)), base=base)
            else:
                self._copy_file(path, (*self.target, *_below(pattern, path)))

    # -- what a path names ---------------------------------------------------------------------------------------

    def _copy_single_file(self, path: Segments) -> None:
        if self.exclusions.exclude(path):
            return
        if self.operation.strategy == EXTRACT:
            if not _is_tarball(path):
                text = f"extract strategy requires tarball file (.tar.gz or .tgz), got {printable('/'.join(path))}"
                raise CopyRefused(text)
            self._extract(path)
            return
        into = self.operation.to.endswith("/") or self.staged.kind(self.target) is Kind.DIRECTORY
        self._copy_file(path, (*self.target, path[-1]) if into else self.target)

    def _copy_directory(self, path: Segments, target: Segments, *, base: Segments) -> None:
        """The directory and what is below it. Files are never merged here, as upstream."""
        self.writer.directory("/".join(target))
        for name, kind in self.reader.children(path):
            below = (*path, name)
            if self.exclusions.exclude(below, base):
                continue
            if kind is Kind.DIRECTORY:
                self._copy_directory(below, (*target, name), base=base)
            else:
                self._write(below, (*target, name))

    def _copy_file(self, path: Segments, target: Segments) -> None:
        if self.operation.strategy == MERGE and self.staged.kind(target) is not None:
            self.mergings.append(Merging(self.source, path, target))
        else:
            self._write(path, target)

    def _write(self, path: Segments, target: Segments) -> None:
        with self.reader.open(path) as file:
            executable = bool(os.fstat(file.fileno()).st_mode & 0o111)
            self.writer.file("/".join(target), chunks(file), executable=executable)

    def _extract(self, path: Segments) -> None:
        self.writer.directory("/".join(self.target))
        with self.reader.open(path) as file:
            unpacked = unpack(file, self.staging.joinpath(*self.target), self._limits_left(), links=False)
        self.writer.entries += unpacked.entries
        self.writer.size += unpacked.size

    def _limits_left(self) -> UnpackLimits:
        """Many tarballs together stay within the limits of one output."""
        limits = self.writer.limits
        return replace(
            limits,
            files=max(0, limits.files - self.writer.entries),
            total_bytes=max(0, min(EXTRACTED_BYTES, limits.total_bytes - self.writer.size)),
        )


def _destination(to: str) -> Segments:
    """The segments of `@artifact/path`. Raises CopyRefused, and PathRefused for a path that leads out."""
    if not to.startswith("@artifact/"):
        raise CopyRefused(f"invalid copy destination {printable(to)}: it must start with '@artifact/'")
    path = to.removeprefix("@artifact/")
    return safe_segments(posixpath.normpath(path) if path else ".")


def _below(pattern: str, path: Segments) -> Segments:
    """Where a match goes: `dir/**` drops the directory, every other pattern keeps the whole path."""
    prefix = tuple(pattern.removesuffix("/**").split("/")) if pattern.endswith("/**") else ()
    return path[len(prefix) :] if prefix and len(path) > len(prefix) and path[: len(prefix)] == prefix else path


def _is_tarball(path: Segments) -> bool:
    return path[-1].lower().endswith(_TARBALLS)
