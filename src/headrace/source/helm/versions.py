"""Which version of a chart is wanted: the very text first, then the best in a range (SRC-HCH-01).

Ranges are matched by the library that Helm uses, in the toolbox. Versions that differ only in their metadata are equal
to it; among them the one that was made last is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.core.clock import parse_rfc3339
from headrace.source.helm import semver
from headrace.source.helm.entry import Located
from headrace.source.versions import MatchVersions

ANY = "*"


class NoSuchVersion(LookupError):
    """There is no such version, or no such chart. The message is for users."""


async def choose(chart: str, wanted: str, versions: Sequence[Located], match: MatchVersions) -> Located:
    """The version of an index that `wanted` means. Raises NoSuchVersion, ValueError for what is no range."""
    if not versions:
        raise NoSuchVersion("no chart version found")
    exact = next((one for one in versions if wanted and one.version == wanted), None)
    if exact is not None:
        return exact
    newest_first = sorted((one for one in versions if semver.is_exact(one.version)), key=_made, reverse=True)
    found = await match(wanted or ANY, [one.version for one in newest_first])
    if not found:
        raise NoSuchVersion(f"no '{chart}' chart with version matching '{wanted}' found")
    return next(one for one in newest_first if one.version == found[0])


def _made(located: Located) -> float:
    try:
        return parse_rfc3339(located.created)
    except ValueError:
        return float("-inf")
