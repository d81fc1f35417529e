"""Serves the artifacts over HTTP: GET and HEAD with ranges, only files of the store, nothing listed (SRC-ART-07).

What is served is looked up by the segments of the path; nothing that is hidden, a link, or outside has an entry.
"""

from __future__ import annotations

from aiohttp import web

from headrace.artifact.store import Store

_GRACE = 2.0
"""Seconds that requests in flight have when the server stops."""


def artifact_application(store: Store) -> web.Application:
    """The application; `GET /` answers 200 for readiness probes."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def serve(request: web.Request) -> web.StreamResponse:
        path = store.locate(request.match_info["path"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"Content-Type": _content_type(path.name)})

    application = web.Application()
    application.router.add_get("/", ready)
    application.router.add_get("/{path:.+}", serve)
    return application


def _content_type(name: str) -> str:
    return "application/gzip" if name.endswith((".gz", ".tgz")) else "application/octet-stream"


class ArtifactServer:
    """The application on an address (`host:port`, host may be empty, port 0 takes a free one)."""

    def __init__(self, store: Store, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host = host.strip("[]") or None
        self._port = int(port)
        self._runner = web.AppRunner(
            artifact_application(store), access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE
        )

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError when the address is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop listening; requests in flight have a moment."""
        await self._runner.cleanup()
