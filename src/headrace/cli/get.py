"""`headrace get`: objects of our kinds, in the columns of `flux get`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from headrace.api.kinds import KindInfo
from headrace.cli import kinds
from headrace.cli.connect import Connection, Target, connect
from headrace.cli.exits import NOT_FOUND, OK, CommandError
from headrace.cli.output import Format, dump, say, table
from headrace.cli.view import FluxObject, shorten, view
from headrace.model.objects import LiveObject


async def get(target: Target, words: Sequence[str], form: Format) -> int:
    """Print the objects that `words` name. Raises CommandError(NOT_FOUND) for a name that does not exist."""
    targets = kinds.parse_targets(words)
    async with connect(target) as connection:
        found = await asyncio.gather(*(_fetch(connection, target.namespace, wanted) for wanted in targets))
    say(_render(target, list(zip(targets, found, strict=True)), form))
    return OK


async def _fetch(connection: Connection, namespace: str, wanted: kinds.Target) -> tuple[LiveObject, ...]:
    if not wanted.name:
        return await connection.list(wanted.info, namespace)
    if namespace:
        return (await connection.get(wanted.info, namespace, wanted.name),)
    named = tuple(o for o in await connection.list(wanted.info, "") if o.reference.name == wanted.name)
    if not named:
        raise CommandError(f"no {wanted.info.singular} '{wanted.name}' in any namespace", NOT_FOUND)
    return named


def _render(target: Target, found: list[tuple[kinds.Target, tuple[LiveObject, ...]]], form: Format) -> str:
    if form is not Format.TABLE:
        items = [_content(live) for _, lives in found for live in lives]
        single = len(found) == 1 and found[0][0].name and len(items) == 1
        return dump(items[0] if single else {"apiVersion": "v1", "kind": "List", "items": items}, form)
    several = len({wanted.info.kind for wanted, _ in found}) > 1
    blocks = [
        object_table(wanted.info, [view(live) for live in lives], all_namespaces=not target.namespace, prefix=several)
        for wanted, lives in _grouped(found)
        if lives
    ]
    where = f"{target.namespace} namespace" if target.namespace else "any namespace"
    return "\n\n".join(blocks) or f"no objects found in {where}"


def _content(live: LiveObject) -> dict[str, Any]:
    """The object with its kind, which those of a list may lack."""
    return {"apiVersion": live.api_version, "kind": live.reference.kind, **live.content()}


def _grouped(
    found: list[tuple[kinds.Target, tuple[LiveObject, ...]]],
) -> list[tuple[kinds.Target, tuple[LiveObject, ...]]]:
    """One block for each kind, in the order in which the kinds came."""
    blocks: dict[str, tuple[kinds.Target, tuple[LiveObject, ...]]] = {}
    for wanted, lives in found:
        first, earlier = blocks.get(wanted.info.kind, (wanted, ()))
        blocks[wanted.info.kind] = (first, earlier + lives)
    return list(blocks.values())


def object_table(info: KindInfo[Any], objects: Sequence[FluxObject], *, all_namespaces: bool, prefix: bool) -> str:
    """NAME, REVISION, SUSPENDED, READY, MESSAGE; NAMESPACE in front for all of them. `prefix` puts the kind before
    the name."""
    header = ["NAME", "REVISION", "SUSPENDED", "READY", "MESSAGE"]
    rows = []
    for obj in objects:
        name = f"{info.singular}/{obj.metadata.name}" if prefix else obj.metadata.name
        row = [name, shorten(obj.revision), str(obj.suspended), obj.ready_status, shorten(obj.message)]
        rows.append([obj.metadata.namespace, *row] if all_namespaces else row)
    return table(["NAMESPACE", *header] if all_namespaces else header, rows)
