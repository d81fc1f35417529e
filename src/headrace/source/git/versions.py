"""Tags in a semver range (SRC-GIT-04..06)."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.source.versions import MatchVersions, in_range
from headrace.toolbox import Toolbox


def toolbox_versions(toolbox: Toolbox) -> MatchVersions:
    """Tags of three parts; what is no range is said in the words of Flux."""

    async def match_versions(wanted_range: str, tags: Sequence[str]) -> list[str]:
        try:
            return await in_range(toolbox, wanted_range, tags, strict_parts=True)
        except ValueError as error:
            raise ValueError(f"semver parse error: {error}") from error

    return match_versions
