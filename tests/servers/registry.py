"""A real registry for tests: CNCF Distribution, behind a front of this process that keeps a log and makes faults.

The front ends TLS (with client certificates if wanted) and hands requests on as they are; the registry itself asks for
passwords (htpasswd) or for tokens of `TokenServer`, which signs them as its token authentication wants.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.servers.go_program import program

USER, PASSWORD = "robot", "correct-horse-battery"
_HTPASSWD = "robot:$2b$04$abcdefghijklmnopqrstuupOWRSKKNe562z1DsLEArFuJDHVyRIMa"
_START_SECONDS = 60.0


@dataclass
class Fault:
    """What goes wrong with requests of `method` whose path contains `on`, the first `times` of them.

    `truncate` ends the connection after `after` bytes of the body, `stall` stops there for ever, `corrupt` changes one
    byte or answers with `body`, `status` answers with `status` and `headers`, `redirect` sends to `location` (with the
    path behind it if it ends with `/`), `headers` replaces or drops headers, `grow` sends more than there is.
    """

    kind: str
    on: str
    method: str = "GET"
    after: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    location: str = ""
    body: bytes = b""
    times: int = 1_000_000


@dataclass
class Request:
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


@dataclass
class TokenServer:
    """Gives tokens for what is asked, to those who know the password, or to anybody for pulling if `anonymous`."""

    anonymous: bool = False
    life: int = 300
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    refresh_token: str = ""
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    _runner: web.AppRunner | None = None

    @property
    def realm(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/token"

    async def start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/token", self._handle)
        self._runner, self.port = await _listen(application, self.tls, host=self.host)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def jwks(self) -> bytes:
        """The public key, as the registry is told it."""
        numbers = self.key.public_key().public_numbers()
        key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "test",
               "x": _encoded(numbers.x.to_bytes(32, "big")), "y": _encoded(numbers.y.to_bytes(32, "big"))}  # fmt: skip
        return json.dumps({"keys": [key]}).encode()

    async def _handle(self, request: web.Request) -> web.Response:
        values = dict(await request.post()) if request.method == "POST" else dict(request.query)
        query = request.query_string
        self.requests.append(Request(request.method, request.path, query, dict(request.headers)))
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = request.headers.get("Authorization") == basic
        known = known or (bool(self.refresh_token) and values.get("refresh_token") == self.refresh_token)
        if not known and not (self.anonymous and "Authorization" not in request.headers):
            return web.json_response({"errors": []}, status=401)
        granted = _granted(str(values.get("scope", "")), everything=known)
        return web.json_response({"token": self._token(str(values.get("service", "")), granted),
                                  "expires_in": self.life})  # fmt: skip

    def _token(self, service: str, access: list[dict[str, object]]) -> str:
        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "kid": "test"}
        claims = {"iss": "tests", "sub": USER, "aud": service, "exp": now + self.life, "nbf": now - 10, "iat": now - 10,
                  "jti": secrets.token_hex(8), "access": access}  # fmt: skip
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _granted(scope: str, *, everything: bool) -> list[dict[str, object]]:
    granted: list[dict[str, object]] = []
    for one in filter(None, scope.split(" ")):
        kind, _, rest = one.partition(":")
        name, _, actions = rest.rpartition(":")
        allowed = [action for action in actions.split(",") if everything or action == "pull"]
        granted.append({"type": kind, "name": name, "actions": allowed})
    return granted


@dataclass
class RegistryServer:
    """A registry that keeps its content below `directory`. `password` turns basic authentication on (USER, PASSWORD),
    `tokens` that by a token server, which is started before and stopped by whoever made it."""

    directory: Path
    password: bool = False
    tokens: TokenServer | None = None
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    _inner: int = 0
    _runner: web.AppRunner | None = None
    _session: aiohttp.ClientSession | None = None

    @property
    def address(self) -> str:
        """`host:port` as it stands in URLs."""
        return f"{self.host}:{self.port}"

    def url(self, path: str) -> str:
        return f"oci://{self.address}/{path}"

    @property
    def counts(self) -> Counter[str]:
        """How many requests there were, by method and what they are for: `HEAD manifests`, `GET blobs`, `GET tags`."""
        return Counter(f"{request.method} {_what(request.path)}" for request in self.requests)

    async def start(self) -> None:
        """Start the registry and wait until it answers."""
        self._inner = _free_port()
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "config.yaml"
        configuration.write_text(json.dumps(self._configuration()))
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(await asyncio.to_thread(program, "registry")), "serve", str(configuration)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={"OTEL_TRACES_EXPORTER": "none"},
                start_new_session=True,
            )  # fmt: skip
        self._session = aiohttp.ClientSession(auto_decompress=False)
        await self._wait()
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner, self.port = await _listen(application, self.tls, self.port, self.host)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        if self.process is not None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)

    def kill(self) -> None:
        """The registry itself dies at once; the front stays and cannot reach it."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)

    def _configuration(self) -> dict[str, object]:
        made: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "data")}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{self._inner}", "relativeurls": True, "secret": "of-no-worth"},
        }
        if self.password:
            file = self.directory / "htpasswd"
            file.write_text(_HTPASSWD + "\n")
            made["auth"] = {"htpasswd": {"realm": "tests", "path": str(file)}}
        if self.tokens is not None:
            file = self.directory / "jwks.json"
            file.write_bytes(self.tokens.jwks())
            made["auth"] = {"token": {"realm": self.tokens.realm, "service": "registry", "issuer": "tests",
                                      "jwks": str(file), "signingalgorithms": ["ES256"]}}  # fmt: skip
        return made

    async def _wait(self) -> None:
        assert self._session is not None
        assert self.process is not None
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with self._session.get(f"http://127.0.0.1:{self._inner}/v2/") as response:
                    if response.status in (200, 401):
                        return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the registry does not start: {(self.directory / 'log').read_text()[-2000:]}")
            await asyncio.sleep(0.02)

    # -- the front -----------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Request(request.method, request.path, request.query_string, dict(request.headers)))
        fault = self._fault(request)
        if fault is not None and fault.kind == "status":
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        if fault is not None and fault.kind == "redirect":
            location = (
                fault.location.removesuffix("/") + request.path_qs if fault.location[-1] == "/" else fault.location
            )
            return web.Response(status=307, headers={"Location": location})
        assert self._session is not None
        url = f"http://127.0.0.1:{self._inner}{request.path_qs}"
        headers = {key: value for key, value in request.headers.items() if key.lower() != "content-length"}
        try:
            async with self._session.request(
                request.method, url, headers=headers, data=await request.read(), allow_redirects=False
            ) as answer:
                return await self._answered(request, answer, await answer.read(), fault)
        except aiohttp.ClientError:
            assert request.transport is not None
            request.transport.abort()
            raise

    def _fault(self, request: web.Request) -> Fault | None:
        for fault in self.faults:
            if fault.on in request.path_qs and fault.method == request.method and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    async def _answered(
        self, request: web.Request, answer: aiohttp.ClientResponse, body: bytes, fault: Fault | None
    ) -> web.StreamResponse:
        headers = answer.headers.copy()
        if fault is None:
            if request.method == "HEAD":
                return web.Response(status=answer.status, headers=headers)
            headers.popall("Content-Length", None)
            return web.Response(status=answer.status, headers=headers, body=body)
        if fault.kind == "headers":
            headers.popall("Content-Length", None)
            for name, value in fault.headers.items():
                headers.popall(name, None)
                if value:
                    headers[name] = value
            return web.Response(status=answer.status, headers=headers, body=body)
        if fault.kind == "corrupt":
            headers.popall("Content-Length", None)
            changed = fault.body or bytes([body[0] ^ 1]) + body[1:]
            return web.Response(status=200 if fault.body else answer.status, headers=headers, body=changed)
        return await self._broken(request, answer, body, fault)

    async def _broken(
        self, request: web.Request, answer: aiohttp.ClientResponse, body: bytes, fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if fault.kind == "grow":
            response.headers.popall("Content-Length", None)
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(b"\0" * 65536)
            return response
        await response.prepare(request)
        await response.write(body[: fault.after])
        if fault.kind == "stall":
            await asyncio.Event().wait()
        assert request.transport is not None
        request.transport.abort()
        return response


def _what(path: str) -> str:
    for what in ("manifests", "blobs", "tags", "referrers"):
        if f"/{what}/" in path:
            return what
    return "ping" if path == "/v2/" else "other"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _free_port() -> int:
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


async def _listen(
    application: web.Application, tls: ssl.SSLContext | None, port: int = 0, host: str = "127.0.0.1"
) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    return runner, runner.addresses[0][1]


@contextlib.asynccontextmanager
async def registry_server(
    directory: Path, *, password: bool = False, tokens: TokenServer | None = None, tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[RegistryServer]:  # fmt: skip
    """A registry of one's own, stopped at the end."""
    server = RegistryServer(directory, password=password, tokens=tokens, tls=tls, host=host)
    if tokens is not None:
        await tokens.start()
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        if tokens is not None:
            await tokens.stop()
