"""From a commit in a mirror to files in a directory: read object by object, written by core.unpack.

git itself never writes the files, so no hook, filter, attribute or link of the repository has any effect (SEC-08).
Symbolic links are left out, as upstream does (SRC-ART-03); a submodule is an empty
directory, which is filled like an inclusion where submodules are wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headrace.core.limits import MIB, UNPACK, UnpackLimits
from headrace.core.paths import PathRefused, printable
from headrace.core.sandbox import SandboxError
from headrace.core.unpack import ArchiveRefused, TreeWriter
from headrace.source.git.errors import GitError
from headrace.source.git.inclusion import Inclusion, ignore_files_of, planned, write_copies
from headrace.source.git.program import git, git_into
from headrace.source.ignore import IGNORE_FILE, Ignore

_CHUNK = 256 * 1024
_SYMLINK, _EXECUTABLE = "120000", "100755"
_EVERYTHING = Ignore((), "!*")
"""Takes in again whatever the defaults leave out."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of a commit are wanted: `spec.ignore`, `spec.sparseCheckout` and `spec.recurseSubmodules`.

    `everything` is for submodules: what is left out of them is decided by the commit that holds them.
    """

    ignore: str | None = None
    sparse: tuple[str, ...] = ()
    submodules: bool = False
    everything: bool = False

    @property
    def key(self) -> str:
        """Equal for equal selections."""
        return repr((self.ignore, self.sparse, self.submodules))

    def keeps(self, path: str) -> bool:
        """Whether the sparse checkout keeps a path."""
        prefixes = _prefixes(self.sparse)
        return not prefixes or path.startswith(prefixes)


@dataclass(frozen=True, slots=True)
class Commit:
    """What is told of a commit: the first line of its message, and when it was made."""

    id: str
    subject: str
    time: int


@dataclass(frozen=True, slots=True)
class Base:
    """A commit of the same mirror that was checked out with the same selection and nothing included, and where."""

    commit: str
    directory: Path


@dataclass(frozen=True, slots=True)
class _Item:
    mode: str
    kind: str
    oid: str
    size: int
    path: str

    @property
    def is_directory(self) -> bool:
        return self.kind != "blob"

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path.split("/"))


async def read_commit(mirror: Path, commit: str, timeout: float) -> Commit:
    """The commit's message and time. Raises GitError."""
    completed = await git("show", "--no-patch", "--no-show-signature", "--format=%ct %s", commit, "--",
                          cwd=mirror, timeout=timeout)  # fmt: skip
    time, _, subject = completed.stdout.decode("utf-8", "replace").strip().partition(" ")
    if completed.code != 0 or not time.isdigit():
        raise GitError(f"unable to read commit '{commit}': {completed.errors[:256]}")
    return Commit(commit, subject, int(time))


async def read_object(mirror: Path, kind: str, oid: str, timeout: float) -> bytes:
    """The bytes of an object, without its header. Raises GitError."""
    read = await git("cat-file", kind, oid, cwd=mirror, timeout=timeout, output_limit=4 * MIB)
    if read.code != 0:
        raise GitError(f"unable to read {kind} '{oid}': {read.errors[:256]}")
    return read.stdout


async def read_links(mirror: Path, commit: str, timeout: float) -> dict[str, str]:
    """The paths at which a commit holds commits of other repositories. Raises GitError."""
    return {item.path: item.oid for item in await _list(mirror, commit, timeout) if item.kind == "commit"}


async def check_out(
    mirror: Path, commit: str, selection: Selection, directory: Path, timeout: float, limits: UnpackLimits = UNPACK,
    *, inclusions: Sequence[Inclusion] = (), base: Base | None = None,
) -> frozenset[str] | None:  # fmt: skip
    """Write the selected files of the commit below `directory`, which exists and is empty, then what is included.

    Files that are the same in `base` become links of its files, which nobody writes to either. Returns the paths that
    differ from the base, None when that cannot be told.

    Raises GitError when the tree holds what is refused or is too large, or a sparse path is missing (SRC-GIT-31);
    CopyFailed; OSError as the file system does.
    """
    try:
        items, changed = await asyncio.gather(
            _list(mirror, commit, timeout), _changed(mirror, base, commit, timeout))
        prefixes = _sparse_prefixes(items, selection.sparse)
        present = {item.segments: item.is_directory for item in items if item.path.startswith(prefixes or "")}
        copies = await asyncio.to_thread(planned, inclusions, present)
        ignore = _EVERYTHING
        if not selection.everything:
            files = await _ignore_files(mirror, items, timeout) + ignore_files_of(copies)
            ignore = Ignore(sorted(files, key=lambda file: file[0]), selection.ignore)
        selected = _select(items, prefixes, ignore)
        _check_amounts(selected, limits)
        if base is not None and changed is not None:
            selected = await asyncio.to_thread(_link, base.directory, changed, selected, directory, limits)
        await _write(mirror, selected, directory, timeout, limits)
        await asyncio.to_thread(write_copies, copies, ignore, directory, limits)
        return changed
    except (SandboxError, ArchiveRefused, PathRefused) as error:
        raise GitError(f"unable to check out commit '{commit}': {error}") from error


async def _list(mirror: Path, commit: str, timeout: float) -> list[_Item]:
    completed = await git("ls-tree", "-r", "-t", "-z", "-l", "--full-tree", commit, cwd=mirror, timeout=timeout)
    if completed.code != 0:
        raise GitError(f"unable to read the tree of commit '{commit}': {completed.errors[:256]}")
    return [_item(record) for record in completed.stdout.split(b"\0") if record]


def _item(record: bytes) -> _Item:
    head, _, path = record.partition(b"\t")
    mode, kind, oid, size = head.decode("ascii").split()
    return _Item(mode, kind, oid, int(size) if size.isdigit() else 0, path.decode("utf-8", "surrogateescape"))


async def _ignore_files(mirror: Path, items: Sequence[_Item], timeout: float) -> list[tuple[tuple[str, ...], str]]:
    """Every `.sourceignore` with its directory, those higher up first."""
    found = [item for item in items if item.segments[-1] == IGNORE_FILE and item.kind == "blob"]
    found = [item for item in found if item.mode != _SYMLINK and ".git" not in item.segments]
    if not found:
        return []
    found.sort(key=lambda item: item.segments[:-1])
    oids = "".join(f"{item.oid}\n" for item in found).encode()
    contents = await git_into("cat-file", "--batch", cwd=mirror, timeout=timeout, stdin=oids,
                              consume=lambda output: [b"".join(_blob(output, item)) for item in found])  # fmt: skip
    return [(item.segments[:-1], text.decode("utf-8", "replace")) for item, text in zip(found, contents, strict=True)]


def _select(items: Sequence[_Item], prefixes: tuple[str, ...], ignore: Ignore) -> list[_Item]:
    return [
        item
        for item in items
        if item.mode != _SYMLINK
        and (not prefixes or item.path.startswith(prefixes))
        and not ignore.excludes(item.segments, item.is_directory)
    ]


def _sparse_prefixes(items: Sequence[_Item], sparse: Sequence[str]) -> tuple[str, ...]:
    """The paths as plain prefixes, as upstream reads them (SRC-GIT-30)."""
    prefixes = _prefixes(sparse)
    known = {item.path for item in items}
    for prefix in prefixes:
        if prefix not in known:
            raise GitError(f"failed to sparse checkout path {printable(prefix)}: no such file or directory")
    return prefixes


def _prefixes(sparse: Sequence[str]) -> tuple[str, ...]:
    prefixes = tuple(path.removeprefix("./").rstrip("/") for path in sparse)
    return () if "" in prefixes or "." in prefixes else prefixes


def _check_amounts(items: Sequence[_Item], limits: UnpackLimits) -> None:
    """Sizes are known before, so too much is refused at once."""
    if sum(item.size for item in items) > limits.total_bytes:
        raise ArchiveRefused(f"more than {limits.total_bytes} bytes when unpacked")
    if len(items) > limits.files:
        raise ArchiveRefused(f"more than {limits.files} files and directories")


async def _changed(mirror: Path, base: Base | None, commit: str, timeout: float) -> frozenset[str] | None:
    """The paths at which the commit differs from the base; None when that cannot be told."""
    if base is None:
        return None
    told = await git("diff-tree", "-r", "-z", "--name-only", "--no-renames", base.commit, commit, "--",
                     cwd=mirror, timeout=timeout)  # fmt: skip
    if told.code != 0:
        return None
    return frozenset(name.decode("utf-8", "surrogateescape") for name in told.stdout.split(b"\0") if name)


def _link(
    base: Path, changed: frozenset[str], items: Sequence[_Item], directory: Path, limits: UnpackLimits
) -> list[_Item]:
    """Link the files that the base has; what is left is to be written, the directories above it included."""
    left: list[_Item] = []
    with TreeWriter(directory, limits) as writer:
        for item in items:
            if item.is_directory:
                writer.directory(item.path)
            elif item.path in changed:
                left.append(item)
            else:
                try:
                    writer.link(item.path, base / item.path, item.size)
                except OSError:
                    left.append(item)
    return left


async def _write(
    mirror: Path, items: Sequence[_Item], directory: Path, timeout: float, limits: UnpackLimits
) -> None:
    """Directories and files in the order of the tree."""
    blobs = [item for item in items if not item.is_directory]
    if not items:
        return

    def consume(output: BinaryIO) -> None:
        with TreeWriter(directory, limits) as writer:
            for item in items:
                if item.is_directory:
                    writer.directory(item.path)
                else:
                    writer.file(item.path, _blob(output, item), executable=item.mode == _EXECUTABLE)

    oids = "".join(f"{item.oid}\n" for item in blobs).encode()
    await git_into("cat-file", "--batch", cwd=mirror, timeout=timeout, stdin=oids, consume=consume)


def _blob(output: BinaryIO, item: _Item) -> Iterator[bytes]:
    """The next object of `cat-file --batch`: a line that names it, its bytes, a newline."""
    header = output.readline(256)
    if header != f"{item.oid} blob {item.size}\n".encode():
        if not header:
            raise EOFError
        raise GitError(f"the mirror does not hold {printable(item.path)}")
    left = item.size
    while left:
        data = output.read(min(left, _CHUNK))
        if not data:
            raise EOFError
        left -= len(data)
        yield data
    output.read(1)
