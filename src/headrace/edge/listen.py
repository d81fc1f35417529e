"""Listening: addresses as flags have them, and aiohttp applications served while a context is open."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

SHUTDOWN_SECONDS = 2.0


def parse_address(address: str) -> tuple[str | None, int]:
    """`:8080` (all interfaces), `127.0.0.1:0` (a free port), `[::1]:80`. Raises ValueError naming the address."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"'{address}' is no address: want HOST:PORT or :PORT")
    return host.strip("[]") or None, int(port)


@contextlib.asynccontextmanager
async def serve(app: web.Application, address: str) -> AsyncIterator[str]:
    """Serve `app` while the context is open; yields the address it can be reached at. Raises OSError."""
    host, port = parse_address(address)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"{_reachable(host)}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def serve_unix(app: web.Application, path: Path) -> AsyncIterator[Path]:
    """Serve `app` on a socket that only this user may connect to (mode 0600). A socket left behind is replaced.

    Raises OSError that names the path.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        said = f"cannot listen on '{path}': {error} (--socket names another path, of 107 bytes at most)"
        raise OSError(said) from None
    finally:
        os.umask(mask)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, bound).start()
        yield path
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


def free_port(wanted: int = 0) -> int:
    """A loopback port nobody listens on: `wanted` when it is free."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _reachable(host: str | None) -> str:
    if host in (None, "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if host and ":" in host else str(host)
