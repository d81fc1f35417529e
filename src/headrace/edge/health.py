"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

Check = Callable[[], str]
"""Returns an empty text when all is well, else what is wrong."""


def health_application(live: Mapping[str, Check], ready: Mapping[str, Check]) -> web.Application:
    """Serves both probes: 200 `ok` when all checks pass, else 500 with a line for each that does not."""
    app = web.Application()
    app.router.add_get("/healthz", _probe(live))
    app.router.add_get("/readyz", _probe(ready))
    return app


def _probe(checks: Mapping[str, Check]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        wrong = [f"{name}: {text}" for name, check in checks.items() if (text := check())]
        return web.Response(status=500 if wrong else 200, text="\n".join(wrong) or "ok")

    return answer
