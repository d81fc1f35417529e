"""A reverse proxy before a real API server that does the faults a test asks for (REL rows).

    async with fault_proxy(cluster.config) as proxy:
        async with Client(proxy.config) as client: ...

`proxy.config` is a ClientConfig that leads through the proxy; `proxy.write_kubeconfig(path)` writes the same
for programs. Behind it the proxy speaks as the owner of the given config (TLS, its client certificate),
except that a request with an Authorization header goes on with that alone. In front it is plain HTTP, or TLS
when an `Authority` (tests/servers/certificates.py) is given.

Faults apply to the requests that a Match selects, the first added first, each until it was done `times` times
(None: for ever). All return the Fault: `fault.hits` counts, `await fault.happened()` waits for the first
time, `proxy.remove(fault)` ends it.

proxy.fail(503, path=r"/configmaps", method="PATCH", times=2, headers={"Retry-After": "1"}) proxy.delay(2.0,
watch=False)                  forward after so many seconds proxy.reset(path=..., answered=False)          TCP
reset: the request is lost, or (True) only its answer proxy.truncate(100, watch=True)                break off
after so many bytes of the body proxy.drop_events(lambda event: event["type"] == "DELETED", path=...)   leave
watch events out proxy.insert_event({"type": "ERROR", "object": {...}}, path=...)        one more line in a
watch, then its end proxy.silence(path=...)                        a watch that is open and says nothing more,
bookmarks neither

For all at once: `proxy.partition()` lets no byte through in either direction until `proxy.heal()`;
`proxy.end_watches(reset=False)` ends every watch there is; `proxy.clear()` removes all faults.
`proxy.requests` lists what came, with the status that went back (0: none).

A Match has: method, path (a regular expression, searched in the path), query (the same, in the query string),
watch (True: only watches, False: none), dry_run (the same), and times.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import aiohttp
import msgspec
from aiohttp import web
from typing_extensions import TypedDict
from yarl import URL

from headrace.kube.config import ClientConfig, Credentials
from headrace.kube.credentials import Material
from headrace.kube.lines import LineSplitter
from headrace.kube.tls import ssl_context
from tests.servers.certificates import Authority

_HOP_BY_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive", "te", "trailer", "upgrade"}


class Match(TypedDict, total=False):
    """Which requests a fault is for."""

    method: str
    path: str
    query: str
    watch: bool
    dry_run: bool
    times: int | None


@dataclass
class Fault:
    """One fault. Made by the methods of FaultProxy."""

    match: Match
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    lost: str = ""
    truncate: int | None = None
    drop: Callable[[dict[str, Any]], bool] | None = None
    insert: bytes = b""
    silent: bool = False
    hits: int = 0
    _happened: asyncio.Event = field(default_factory=asyncio.Event)

    async def happened(self, timeout: float = 30.0) -> None:
        """Return once the fault was done for the first time."""
        await asyncio.wait_for(self._happened.wait(), timeout)

    def hit(self) -> None:
        self.hits += 1
        self._happened.set()

    def applies(self, request: web.BaseRequest) -> bool:
        match = self.match
        times = match.get("times")
        if times is not None and self.hits >= times:
            return False
        if "watch" in match and match["watch"] != _is_watch(request):
            return False
        if "dry_run" in match and match["dry_run"] != ("dryRun" in request.query):
            return False
        return (
            match.get("method", request.method) == request.method
            and re.search(match.get("path", ""), request.path) is not None
            and re.search(match.get("query", ""), request.query_string) is not None
        )


@dataclass
class Seen:
    """A request that came through."""

    method: str
    path: str
    query: str
    status: int = 0


class FaultProxy:
    """See the module."""

    def __init__(self, upstream: ClientConfig, config: ClientConfig) -> None:
        self.config = config
        self.requests: list[Seen] = []
        self._upstream = upstream
        self._faults: list[Fault] = []
        self._open = asyncio.Event()
        self._open.set()
        self._watches: dict[int, web.BaseRequest] = {}  # by identity: a request is a mapping, and not hashable
        self._ended: dict[int, bool] = {}
        credentials = upstream.credentials
        owner = Material(upstream.ca, credentials.client_certificate, credentials.client_key)
        insecure = upstream.insecure_skip_tls_verify
        self._owner = ssl_context(owner, insecure=insecure)
        self._anybody = ssl_context(Material(upstream.ca), insecure=insecure)
        self._session: aiohttp.ClientSession | None = None

    def fail(
        self, status: int, *, headers: dict[str, str] | None = None, body: bytes = b"", **match: Unpack[Match]
    ) -> Fault:
        return self._add(Fault(match, status=status, headers=headers or {}, body=body))

    def delay(self, seconds: float, **match: Unpack[Match]) -> Fault:
        return self._add(Fault(match, seconds=seconds))

    def reset(self, *, answered: bool = False, **match: Unpack[Match]) -> Fault:
        return self._add(Fault(match, lost="answer" if answered else "request"))

    def truncate(self, size: int, **match: Unpack[Match]) -> Fault:
        return self._add(Fault(match, truncate=size))

    def drop_events(self, drop: Callable[[dict[str, Any]], bool], **match: Unpack[Match]) -> Fault:
        return self._add(Fault({**match, "watch": True}, drop=drop))

    def insert_event(self, event: dict[str, Any], **match: Unpack[Match]) -> Fault:
        return self._add(Fault({**match, "watch": True}, insert=json.dumps(event).encode() + b"\n"))

    def silence(self, **match: Unpack[Match]) -> Fault:
        return self._add(Fault({**match, "watch": True}, silent=True))

    def remove(self, fault: Fault) -> None:
        self._faults.remove(fault)

    def clear(self) -> None:
        """No fault any more, for requests that come from now on."""
        self._faults.clear()
        self.heal()

    def partition(self) -> None:
        """Not a byte goes through in either direction, and nobody is told."""
        self._open.clear()

    def heal(self) -> None:
        """What was held up goes on."""
        self._open.set()

    def end_watches(self, *, reset: bool = False) -> int:
        """End every open watch, in peace or with a TCP reset; how many there were."""
        for request in self._watches.values():
            self._ended[id(request)] = reset
            if request.transport is not None and reset:
                _reset(request)
            elif request.task is not None:
                request.task.cancel()
        return len(self._watches)

    def write_kubeconfig(self, path: Path) -> Path:
        """The way through the proxy as a file."""
        cluster = {"server": self.config.server}
        if self.config.ca:
            cluster["certificate-authority-data"] = msgspec.json.decode(msgspec.json.encode(self.config.ca))
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": cluster}], "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        }))  # fmt: skip
        return path

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, with its faults."""
        seen = Seen(request.method, request.path, request.query_string)
        self.requests.append(seen)
        body = await request.read()
        await self._open.wait()
        faults = [fault for fault in self._faults if fault.applies(request)]
        for fault in faults:
            if fault.status or fault.lost == "request" or fault.seconds:
                fault.hit()
            await asyncio.sleep(fault.seconds)
            if fault.lost == "request":
                return _reset(request)
            if fault.status:
                seen.status = fault.status
                return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        return await self._forward(request, body, faults, seen)

    async def _forward(
        self, request: web.BaseRequest, body: bytes, faults: list[Fault], seen: Seen
    ) -> web.StreamResponse:
        assert self._session is not None
        url = URL(self._upstream.server + request.raw_path, encoded=True)
        headers = [(key, value) for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP]
        tls = self._anybody if "Authorization" in request.headers else self._owner
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, ssl=tls, allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as upstream:  # fmt: skip
            lost = next((fault for fault in faults if fault.lost == "answer"), None)
            if lost is not None:
                await upstream.read()
                lost.hit()
                return _reset(request)
            seen.status = upstream.status
            kept = {key: value for key, value in upstream.headers.items() if key.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=upstream.status, headers=kept)
            await response.prepare(request)
            if _is_watch(request):
                return await self._watch(request, upstream, response, faults)
            return await self._copy(request, upstream, response, faults)

    async def _copy(
        self, request: web.BaseRequest, upstream: aiohttp.ClientResponse, response: web.StreamResponse,
        faults: list[Fault],
    ) -> web.StreamResponse:  # fmt: skip
        cut = next((fault for fault in faults if fault.truncate is not None), None)
        body = await upstream.read()
        await self._open.wait()
        if cut is not None:
            cut.hit()
            await response.write(body[: cut.truncate])
            return _break_off(request, response)
        await response.write(body)
        await response.write_eof()
        return response

    async def _watch(
        self, request: web.BaseRequest, upstream: aiohttp.ClientResponse, response: web.StreamResponse,
        faults: list[Fault],
    ) -> web.StreamResponse:  # fmt: skip
        self._watches[id(request)] = request
        try:
            await self._watch_lines(request, upstream, response, faults)
        except asyncio.CancelledError:
            if id(request) not in self._ended:
                raise
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
        finally:
            self._watches.pop(id(request), None)
            self._ended.pop(id(request), None)
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response

    async def _watch_lines(
        self, request: web.BaseRequest, upstream: aiohttp.ClientResponse, response: web.StreamResponse,
        faults: list[Fault],
    ) -> None:  # fmt: skip
        splitter, sent = LineSplitter(64 * 1024 * 1024), 0
        for fault in faults:
            if fault.insert:
                fault.hit()
                await response.write(fault.insert)
                return
        async for chunk in upstream.content.iter_any():
            for line in splitter.feed(chunk):
                await self._open.wait()
                if self._withheld(line, request):
                    continue
                cut = next((fault for fault in faults if fault.truncate is not None), None)
                if cut is not None and cut.truncate is not None and sent + len(line) >= cut.truncate:
                    cut.hit()
                    await response.write(line[: max(cut.truncate - sent, 1)])
                    _break_off(request, response)
                    return
                sent += len(line) + 1
                await response.write(line + b"\n")

    def _withheld(self, line: bytes, request: web.BaseRequest) -> bool:
        """Whether a fault, also one that was added after the watch began, keeps an event back."""
        for fault in self._faults:
            if not fault.applies(request):
                continue
            if fault.silent or (fault.drop is not None and fault.drop(json.loads(line))):
                fault.hit()
                return True
        return False

    def _add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault


@contextlib.asynccontextmanager
async def fault_proxy(upstream: ClientConfig, *, authority: Authority | None = None, directory: Path | None = None,
                      port: int = 0) -> AsyncIterator[FaultProxy]:  # fmt: skip
    """A running proxy. With `authority` (and a `directory` for its certificate) it serves TLS. `port` 0: a
    free one."""
    listener = socket.create_server(("127.0.0.1", port))
    port = listener.getsockname()[1]
    tls = authority.server_context(directory or Path(), "127.0.0.1") if authority is not None else None
    config = ClientConfig(
        server=f"{'https' if tls else 'http'}://127.0.0.1:{port}",
        ca=authority.certificate if authority is not None else b"",
        credentials=Credentials(),
        timeout=upstream.timeout,
    )
    proxy = FaultProxy(upstream, config)
    runner = web.ServerRunner(web.Server(proxy.handle), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener, ssl_context=tls).start()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            proxy._session = session
            yield proxy
    finally:
        proxy.clear()
        await runner.cleanup()


def _is_watch(request: web.BaseRequest) -> bool:
    return request.query.get("watch") in ("1", "true")


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    """Break the client's connection off with a TCP reset."""
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


def _break_off(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    """End the connection in the middle of a body."""
    if request.transport is not None:
        request.transport.close()
    return response
