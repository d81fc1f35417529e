"""`headrace explain OBJECT`: reads the world for the explainer, and prints what it finds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.api.kustomization import OWNER_NAME, OWNER_NAMESPACE
from headrace.api.meta import KUSTOMIZE_GROUP
from headrace.cli import kinds
from headrace.cli.connect import Connection, Target, connect
from headrace.cli.engine_socket import EngineSocket
from headrace.cli.exits import FAILED, NOT_FOUND, OK, USAGE, CommandError
from headrace.cli.explain import text
from headrace.cli.explain.verdict import State
from headrace.cli.explain.walk import Event, Explainer, NextRun, Unreadable
from headrace.cli.output import Format, dump, say
from headrace.core.clock import SystemClock, rfc3339
from headrace.kube.errors import Forbidden, NoMatch
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference


async def explain(target: Target, words: Sequence[str], form: Format) -> int:
    """Print why the object is not Ready. Returns OK when it is, FAILED when something is wrong."""
    async with connect(target) as connection, EngineSocket(connection.client.config.server) as engine:
        reference = await resolve(connection, target.namespace, words)
        finding = await Explainer(ClusterWorld(connection, engine)).explain(reference)
        owner = await _owner(connection, reference)
    now = SystemClock().now()
    if form is Format.TABLE:
        say("\n".join([*text.lines(finding, now), *([f"delivered by: {owner}"] if owner else [])]))
    else:
        say(dump({**text.encode(finding), "deliveredBy": str(owner or "")}, form))
    if finding.verdict.state is State.MISSING:
        return NOT_FOUND
    return OK if finding.sound and not finding.causes else FAILED


async def resolve(connection: Connection, namespace: str, words: Sequence[str]) -> Reference:
    """The object that `KIND NAME`, `KIND/NAME` or `KIND/NAMESPACE/NAME` names; any kind that the cluster serves."""
    parts = [part for word in words for part in word.split("/") if part]
    if parts and parts[0] in ("source", "sources") or len(words) > 1 and kinds.find(parts[0]):
        wanted = kinds.parse_target(words)
        return wanted.info.reference(namespace, wanted.name)
    if len(parts) not in (2, 3):
        raise CommandError("want KIND NAME, KIND/NAME or KIND/NAMESPACE/NAME", USAGE)
    kind, name = parts[0], parts[-1]
    where = parts[1] if len(parts) == 3 else namespace
    info = kinds.find(kind)
    if info is not None:
        return info.reference(where, name)
    resource = _named(kind, await connection.discovery.resources())
    return Reference(resource.group, resource.kind, where if resource.namespaced else "", name)


def _named(word: str, resources: Sequence[Resource]) -> Resource:
    """The resource that kubectl would take for `word`: kind, plural, singular or short name, `.group` behind it."""
    plain, _, group = word.lower().partition(".")
    for resource in resources:
        words = {resource.kind.lower(), resource.plural, resource.singular, *resource.short_names}
        if plain in words and group in ("", resource.group):
            return resource
    raise CommandError(f"the cluster serves no kind '{word}'", USAGE)


async def _owner(connection: Connection, reference: Reference) -> Reference | None:
    """The Kustomization that delivers an object that is not our own."""
    try:
        live = await connection.find(reference)
    except (NoMatch, Forbidden):
        return None
    name = live.metadata.label(OWNER_NAME) if live else ""
    return (
        Reference(KUSTOMIZE_GROUP, "Kustomization", live.metadata.label(OWNER_NAMESPACE), name)
        if live and name
        else None
    )


class _Involved(msgspec.Struct, rename="camel"):
    type: str = ""
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None

    @property
    def at(self) -> str:
        return self.last_timestamp or self.event_time or ""


class ClusterWorld:
    """The world as a cluster and, if there is one, its engine show it."""

    def __init__(self, connection: Connection, engine: EngineSocket) -> None:
        self._connection = connection
        self._engine = engine

    async def get(self, reference: Reference) -> LiveObject | None:
        try:
            return await self._connection.find(reference)
        except (NoMatch, Forbidden) as error:
            raise Unreadable(str(error)) from None

    async def owned(self, owner: LiveObject, group: str, kind: str) -> Sequence[LiveObject]:
        resource = await self._connection.discovery.resource(group, kind)
        try:
            listing = await self._connection.client.list(resource, owner.metadata.namespace)
        except Forbidden:
            return ()
        return [
            live for live in listing.items
            if any(ref.uid == owner.metadata.uid for ref in live.metadata.owner_references or ())
        ]  # fmt: skip

    async def warning(self, live: LiveObject) -> Event | None:
        resource = await self._connection.discovery.resource("", "Event", "v1")
        selector = f"involvedObject.uid={live.metadata.uid},type=Warning"
        try:
            listing = await self._connection.client.list(
                resource, live.metadata.namespace or "default", field_selector=selector
            )
        except Forbidden:
            return None
        events = sorted((item.decode(_Involved) for item in listing.items), key=lambda event: event.at)
        return Event(events[-1].reason, events[-1].message, events[-1].at) if events else None

    async def next_run(self, reference: Reference) -> NextRun | None:
        answer = await self._engine.object(reference)
        if answer is None or answer.state is None:
            return None
        state = answer.state
        at = rfc3339(answer.at + state.next_in) if state.next_in is not None else ""
        waits = tuple(str(on) for activity in state.waits for on in activity.on)
        return NextRun(at, waits or tuple(map(str, state.waiting_on)), running=state.phase in ("running", "queued"))
