"""Semver tags, sorted by the library that Flux uses (SRC-GIT-04..06); it lives in the toolbox."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.source.git.refs import MatchVersions
from headrace.toolbox import Toolbox
from headrace.toolbox.errors import ToolboxError


def toolbox_versions(toolbox: Toolbox) -> MatchVersions:
    """Those of the tags in a range, the highest first; raises ValueError for a range that is none."""

    async def match_versions(wanted_range: str, tags: Sequence[str]) -> list[str]:
        try:
            match = await toolbox.semver(wanted_range, tags, strict_parts=True)
        except ToolboxError as error:
            if error.code != "InvalidArgument":
                raise
            raise ValueError(f"semver parse error: {error.message}") from error
        return list(match.sorted)

    return match_versions
