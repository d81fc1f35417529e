"""Which tag is the highest version in a range (SRC-OCI-03..05, SRC-OCI-13)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from headrace.source.oci.errors import OciError
from headrace.source.versions import in_range
from headrace.toolbox import Toolbox

MatchTags = Callable[[str, Sequence[str], str], Awaitable[Sequence[str]]]
"""(range, tags, filter) -> those in the range that the regular expression matches, the highest first. Raises
OciError for a range or an expression that is none."""


def toolbox_tags(toolbox: Toolbox) -> MatchTags:
    """By the libraries that Flux uses; Go's regular expressions take time in proportion to the text (SEC-43)."""

    async def match_tags(wanted: str, tags: Sequence[str], pattern: str) -> Sequence[str]:
        try:
            return await in_range(toolbox, wanted, tags, pattern=pattern)
        except ValueError as error:
            raise OciError(str(error)) from error

    return match_tags


async def highest(match: MatchTags, wanted: str, tags: Sequence[str], pattern: str, *, is_chart: bool) -> str:
    """The tag of the highest version. Charts write the `+` of versions as `_`. Raises OciError without one."""
    written = {tag.replace("_", "+"): tag for tag in tags} if is_chart else {tag: tag for tag in tags}
    found = await match(wanted, list(written), pattern)
    if not found:
        raise OciError(f"no match found for semver: {wanted}")
    return written[found[0]]
