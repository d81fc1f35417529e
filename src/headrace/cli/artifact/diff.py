"""`headrace diff artifact`: what pushing local files would change in an artifact, file by file.

Files are compared, not archives: the same files packed by another program differ in nothing that matters. Exit codes
are those of `headrace diff kustomization`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from headrace.cli.artifact.file_diff import file_changes
from headrace.cli.artifact.local_files import STDIN, staged
from headrace.cli.artifact.registries import Login, connected, parse_artifact
from headrace.cli.exits import FAILED, OK, USAGE, CommandError
from headrace.cli.output import say, success

DIFFERS = 1
ERROR = USAGE
"""2, so that a script can tell it from a difference."""


async def diff_artifact(url: str, path: Path | None, ignore: Sequence[str], login: Login) -> int:
    """Print what differs. Raises CommandError with a code above 1."""
    if path is None or path == STDIN:
        raise CommandError("--path is required, and must be a directory or a file", USAGE)
    try:
        changes = await _changes(url, path, ignore, login)
    except CommandError as error:
        raise CommandError(error.message, ERROR if error.code == FAILED else error.code) from None
    if changes:
        say("\n".join(changes))
        return DIFFERS
    success("no changes detected")
    return OK


async def _changes(url: str, path: Path, ignore: Sequence[str], login: Login) -> list[str]:
    repository, reference = parse_artifact(url)
    with staged(path, ignore) as local, TemporaryDirectory(prefix="headrace-") as folder:
        async with connected(repository, login) as remote:
            await remote.extract(await remote.artifact(reference), Path(folder))
        return await asyncio.to_thread(file_changes, Path(folder), local)
