"""A real git server for tests: git's own http-backend behind aiohttp, with credentials, a log and faults."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

BACKEND = Path(subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip())


class Repository:
    """A bare repository that is served, and a work tree to commit from."""

    def __init__(self, root: Path, name: str, branch: str = "main") -> None:
        self.name = name
        self.bare = root / name
        self.work = root / f"{name}.work"
        subprocess.run(["git", "init", "-q", "--bare", "-b", branch, self.bare], check=True)
        subprocess.run(["git", "init", "-q", "-b", branch, self.work], check=True)
        self.git("config", "user.email", "a@b.c")
        self.git("config", "user.name", "tester")
        self.git("config", "core.symlinks", "true")
        self.git("remote", "add", "origin", str(self.bare))

    def git(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run git in the work tree and return what it prints."""
        done = subprocess.run(
            ["git", *arguments], cwd=self.work, capture_output=True, text=True, env={**os.environ, **(env or {})}
        )
        if done.returncode != 0:
            raise AssertionError(f"git {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def commit(
        self, files: dict[str, str | bytes | None], message: str = "change", *, branch: str = "", date: str = ""
    ) -> str:
        """Write the files (None deletes one), commit, push; returns the commit."""
        if branch:
            self.git("checkout", "-q", "-B", branch)
        for name, content in files.items():
            path = self.work / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "-A", "-f")
        env = {"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date} if date else None
        self.git("commit", "-q", "--allow-empty", "-m", message, env=env)
        self.push()
        return self.head()

    def push(self) -> None:
        self.git("push", "-q", "--force", "origin", "HEAD")

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def tag(self, name: str, *, annotated: bool = False) -> None:
        self.git("tag", "-f", *(["-a", "-m", name] if annotated else []), name)
        self.git("push", "-q", "--force", "origin", f"refs/tags/{name}")


@dataclass
class Fault:
    """What goes wrong with answers to `on` (info, ls-refs, fetch): `truncate`, `stall`, `drip`, `status`,
    `redirect`."""

    kind: str
    on: str
    after: int = 0
    status: int = 500
    location: str = ""


@dataclass
class Request:
    """A request as it came; `peer` is the port at the other end of its connection."""

    what: str
    path: str
    headers: dict[str, str]
    peer: int = 0


@dataclass
class GitServer:
    """Serves the repositories below `root`."""

    root: Path
    basic: tuple[str, str] | None = None
    bearer: str = ""
    tls: ssl.SSLContext | None = None
    newest_protocol: int = 2
    fault: Fault | None = None
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def url(self, name: str) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/{name}"

    @property
    def counts(self) -> Counter[str]:
        """How many requests of each sort: info, ls-refs, fetch."""
        return Counter(request.what for request in self.requests)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        what = _what(request, body)
        peer = request.transport.get_extra_info("peername")[1] if request.transport is not None else 0
        self.requests.append(Request(what, request.path, dict(request.headers), peer))
        if not self._admits(request.headers.get("Authorization", "")):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        fault = self.fault if self.fault is not None and self.fault.on == what else None
        if fault is not None and fault.kind == "status":
            return web.Response(status=fault.status)
        if fault is not None and fault.kind == "redirect":
            return web.Response(status=302, headers={"Location": fault.location + request.path_qs})
        status, headers, content = await self._backend(request, body)
        return await self._answer(request, status, headers, content, fault)

    def _admits(self, authorization: str) -> bool:
        if self.bearer:
            return authorization == f"Bearer {self.bearer}"
        if self.basic:
            return authorization == "Basic " + base64.b64encode(":".join(self.basic).encode()).decode()
        return True

    async def _answer(
        self, request: web.Request, status: int, headers: dict[str, str], content: bytes, fault: Fault | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        if fault is None:
            response.content_length = len(content)
        await response.prepare(request)
        if fault is None:
            await response.write(content)
            return response
        await response.write(content[: fault.after])
        if fault.kind == "truncate":
            assert request.transport is not None
            request.transport.abort()
        elif fault.kind == "stall":
            await asyncio.Event().wait()
        else:
            for index in range(fault.after, len(content)):
                await response.write(content[index : index + 1])
                await asyncio.sleep(0.2)
        return response

    async def _backend(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Run http-backend as CGI."""
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "protocol.version",
            "GIT_CONFIG_VALUE_1": str(self.newest_protocol),
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": "tester",
            "REMOTE_ADDR": "127.0.0.1",
        }
        if self.newest_protocol == 2:
            environment["GIT_PROTOCOL"] = request.headers.get("Git-Protocol", "")
        process = await asyncio.create_subprocess_exec(
            BACKEND / "git-http-backend", stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        output, _ = await process.communicate(body)
        head, _, content = output.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200 OK").split()[0])
        return status, headers, content


def _what(request: web.Request, body: bytes) -> str:
    if request.path.endswith("/info/refs"):
        return "info"
    if b"command=ls-refs" in body:
        return "ls-refs"
    if request.path.endswith("/git-upload-pack"):
        return "fetch"
    return "other"
