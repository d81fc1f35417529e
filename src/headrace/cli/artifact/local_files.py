"""What of this machine becomes an artifact: a directory without what is ignored, one file, or standard input."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from headrace.cli.exits import FAILED, USAGE, CommandError
from headrace.source.ignore import Ignore

STDIN = Path("-")
STDIN_NAME = "manifests.yaml"
"""The name that standard input gets in the artifact: always the same, so that the same input is the same artifact."""
IGNORED = (
    ".git/", ".git", ".gitignore", ".gitmodules", ".gitattributes",
    "*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip",
)  # fmt: skip
"""What is left out unless `--ignore-paths` says else, as in flux."""

_Excludes = Callable[[tuple[str, ...], bool], bool]


@contextlib.contextmanager
def staged(path: Path, ignore: Sequence[str], *, resolve_links: bool = False) -> Iterator[Path]:
    """A directory with what becomes the artifact, gone when the context is left.

    Symbolic links are left out, or with `resolve_links` replaced by what they lead to, wherever that is. Raises
    CommandError.
    """
    with TemporaryDirectory(prefix="headrace-") as folder:
        target = Path(folder)
        try:
            _stage(path, target, ignore, resolve_links)
        except OSError as error:
            raise CommandError(f"'{error.filename or path}' cannot be read: {error.strerror}", FAILED) from None
        yield target


def _stage(path: Path, target: Path, ignore: Sequence[str], resolve_links: bool) -> None:
    if path == STDIN:
        with (target / STDIN_NAME).open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    elif path.is_dir():
        rules = Ignore([], "\n".join(ignore), defaults=False)
        _Copy(rules.excludes, resolve_links).directory(path, target, (), ())
    elif path.is_file():
        _copy_file(path, target / path.name)
    else:
        raise CommandError(f"invalid path '{path}', must point to an existing directory or file", USAGE)


class _Copy:
    """Copies a tree without what is excluded. What a later rule takes in again below an excluded directory is kept."""

    def __init__(self, excludes: _Excludes, resolve_links: bool) -> None:
        self._excludes = excludes
        self._resolve = resolve_links

    def directory(self, source: Path, target: Path, inner: tuple[str, ...], above: tuple[tuple[int, int], ...]) -> None:
        """`inner` is where the directory stands in the tree, `above` are the directories that it is in."""
        status = source.stat()
        own = status.st_dev, status.st_ino
        if own in above:
            raise CommandError(f"symbolic link '{source}' leads to a directory that it is in", FAILED)
        with os.scandir(source) as found:
            children = list(found)
        for child in children:
            name = (*inner, child.name)
            if child.is_dir(follow_symlinks=self._resolve):
                if not self._excludes(name, True):
                    (target / child.name).mkdir(parents=True, exist_ok=True)
                self.directory(source / child.name, target / child.name, name, (*above, own))
            elif child.is_file(follow_symlinks=self._resolve):
                self._file(Path(child.path), target / child.name, name)
            elif self._resolve and child.is_symlink() and not self._excludes(name, False):
                raise CommandError(f"symbolic link '{child.path}' leads nowhere", FAILED)

    def _file(self, source: Path, target: Path, inner: tuple[str, ...]) -> None:
        if not self._excludes(inner, False):
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(source, target)


def _copy_file(source: Path, target: Path) -> None:
    """The bytes, and whether it may be executed: the only thing of its mode that artifacts keep."""
    shutil.copyfile(source, target)
    target.chmod(0o700 if source.stat().st_mode & 0o111 else 0o600)
