"""`headrace trace`: from a delivered object back to what delivers it, and to the revision of the source.

Read from the owner labels of the object, and from what the Kustomization and its source say; as `flux trace` prints it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.api.kinds import KINDS, KUSTOMIZATION
from headrace.api.kustomization import OWNER_NAME, OWNER_NAMESPACE
from headrace.api.meta import SOURCE_GROUP
from headrace.cli.connect import Connection, Target, connect
from headrace.cli.exits import NOT_FOUND, OK, CommandError
from headrace.cli.explain.command import resolve
from headrace.cli.output import say
from headrace.cli.view import FluxObject, inventory_reference, view
from headrace.kube.errors import NotFound
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

Block = list[tuple[str, str]]

_REFS = {"branch": "Branch", "tag": "Tag", "semver": "Tag", "commit": "Commit", "name": "Ref", "digest": "Digest"}


async def trace(target: Target, words: Sequence[str]) -> int:
    """Print the way of an object. Raises CommandError(NOT_FOUND) for one that is not there, or not delivered."""
    async with connect(target) as connection:
        reference = await resolve(connection, target.namespace, words)
        live = await connection.find(reference)
        if live is None:
            raise CommandError(f"{reference} not found", NOT_FOUND)
        blocks = await _blocks(connection, live)
    say("\n---\n".join(_text(block) for block in blocks))
    return OK


async def _blocks(connection: Connection, live: LiveObject) -> list[Block]:
    """The object, the Kustomization that owns it, and the source that this delivers from."""
    namespace, name = live.metadata.label(OWNER_NAMESPACE), live.metadata.label(OWNER_NAME)
    if not name:
        raise CommandError(f"{live.reference} is not delivered: it carries no labels of a Kustomization", NOT_FOUND)
    try:
        delivering = await connection.get(KUSTOMIZATION, namespace, name)
    except NotFound:
        text = f"{live.reference} belongs to Kustomization/{namespace}/{name}, which is not there"
        raise CommandError(text, NOT_FOUND) from None
    owner = view(delivering)
    blocks = [_object(live, owner), _kustomization(delivering, owner)]
    source = owner.source(SOURCE_GROUP)
    if source is not None:
        blocks.append(await _source(connection, source))
    return blocks


def _object(live: LiveObject, owner: FluxObject) -> Block:
    listed = live.reference in {inventory_reference(entry) for entry in owner.inventory}
    status = "Managed by Flux" if listed else "Labelled, and in no inventory: it is kept and delivered no more"
    return _known([
        ("Object", f"{live.reference.kind}/{live.reference.name}"),
        ("Namespace", live.reference.namespace),
        ("Status", status),
    ])  # fmt: skip


def _kustomization(live: LiveObject, obj: FluxObject) -> Block:
    spec = live.content().get("spec") or {}
    return _known([
        ("Kustomization", obj.metadata.name),
        ("Namespace", obj.metadata.namespace),
        ("Target", str(spec.get("targetNamespace") or "")),
        ("Path", obj.spec.path),
        ("Revision", obj.revision),
        *_state(obj),
    ])  # fmt: skip


async def _source(connection: Connection, reference: Reference) -> Block:
    info = KINDS.get(reference.group_kind)
    named = [(reference.kind, reference.name), ("Namespace", reference.namespace)]
    if info is None:
        return _known([*named, ("Status", "of a kind that is not served here")])
    try:
        live = await connection.get(info, reference.namespace, reference.name)
    except NotFound:
        return _known([*named, ("Status", "not found")])
    obj, spec = view(live), live.content().get("spec") or {}
    wanted: dict[str, Any] = spec.get("ref") or {}
    refs = [(title, str(wanted[key])) for key, title in _REFS.items() if wanted.get(key)]
    origin = obj.status.artifact.origin_revision if obj.status.artifact is not None else ""
    return _known([
        *named, ("URL", obj.spec.url), ("Bucket", str(spec.get("bucketName") or "")), *refs,
        ("Revision", obj.revision), ("Origin Revision", origin), *_state(obj),
    ])  # fmt: skip


def _state(obj: FluxObject) -> Block:
    if obj.suspended:
        return [("Status", "Suspended")]
    ready = obj.ready
    if ready is None:
        return [("Status", "Unknown")]
    said = "Last reconciled at" if ready.status == "True" else "Last reconciliation failed at"
    return [("Status", f"{said} {ready.last_transition_time}"), ("Message", ready.message)]


def _known(block: Block) -> Block:
    return [(title, value) for title, value in block if value]


def _text(block: Block) -> str:
    width = max(len(title) for title, _ in block) + 1
    return "\n".join(f"{title + ':':<{max(width, 16)}} {value}" for title, value in block)
