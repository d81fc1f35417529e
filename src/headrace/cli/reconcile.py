"""`headrace reconcile`, `suspend`, `resume`: change an object and wait until the engine has dealt with the change.

The lines are those of the flux command line, so that scripts which read them go on working.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson

from headrace.api.artifactgenerator import RECONCILE
from headrace.api.kinds import ARTIFACT_GENERATOR, KINDS, KindInfo
from headrace.api.meta import RECONCILE_REQUEST, SOURCE_GROUP
from headrace.cli import kinds
from headrace.cli.connect import FIELD_MANAGER, Connection, Target, connect, resource_of
from headrace.cli.exits import FAILED, OK, TIMED_OUT, CommandError
from headrace.cli.output import action, failure, success, waiting, warning
from headrace.cli.view import FluxObject, view
from headrace.core.clock import SystemClock, rfc3339_micro
from headrace.core.duration import format_duration
from headrace.model.reference import Reference


async def reconcile(target: Target, words: Sequence[str], *, with_source: bool, timeout: float) -> int:
    """Ask for a run of one object, of its source before if `with_source`, and wait for both.

    Returns FAILED when a run fails or the object is suspended. Raises CommandError(TIMED_OUT) after `timeout` seconds.
    """
    wanted = kinds.parse_target(words)
    async with connect(target) as connection, _deadline(timeout):
        obj = view(await connection.get(wanted.info, target.namespace, wanted.name))
        source = obj.source(SOURCE_GROUP) if with_source else None
        if source is not None and (code := await _reconcile_one(connection, source)) != OK:
            return code
        return await _reconcile_one(connection, obj.reference)


async def suspend(target: Target, words: Sequence[str]) -> int:
    """Set `spec.suspend`. What runs is ended; nothing is deleted."""
    return await _each(target, words, _suspend_one)


async def resume(target: Target, words: Sequence[str], *, timeout: float) -> int:
    """Unset `spec.suspend` and wait until the object is Ready. Returns FAILED when it fails."""
    async with _deadline(timeout):
        return await _each(target, words, _resume_one)


async def _each(
    target: Target, words: Sequence[str], change: Callable[[Connection, KindInfo[Any], str, str], Any]
) -> int:
    """Run `change` for the named objects; for a kind without a name, for all of it in the namespace."""
    async with connect(target) as connection:
        code = OK
        for wanted in kinds.parse_targets(words):
            names = [wanted.name]
            if not wanted.name:
                names = [live.reference.name for live in await connection.list(wanted.info, target.namespace)]
            for name in names:
                code = max(code, await change(connection, wanted.info, target.namespace, name))
        return code


async def _suspend_one(connection: Connection, info: KindInfo[Any], namespace: str, name: str) -> int:
    action(f"suspending {info.singular} {name} in {namespace} namespace")
    await _patch(connection, info, namespace, name, _suspension(info, True))
    success(f"{info.singular} suspended")
    return OK


async def _resume_one(connection: Connection, info: KindInfo[Any], namespace: str, name: str) -> int:
    action(f"resuming {info.singular} {name} in {namespace} namespace")
    await _patch(connection, info, namespace, name, _suspension(info, False))
    success(f"{info.singular} resumed")
    return await _wait(connection, info, namespace, name, lambda obj: obj.observed)


def _suspension(info: KindInfo[Any], suspended: bool) -> dict[str, Any]:
    """The patch that stops or resumes an object: most kinds have a field for it, the generator of artifacts an
    annotation."""
    if info is ARTIFACT_GENERATOR:
        return {"metadata": {"annotations": {RECONCILE: "disabled" if suspended else None}}}
    return {"spec": {"suspend": suspended}}


async def _reconcile_one(connection: Connection, reference: Reference) -> int:
    info = KINDS.get(reference.group_kind)
    if info is None:
        warning(f"{reference} is not reconciled by headrace; going on without it")
        return OK
    namespace, name = reference.namespace, reference.name
    obj = view(await connection.get(info, namespace, name))
    if obj.unserved:
        success(f"reconciliation not supported by {info.kind} {name}: it is as its producer has written it")
        return OK
    if obj.suspended:
        failure(f"resource is suspended: headrace resume {info.singular} {name} -n {namespace}")
        return FAILED
    action(f"annotating {info.kind} {name} in {namespace} namespace")
    token = rfc3339_micro(SystemClock().now())
    await _patch(connection, info, namespace, name, {"metadata": {"annotations": {RECONCILE_REQUEST: token}}})
    success(f"{info.kind} annotated")
    return await _wait(connection, info, namespace, name, lambda obj: _handled(obj, token))


def _handled(obj: FluxObject, token: str) -> bool:
    """Whether the run that `token` asked for, or a later one, has ended."""
    asked = obj.metadata.annotation(RECONCILE_REQUEST)
    return obj.status.last_handled_reconcile_at == token or (asked != token and obj.observed)


async def _wait(
    connection: Connection, info: KindInfo[Any], namespace: str, name: str, done: Callable[[FluxObject], bool]
) -> int:
    waiting(f"waiting for {info.kind} reconciliation")
    obj = await until(connection, info, namespace, name, lambda o: done(o) and settled(o))
    if obj.ready_status == "True":
        success(f"{kinds.verb_of(info)} revision {obj.revision}" if obj.revision else "reconciliation completed")
        return OK
    failure(f"{info.kind} reconciliation failed: {obj.message}")
    return FAILED


def settled(obj: FluxObject) -> bool:
    """Whether Ready is True or False for the object as it is, and nothing is under way."""
    return obj.observed and obj.ready_status in ("True", "False") and not obj.reconciling


async def until(
    connection: Connection, info: KindInfo[Any], namespace: str, name: str, done: Callable[[FluxObject], bool]
) -> FluxObject:
    """The object as soon as `done` says so; told by a watch. Raises NotFound when it is deleted."""
    async for live in connection.watch(info, namespace, name):
        obj = view(live)
        if done(obj):
            return obj
    raise CommandError(f"{info.kind}/{namespace}/{name}: the watch ended", FAILED)


@contextlib.asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Ends the block after `seconds` with CommandError(TIMED_OUT)."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            yield
    except TimeoutError:
        if not deadline.expired():
            raise
        raise CommandError(f"timed out after {format_duration(seconds)}", TIMED_OUT) from None


async def _patch(
    connection: Connection, info: KindInfo[Any], namespace: str, name: str, change: dict[str, Any]
) -> None:
    body = orjson.dumps(change)
    await connection.client.patch(resource_of(info), namespace, name, body, field_manager=FIELD_MANAGER)
