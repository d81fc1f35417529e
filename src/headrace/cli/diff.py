"""`headrace diff kustomization`: what a delivery would change on the cluster, field by field, as `flux diff` prints it.

Exit codes are flux's: 0 nothing differs, 1 something does, more than 1 when that could not be found out.
"""

from __future__ import annotations

from pathlib import Path

from headrace.apply.preview import Seen
from headrace.cli.connect import Target
from headrace.cli.diff_text import report
from headrace.cli.exits import FAILED, OK, USAGE, CommandError
from headrace.cli.output import failure, say
from headrace.cli.previews import Previewed, previews
from headrace.model.plan import Action

DIFFERS = 1
ERROR = USAGE
"""2, as flux has it."""

_WORDS = {Action.CREATED: "created", Action.CONFIGURED: "drifted", Action.DELETED: "deleted",
          Action.DEFERRED: Action.DEFERRED.value}  # fmt: skip


async def diff(target: Target, name: str, path: Path | None, file: Path | None) -> int:
    """Print the differences. Raises CommandError with a code above 1."""
    try:
        async with previews(target) as made:
            previewed = await made.preview(await made.find(name, target.namespace, file), path)
    except CommandError as error:
        raise CommandError(error.message, ERROR if error.code == FAILED else error.code) from None
    lines = text(previewed)
    if lines:
        say("\n".join(lines))
    for message in previewed.notes:
        failure(message)
    for message in previewed.preview.failed:
        failure(previewed.variables.masked(message))
    if previewed.preview.failed:
        return ERROR
    return DIFFERS if lines else OK


def text(previewed: Previewed) -> list[str]:
    """A line for each object that would change, and its fields below; and why nothing is deleted, where it is held."""
    lines = [line for seen in previewed.preview.changes for line in _object(previewed, seen)]
    return [*lines, f"► {previewed.preview.held}"] if previewed.preview.held else lines


def _object(previewed: Previewed, seen: Seen) -> list[str]:
    reason = f" ({seen.reason})" if seen.action is Action.DEFERRED else ""
    lines = [f"► {seen.reference} {_WORDS[seen.action]}{reason}"]
    if seen.action is Action.CONFIGURED:
        lines.append(report(previewed.fields(seen)) or f"\n  {seen.reason}\n")
    return lines
