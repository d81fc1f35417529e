"""Tells when something in a directory was saved: inotify by way of watchfiles, with a debounce."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

_SETTLE_MILLISECONDS = 50
"""How long it must be quiet before a change is told: an editor writes a file in several steps."""
_LONGEST_MILLISECONDS = 400
"""How long a stream of changes may hold that back, so that delivery stays within a second."""


async def saves(directory: Path) -> AsyncIterator[None]:
    """One item each time something below `directory` changed and it is quiet again. Changes in `.git` do not count."""
    from watchfiles import Change, awatch

    def outside_git(_: Change, path: str) -> bool:
        return ".git" not in Path(path).relative_to(directory).parts

    changes = awatch(
        directory,
        watch_filter=outside_git,
        debounce=_LONGEST_MILLISECONDS,
        step=_SETTLE_MILLISECONDS,
        ignore_permission_denied=True,
    )
    async for _ in changes:
        yield None
