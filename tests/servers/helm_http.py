"""A Helm repository over HTTP: charts packaged by the tests, an index.yaml of them, and faults on demand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import io
import ssl
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from aiohttp import web

HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
"""The config of a chart in a registry, as `helm push` writes it; nothing that pulls charts looks at it."""

def chart_files(name: str = "app", version: str = "1.0.0", **more: str) -> dict[str, str]:
    """The files of a small chart; `more` replaces or adds some."""
    files = {
        "Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\n",
        "values.yaml": "replicas: 1\nimage:\n  name: app\n  tag: one\nlist: [a, b]\n",
        "templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n",
    }
    return {**files, **more}


def package(files: Mapping[str, str | bytes], name: str = "app") -> bytes:
    """A chart's archive as Helm makes them."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


def files_of(archive: bytes) -> dict[str, bytes]:
    """The files in a chart's archive by their whole path."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


@dataclass
class HelmServer:
    """Serves `/index.yaml` and `/charts/...`. `fault` says what happens to which answer; `paths` what was asked."""

    entries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    archives: dict[str, bytes] = field(default_factory=dict)
    raw_index: bytes | None = None
    basic: tuple[str, str] | None = None
    etags: bool = True
    fault: tuple[str, str] | None = None
    """(`truncate` | `stall`, part of the path)."""
    redirect_charts: str = ""
    paths: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    authorizations: list[str] = field(default_factory=list)
    port: int = 0
    tls: ssl.SSLContext | None = None
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def add(self, name: str = "app", version: str = "1.0.0", *, created: str = "2024-01-01T00:00:00Z",
            url: str = "", **more: str) -> bytes:  # fmt: skip
        """Put a chart into the repository."""
        archive = package(chart_files(name, version, **more), name)
        path = f"charts/{name}-{version}.tgz"
        self.archives[f"/{path}"] = archive
        entry = {
            "apiVersion": "v2", "name": name, "version": version, "created": created, "urls": [url or path],
            "digest": hashlib.sha256(archive).hexdigest(),
        }  # fmt: skip
        self.entries.setdefault(name, []).append(entry)
        return archive

    def index(self) -> bytes:
        if self.raw_index is not None:
            return self.raw_index
        content = {"apiVersion": "v1", "generated": "2024-01-01T00:00:00Z", "entries": self.entries}
        return yaml.safe_dump(content, sort_keys=True).encode()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.paths[request.path] += 1
        self.authorizations.append(request.headers.get("Authorization", ""))
        answer = await self._made(request)
        self.statuses[answer.status] += 1
        return answer

    async def _made(self, request: web.Request) -> web.StreamResponse:
        if self.basic is not None:
            wanted = "Basic " + base64.b64encode(":".join(self.basic).encode()).decode()
            if request.headers.get("Authorization") != wanted:
                return web.Response(status=401, text="who are you?")
        if request.path.startswith("/charts/") and self.redirect_charts:
            raise web.HTTPFound(self.redirect_charts + request.path)
        body = self.index() if request.path == "/index.yaml" else self.archives.get(request.path)
        if body is None:
            return web.Response(status=404)
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        if self.etags and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        headers = {"ETag": etag} if self.etags else {}
        if self.fault is not None and self.fault[1] in request.path:
            return await self._faulty(request, body, headers)
        return web.Response(body=body, headers=headers)

    async def _faulty(self, request: web.Request, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
        assert self.fault is not None
        answer = web.StreamResponse(headers={**headers, "Content-Length": str(len(body))})
        await answer.prepare(request)
        await answer.write(body[: len(body) // 2])
        if self.fault[0] == "stall":
            await asyncio.sleep(3600)
        assert request.transport is not None
        request.transport.close()
        return answer


@contextlib.asynccontextmanager
async def helm_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[HelmServer]:
    server = HelmServer(tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
