"""Versions in a range, sorted by the library that Flux uses; it lives in the toolbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from headrace.toolbox import Toolbox
from headrace.toolbox.errors import ToolboxError

MatchVersions = Callable[[str, Sequence[str]], Awaitable[list[str]]]
"""Those of the versions in a range, the highest first, equal ones in the order given. Raises ValueError for what is no
range."""


async def in_range(
    toolbox: Toolbox, wanted: str, versions: Sequence[str], *, pattern: str = "", strict_parts: bool = False
) -> list[str]:
    """Those of the versions in a range, the highest first; what else is asked for is said at `Toolbox.semver`.

    Raises ValueError for what is no range, or no regular expression.
    """
    try:
        match = await toolbox.semver(wanted, versions, pattern=pattern, strict_parts=strict_parts)
    except ToolboxError as error:
        if error.code != "InvalidArgument":
            raise
        raise ValueError(error.message) from error
    return list(match.sorted)
