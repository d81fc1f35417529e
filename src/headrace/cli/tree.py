"""`headrace tree`: what a Kustomization has applied, down through the Kustomizations among it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.api.kinds import KINDS, KUSTOMIZATION
from headrace.cli import kinds
from headrace.cli.connect import Connection, Target, connect
from headrace.cli.exits import OK
from headrace.cli.output import Format, dump, say
from headrace.cli.view import inventory_reference, view
from headrace.kube.errors import NotFound
from headrace.model.reference import Reference


class Node(msgspec.Struct, frozen=True):
    """An object and what it has applied. `ready` is empty for objects that are not ours."""

    reference: Reference
    ready: str = ""
    children: tuple[Node, ...] = ()


async def tree(target: Target, words: Sequence[str], form: Format) -> int:
    """Print the tree below one object. Raises CommandError(NOT_FOUND)."""
    wanted = kinds.parse_target(words)
    async with connect(target) as connection:
        await connection.get(wanted.info, target.namespace, wanted.name)
        root = await build(connection, wanted.info.reference(target.namespace, wanted.name))
    say("\n".join(lines(root)) if form is Format.TABLE else dump(encode(root), form))
    return OK


async def build(connection: Connection, reference: Reference, above: frozenset[Reference] = frozenset()) -> Node:
    """The node of an object. One that stands above itself is not entered again."""
    info = KINDS.get(reference.group_kind)
    if info is None or reference in above:
        return Node(reference)
    try:
        obj = view(await connection.get(info, reference.namespace, reference.name))
    except NotFound:
        return Node(reference, "Missing")
    if info is not KUSTOMIZATION or obj.spec.kube_config is not None:
        children = [Node(inventory_reference(entry)) for entry in obj.inventory]
    else:
        inside = above | {reference}
        children = [await build(connection, inventory_reference(e), inside) for e in sorted(obj.inventory)]
    return Node(reference, obj.ready_status, tuple(children))


def lines(node: Node) -> list[str]:
    """The tree as text, drawn as `flux tree` does."""
    return [str(node.reference), *_branches(node, "")]


def _branches(node: Node, indent: str) -> list[str]:
    out: list[str] = []
    for number, child in enumerate(node.children, start=1):
        last = number == len(node.children)
        out.append(f"{indent}{'└── ' if last else '├── '}{child.reference}")
        out.extend(_branches(child, indent + ("    " if last else "│   ")))
    return out


def encode(node: Node) -> dict[str, Any]:
    """The tree as data."""
    ref = node.reference
    encoded: dict[str, Any] = {"group": ref.group, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}
    if node.ready:
        encoded["ready"] = node.ready
    return {**encoded, "resources": [encode(child) for child in node.children]} if node.children else encoded
