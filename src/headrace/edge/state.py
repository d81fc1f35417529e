"""The engine's live state over its Unix socket: what `headrace explain` and `tree` ask besides the objects themselves.

GET /v1/engine                              who answers: version, server, pid, whether it leads
GET /v1/objects                             every object's state
GET /v1/objects/KIND/NAMESPACE/NAME         one object's state and its last traces, newest first
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from aiohttp import web

from headrace.api.kinds import KINDS
from headrace.engine.trace import ObjectState
from headrace.model.reference import Reference
from headrace.model.trace import Trace


class EngineInfo(msgspec.Struct, frozen=True, rename="camel"):
    """Who answers. `server` is the URL of the cluster it serves, `settings` what of its settings is not the default, by
    flag, as far as it decides what is delivered."""

    version: str
    server: str
    pid: int
    leading: bool
    kinds: tuple[str, ...]
    settings: dict[str, str] = {}


class ObjectAnswer(msgspec.Struct, frozen=True):
    """One object: `state` is None for one that the engine does not know; `at` is the engine's time (epoch)."""

    at: float
    state: ObjectState | None
    traces: tuple[Trace, ...]


class EngineView(Protocol):
    """What the socket shows of the engine."""

    def state(self, reference: Reference) -> ObjectState | None: ...

    def known(self) -> tuple[Reference, ...]: ...

    def traces(self, reference: Reference) -> tuple[Trace, ...]: ...


def state_application(engine: EngineView, info: Callable[[], EngineInfo], now: Callable[[], float]) -> web.Application:
    """The application to be served on the socket."""

    async def about(_: web.Request) -> web.Response:
        return _json(info())

    async def objects(_: web.Request) -> web.Response:
        return _json([engine.state(reference) for reference in engine.known()])

    async def one(request: web.Request) -> web.Response:
        reference = _reference(request)
        if reference is None:
            return web.Response(status=404, text=f"unknown kind '{request.match_info['kind']}'")
        return _json(ObjectAnswer(now(), engine.state(reference), engine.traces(reference)))

    app = web.Application()
    app.router.add_get("/v1/engine", about)
    app.router.add_get("/v1/objects", objects)
    app.router.add_get("/v1/objects/{kind}/{namespace}/{name}", one)
    return app


def _reference(request: web.Request) -> Reference | None:
    part = request.match_info
    info = next((k for k in KINDS.values() if k.kind == part["kind"]), None)
    return info.reference(part["namespace"], part["name"]) if info else None


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
