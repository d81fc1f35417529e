"""Serves the bench's repositories: git's http-backend on loopback, as `headrace up` serves a folder."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web

from headrace.edge.git_server import USER, git_application
from headrace.edge.listen import serve

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serve_public(root: Path) -> AsyncIterator[str]:
    """Serve the repositories below `root` to everybody; yields host and port.

    The product's server wants a password. Public repositories are the common case, so each request gets it here.
    """
    password = secrets.token_hex(16)
    authorization = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()

    @web.middleware
    async def with_password(request: web.Request, handler: _Handler) -> web.StreamResponse:
        return await handler(request.clone(headers={**request.headers, "Authorization": authorization}))

    outer = git_application(root, password)
    outer.middlewares.append(with_password)
    async with serve(outer, "127.0.0.1:0") as address:
        yield address
