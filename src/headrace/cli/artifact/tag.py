"""`headrace tag artifact`: further tags for an artifact."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.cli.artifact.registries import Login, connected, parse_artifact
from headrace.cli.exits import OK, USAGE, CommandError
from headrace.cli.output import action, success
from headrace.source.oci.reference import ReferenceRefused, check_tag


async def tag(url: str, tags: Sequence[str], login: Login) -> int:
    """Give what the URL names each of the tags. Raises CommandError."""
    repository, reference = parse_artifact(url)
    if not tags:
        raise CommandError("--tag is required", USAGE)
    try:
        wanted = [check_tag(one) for one in tags]
    except ReferenceRefused as error:
        raise CommandError(str(error), USAGE) from None
    async with connected(repository, login) as remote:
        action("tagging artifact")
        # all from one digest: the tag that was named may move meanwhile, or be one of those that are given
        found = await remote.registry.resolve(repository, reference, remote.access, timeout=remote.timeout)
        for one in wanted:
            await remote.registry.tag(repository, found.digest, one, remote.access, timeout=remote.timeout)
            success(f"artifact tagged as {repository.named(one)}")
    return OK
