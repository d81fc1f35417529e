"""Serves bare repositories read-only over HTTP, by git's own http-backend.

`headrace up DIR` makes its shadow repository a real remote with it. Every request needs the password: other users
of the machine can reach loopback ports too.
"""

from __future__ import annotations

import base64
import hmac
from pathlib import Path

from aiohttp import web

from headrace.core.sandbox import SandboxError, run

USER = "headrace"
_TIMEOUT = 300.0
_REQUEST_LIMIT = 16 * 1024 * 1024
_ANSWER_LIMIT = 1024 * 1024 * 1024


def git_application(root: Path, password: str) -> web.Application:
    """The application for all repositories directly below `root`."""
    server = _GitServer(root, password)
    app = web.Application(client_max_size=_REQUEST_LIMIT)
    app.router.add_get("/{repository}/info/refs", server.answer)
    app.router.add_post("/{repository}/git-upload-pack", server.answer)
    return app


class _GitServer:
    def __init__(self, root: Path, password: str) -> None:
        self._root = root
        self._authorization = b"Basic " + base64.b64encode(f"{USER}:{password}".encode())

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not self._authorised(request):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="headrace"'})
        if request.query.get("service", "git-upload-pack") != "git-upload-pack":
            return web.Response(status=403, text="read-only")
        try:
            done = await run(
                ["git", "http-backend"],
                stdin=await request.read(),
                env=self._cgi(request),
                timeout=_TIMEOUT,
                output_limit=_ANSWER_LIMIT,
            )
        except SandboxError as error:
            return web.Response(status=500, text=str(error))
        return _response(done.stdout) if done.code == 0 else web.Response(status=500, text=done.errors)

    def _authorised(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._authorization)

    def _cgi(self, request: web.Request) -> dict[str, str]:
        """The environment of RFC 3875. REMOTE_USER stays unset: with it git would allow pushes."""
        return {
            "GIT_PROJECT_ROOT": str(self._root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }


def _response(output: bytes) -> web.Response:
    """A CGI answer as an HTTP one: headers, an empty line, the body."""
    head, _, body = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200").split()[0])
    return web.Response(status=status, headers=headers, body=body)
