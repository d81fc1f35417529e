"""`headrace plan kustomization`: what the next delivery would do, object by object and why, as table or data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from headrace.apply.preview import Seen
from headrace.cli.connect import Target
from headrace.cli.diff_text import encode
from headrace.cli.exits import FAILED, OK
from headrace.cli.output import Format, dump, failure, say, table
from headrace.cli.previews import Previewed, previews
from headrace.model.plan import Action

WORDS = {
    Action.CREATED: "create",
    Action.CONFIGURED: "configure",
    Action.UNCHANGED: "unchanged",
    Action.SKIPPED: "skipped",
    Action.DELETED: "prune",
    Action.DEFERRED: Action.DEFERRED.value,
    Action.FAILED: "failed",
}
"""What is said of each object, in the order of the summary."""


async def plan(target: Target, name: str, path: Path | None, file: Path | None, form: Format) -> int:
    """Print the plan; FAILED when something of it could not be told. Raises CommandError."""
    async with previews(target) as made:
        previewed = await made.preview(await made.find(name, target.namespace, file), path)
    say(plan_table(previewed) if form is Format.TABLE else dump(encoded(previewed), form))
    for message in (*previewed.notes, *previewed.preview.failures):
        failure(message)
    return FAILED if previewed.preview.failed else OK


def plan_table(previewed: Previewed) -> str:
    """One line for each object, and how many there are of each."""
    objects = previewed.preview.objects
    rows = [[seen.stage, str(seen.reference), WORDS[seen.action], reason(previewed, seen)] for seen in objects]
    told = [table(["STAGE", "OBJECT", "ACTION", "REASON"], rows), summary(objects)]
    return "\n\n".join([*told, previewed.preview.held] if previewed.preview.held else told)


def summary(objects: tuple[Seen, ...]) -> str:
    """`1 create, 3 unchanged`."""
    counted = Counter(seen.action for seen in objects)
    return ", ".join(f"{counted[action]} {word}" for action, word in WORDS.items() if counted[action]) or "no objects"


def reason(previewed: Previewed, seen: Seen) -> str:
    """Why, with the fields that differ and the file."""
    fields = [change.path for change in previewed.fields(seen)]
    more = f", and {len(fields) - 3} more" if len(fields) > 3 else ""
    told = f"{seen.reason}: {', '.join(fields[:3])}{more}" if fields else seen.reason
    return previewed.variables.masked(told)


def encoded(previewed: Previewed) -> dict[str, Any]:
    """The plan as data."""
    objects = previewed.preview.objects
    counted = Counter(WORDS[seen.action] for seen in objects)
    found = {
        "kustomization": {"namespace": previewed.named.ks.metadata.namespace, "name": previewed.named.ks.metadata.name},
        "revision": previewed.revision,
        "summary": dict(sorted(counted.items())),
        "objects": [_encoded(previewed, seen) for seen in objects],
    }
    told = {"failures": list(previewed.preview.failures), "held": previewed.preview.held, "notes": previewed.notes}
    return found | {name: said for name, said in told.items() if said}


def _encoded(previewed: Previewed, seen: Seen) -> dict[str, Any]:
    ref = seen.reference
    found: dict[str, Any] = {
        "group": ref.group, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name, "stage": seen.stage,
        "action": WORDS[seen.action], "reason": previewed.variables.masked(seen.reason),
    }
    if seen.file:
        found["file"] = seen.file
    if fields := previewed.fields(seen):
        found["fields"] = [encode(change) for change in fields]
    return found
