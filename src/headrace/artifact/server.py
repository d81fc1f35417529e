"""Serves the artifacts over HTTP: GET and HEAD with ranges, only files of the store, nothing listed (SRC-ART-07).

What is served is looked up by the segments of the path; nothing that is hidden, a link, or outside has an entry.
"""

from __future__ import annotations

from aiohttp import web

from headrace.artifact.store import Store


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
