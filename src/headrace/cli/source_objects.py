"""`headrace create source` and `headrace export source`: sources as YAML, in the form of the flux command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headrace.api.kinds import KINDS, KindInfo
from headrace.api.meta import SOURCE_GROUP
from headrace.cli import kinds
from headrace.cli.connect import FIELD_MANAGER, Connection, Target, connect, resource_of
from headrace.cli.exits import FAILED, NOT_FOUND, OK, TIMED_OUT, USAGE, CommandError
from headrace.cli.output import action, failure, say, success, waiting
from headrace.cli.reconcile import settled, until
from headrace.cli.view import view
from headrace.core.duration import format_duration, parse_duration
from headrace.kube.errors import NotFound
from headrace.model.objects import LiveObject

WORDS = {"git": "GitRepository", "oci": "OCIRepository", "helm": "HelmRepository", "chart": "HelmChart",
         "bucket": "Bucket"}  # fmt: skip
"""The words of `source WORD`, by which flux calls the kinds."""

Json = dict[str, Any]


def kind_of(word: str) -> KindInfo[Any]:
    """The kind of `source WORD`. Raises CommandError(USAGE)."""
    info = KINDS.get((SOURCE_GROUP, WORDS.get(word, "")))
    if info is None:
        raise CommandError(f"unknown source kind '{word}', want one of {', '.join(WORDS)}", USAGE)
    return info


def source_object(
    info: KindInfo[Any], namespace: str, name: str, spec: Mapping[str, Any], labels: Mapping[str, str]
) -> Json:
    """A source as it is applied and exported: fields that say nothing are left out, the rest is in order of name.

    Raises CommandError(USAGE) for what the kind requires and is missing, and for a duration that is none.
    """
    given = _ordered({**spec, "interval": _interval(spec["interval"])})
    metadata: Json = {"labels": _ordered(labels)} if labels else {}
    metadata |= {"name": name, "namespace": namespace}
    content = {"apiVersion": info.api_version, "kind": info.kind, "metadata": metadata, "spec": given}
    try:
        msgspec.convert(content, info.type)
    except msgspec.ValidationError as error:
        raise CommandError(f"{info.singular}: {error}", USAGE) from None
    return content


def _interval(text: str) -> str:
    try:
        return format_duration(parse_duration(text))
    except ValueError as error:
        raise CommandError(f"--interval: {error}", USAGE) from None


def _ordered(content: Mapping[str, Any]) -> Json:
    """Without what is empty, by name, as Go's encoder has it."""
    inner = {key: _ordered(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    return {key: inner[key] for key in sorted(inner) if inner[key] not in ("", None, False, {}, (), [])}


def text_of(objects: Sequence[Json]) -> str:
    """Documents of YAML, each begun by its separator."""
    import yaml

    class Literal(yaml.SafeDumper):
        """Several lines as several lines."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Literal.add_representer(str, text)
    written = (yaml.dump(content, Dumper=Literal, sort_keys=False, width=2**31) for content in objects)
    return "\n".join("---\n" + document.rstrip("\n") for document in written)


async def create(target: Target, info: KindInfo[Any], content: Json, *, export: bool, timeout: float) -> int:
    """Print the object, or apply it and wait until it is Ready. Returns FAILED when it fails."""
    if export:
        say(text_of([content]))
        return OK
    name, namespace = content["metadata"]["name"], content["metadata"]["namespace"]
    async with connect(target) as connection:
        action(f"applying {info.kind} source")
        await connection.client.apply(
            resource_of(info), namespace, name, msgspec.json.encode(content), field_manager=FIELD_MANAGER
        )
        success(f"{info.kind} source applied")
        return await _until_ready(connection, info, namespace, name, timeout)


async def _until_ready(connection: Connection, info: KindInfo[Any], namespace: str, name: str, timeout: float) -> int:
    import asyncio

    waiting(f"waiting for {info.kind} source reconciliation")
    try:
        async with asyncio.timeout(timeout):
            obj = await until(connection, info, namespace, name, settled)
    except TimeoutError:
        raise CommandError(f"{info.kind} source is not ready in time", TIMED_OUT) from None
    if obj.ready_status != "True":
        failure(f"{info.kind} source reconciliation failed: {obj.message}")
        return FAILED
    success(f"{info.kind} source reconciliation completed")
    if obj.revision:
        success(f"{kinds.verb_of(info)} revision: {obj.revision}")
    return OK


async def export(target: Target, info: KindInfo[Any], name: str, *, everything: bool) -> int:
    """Print a source, or all of the namespace, without status and what the API server adds.

    Raises CommandError(NOT_FOUND), CommandError(USAGE) without a name and without `everything`.
    """
    if not name and not everything:
        raise CommandError("name is required, or --all", USAGE)
    async with connect(target) as connection:
        found = await _found(connection, info, target.namespace, "" if everything else name)
    say(text_of([exported(info, live) for live in found]))
    return OK


async def _found(connection: Connection, info: KindInfo[Any], namespace: str, name: str) -> Sequence[LiveObject]:
    if name:
        try:
            return [await connection.get(info, namespace, name)]
        except NotFound:
            raise CommandError(f"no {info.singular} '{name}' in {namespace} namespace", NOT_FOUND) from None
    found = await connection.list(info, namespace)
    if not found:
        raise CommandError(f"no {info.singular} found in {namespace} namespace", NOT_FOUND)
    return found


def exported(info: KindInfo[Any], live: LiveObject) -> Json:
    """An object as it would be written by hand."""
    meta = view(live).metadata
    metadata: Json = {"annotations": _ordered(meta.annotations)} if meta.annotations else {}
    metadata |= {"labels": _ordered(meta.labels)} if meta.labels else {}
    metadata |= {"name": meta.name, "namespace": meta.namespace}
    spec = live.content().get("spec") or {}
    return {"apiVersion": info.api_version, "kind": info.kind, "metadata": metadata, "spec": dict(sorted(spec.items()))}
