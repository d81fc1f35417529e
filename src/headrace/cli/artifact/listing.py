"""`headrace list artifacts`: the tags of a repository, with where their content comes from."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.cli.artifact.registries import Login, Remote, connected, parse_untagged, shown
from headrace.cli.exits import OK, USAGE, CommandError
from headrace.cli.output import Format, dump, say, table
from headrace.source.oci.manifest import REVISION, SOURCE
from headrace.source.oci.versions import toolbox_tags
from headrace.toolbox import Toolbox

HEADER = ("ARTIFACT", "DIGEST", "SOURCE", "REVISION")
_AT_ONCE = 8
_BELONGING = re.compile(r".*\.(?:att|sbom|sig)|sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128}")
"""Tags of what belongs to an artifact: signatures, attestations, and the index of those."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A tag, and the artifact behind it."""

    artifact: str
    digest: str
    source: str
    revision: str


async def list_artifacts(url: str, semver: str, regex: str, form: Format, login: Login) -> int:
    """Print the tags, the last in lexical order first. Raises CommandError."""
    repository = parse_untagged(url)
    expression = _compiled(regex)
    async with connected(repository, login) as remote:
        tags = await remote.registry.tags(repository, remote.access, timeout=remote.timeout)
        found = await _described(remote, await chosen(tags, semver, expression))
    if form is Format.TABLE:
        say(table(HEADER, [[shown(t) for t in (one.artifact, one.digest, one.source, one.revision)] for one in found]))
    else:
        told = [{name.lower(): getattr(one, name.lower()) for name in HEADER} for one in found]
        say(dump(told, form))
    return OK


def _compiled(regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except re.error as error:
        raise CommandError(f"regex '{regex}' parse error: {error}", USAGE) from None


async def chosen(tags: Sequence[str], semver: str, expression: re.Pattern[str]) -> list[str]:
    """Those that the filters let through, in descending order. Raises OciError for a range that is none."""
    found = sorted((tag for tag in tags if expression.search(tag) and not _BELONGING.fullmatch(tag)), reverse=True)
    if not semver:
        return found
    async with Toolbox(size=1) as toolbox:
        matching = frozenset(await toolbox_tags(toolbox)(semver, found, ""))
    return [tag for tag in found if tag in matching]


async def _described(remote: Remote, tags: Sequence[str]) -> list[Listed]:
    free = asyncio.Semaphore(_AT_ONCE)

    async def describe(tag: str) -> Listed:
        async with free:
            content = await remote.registry.manifest(remote.repository, tag, remote.access, timeout=remote.timeout)
        annotations = (content.index() if content.is_index else content.manifest()).annotations or {}
        named = remote.repository.named(tag)
        return Listed(named, content.descriptor.digest, annotations.get(SOURCE, ""), annotations.get(REVISION, ""))

    return await asyncio.gather(*map(describe, tags))
