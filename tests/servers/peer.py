"""A peer on a socket that does to its clients what a test tells it to: for faults of the transport only.

It knows nothing of Kubernetes. What an API server means by its answers is tested against a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

STATUS_TEXT = {200: "OK", 302: "Found", 401: "Unauthorized", 403: "Forbidden", 429: "Too Many Requests"}


@dataclass
class Request:
    """One HTTP request as it came over the wire; header names in lower case, repeated ones kept."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name.lower()), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]


class Wire:
    """The way back to one client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """A whole answer."""
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{key}: {value}\r\n" for key, value in fields.items())
        await self.send(f"HTTP/1.1 {status} {STATUS_TEXT.get(status, 'Status')}\r\n{lines}\r\n".encode() + body)

    async def begin(self) -> None:
        """The head of an answer in chunks."""
        await self.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        """One chunk; an empty one ends the answer."""
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def reset(self) -> None:
        """Break the connection off with a TCP reset."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


Handler = Callable[[Request, Wire], Awaitable[None]]


@dataclass
class Peer:
    """A running peer; `requests` are all that came so far."""

    handler: Handler
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while request := await _read(reader):
                self.requests.append(request)
                await self.handler(request, Wire(writer))
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(key.lower(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    request = Request(method, target, headers)
    length = int(request.header("content-length") or 0)
    request.body = await reader.readexactly(length)
    return request


@contextlib.asynccontextmanager
async def peer(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Serve `handler` on a free port of the loopback."""
    served = Peer(handler)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    served.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield served
    finally:
        server.close()
