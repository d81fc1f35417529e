"""One HTTP exchange with an API server: sessions, TLS, proxy, deadlines, and aiohttp's errors made ours.

Shared by all clients (identities) of a cluster, so that they share connections. Redirects are never followed:
the credentials belong to this origin alone (SEC-30).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import resource
import ssl
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from headrace.core.clock import Clock
from headrace.kube.config import ClientConfig, is_loopback
from headrace.kube.credentials import CredentialSource, Issue, Material
from headrace.kube.errors import ConfigError, KubeError, ResponseTooLarge, Unreachable, deadline_passed
from headrace.kube.tls import ssl_context

CONNECT_TIMEOUT = 10.0
"""Seconds to a connection, TLS included."""
CONNECTIONS = 64
"""Connections for requests; an API server answers no faster with more. Watches have their own, without
limit."""
SHARE = 4
"""Of so many descriptors that the process may have, one is for these: they are kept, and other work needs some."""
KEEP_ALIVE = 55.0
"""Seconds an idle connection is kept; load balancers before API servers close theirs after 60 and more."""
RESPONSE_LIMIT = 128 * 1024 * 1024
"""Bytes of an answer that is kept in memory, unpacked."""


_LARGE_BODY = 512 * 1024


_ABORT_CLOSING = sys.version_info < (3, 12, 7)
"""aiohttp then also ends connections whose TLS shutdown a server never answers; later Pythons do that
themselves."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A complete HTTP answer. `retry_after` is the header as it came."""

    status: int
    body: bytes
    retry_after: str = ""
    etag: str = ""


class Wire:
    """The sessions of one ClientConfig. Made outside or inside a loop, used in one, closed there."""

    def __init__(
        self, config: ClientConfig, clock: Clock, *, response_limit: int = RESPONSE_LIMIT, issue: Issue | None = None
    ) -> None:
        self.config = config
        self._clock = clock
        self._response_limit = response_limit
        self._source = CredentialSource(config, clock, issue)
        self._root = URL(config.server)
        self._proxy = _proxy(config)
        self._requests: aiohttp.ClientSession | None = None
        self._watches: aiohttp.ClientSession | None = None
        self._context: tuple[Material, ssl.SSLContext] | None = None
        self._server_name = config.tls_server_name or None
        self._closed = False

    def url(self, path: str, query: str = "") -> URL:
        """The URL of a path that is quoted already."""
        return URL.build(
            scheme=self._root.scheme,
            authority=self._root.raw_authority,
            path=self._root.raw_path.rstrip("/") + path,
            query_string=query,
            encoded=True,
        )

    async def material(self) -> Material:
        """The credentials to use now. Raises ConfigError."""
        return await self._source.current()

    async def refresh(self, used: Material) -> bool:
        """Look for other credentials than `used`, which was refused; whether there are any."""
        return await self._source.refresh(used)

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, material: Material, timeout: float
    ) -> Answer:
        """Send one request and read its whole answer. Raises Unreachable, Timeout, ResponseTooLarge,
        ConfigError."""
        session = self._session()
        # Not `connect`, which would count the time in line for one of the connections, too.
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=min(CONNECT_TIMEOUT, timeout))
        with _errors(f"{method} {url.raw_path}", self.config.host, timeout):
            async with session.request(
                method,
                url,
                headers=headers,
                data=_payload(body),
                timeout=limits,
                allow_redirects=False,
                ssl=self._ssl(material),
                server_hostname=self._server_name,
                proxy=self._proxy,
            ) as response:
                content = await _read(response, self._response_limit)
                received = response.headers
                return Answer(response.status, content, received.get("Retry-After", ""), received.get("ETag", ""))

    @contextlib.asynccontextmanager
    async def stream(
        self, url: URL, headers: Mapping[str, str], material: Material, silence: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET an answer that does not end. A read that gets nothing for `silence` seconds raises Timeout;
        errors while the body is read by the caller are made ours too."""
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_read=silence)
        with _errors(f"GET {url.raw_path}", self.config.host, silence):
            async with self._watch_session().request(
                "GET",
                url,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
                ssl=self._ssl(material),
                server_hostname=self._server_name,
                proxy=self._proxy,
            ) as response:
                try:
                    yield response
                finally:
                    _abort(response)

    async def close(self) -> None:
        """Close all connections, for good."""
        self._closed = True
        for session in (self._requests, self._watches):
            if session is not None:
                await session.close()
        # Aborted connections are gone one turn of the loop later.
        await asyncio.sleep(0)
        self._requests = self._watches = None

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError(f"the connection to {self.config.host} was closed")

    def _ssl(self, material: Material) -> ssl.SSLContext | bool:
        """The context for `material`, made once. With other material it is another one, so that aiohttp opens
        new connections and lets those of the old one run out."""
        if self._root.scheme != "https":
            return True
        if self._context is None or self._context[0] is not material:
            self._context = material, ssl_context(material, insecure=self.config.insecure_skip_tls_verify)
        return self._context[1]

    def _session(self) -> aiohttp.ClientSession:
        self._check_open()
        if self._requests is None:
            self._requests = _new_session(_connections())
        return self._requests

    def _watch_session(self) -> aiohttp.ClientSession:
        self._check_open()
        if self._watches is None:
            self._watches = _new_session(0)
        return self._watches


def _abort(response: aiohttp.ClientResponse) -> None:
    """Drop the connection of a stream that goes on: a polite end of TLS would wait for a server that may be
    gone."""
    connection = response.connection
    if connection is not None and connection.transport is not None and not response.content.at_eof():
        connection.transport.abort()


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """aiohttp sends large bodies in parts, so that the loop goes on meanwhile, only when they are a file."""
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body


def _connections() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if allowed == resource.RLIM_INFINITY else max(min(CONNECTIONS, allowed // SHARE), 1)


def _new_session(limit: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit, keepalive_timeout=KEEP_ALIVE, enable_cleanup_closed=_ABORT_CLOSING),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        read_bufsize=256 * 1024,
        skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
    )


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, not more than `limit` bytes of it whatever a packed body unpacks to."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > limit:
            response.close()
            raise ResponseTooLarge(f"the answer of the server is larger than {limit} bytes")
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@contextlib.contextmanager
def _errors(what: str, host: str, timeout: float) -> Iterator[None]:
    """Turn aiohttp's exceptions into ours. `sent` tells whether the server may have seen the request."""
    try:
        yield
    except (KubeError, asyncio.CancelledError):
        raise
    except (aiohttp.ServerTimeoutError, TimeoutError):
        raise deadline_passed(what, timeout) from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise UntrustedServer(f"{host}: {error.certificate_error}", sent=False) from None
    except (aiohttp.ClientConnectorError, aiohttp.ClientProxyConnectionError) as error:
        raise Unreachable(f"{host}: {_reason(error)}", sent=False) from None
    except aiohttp.ClientHttpProxyError as error:
        raise Unreachable(f"{host}: the proxy answered HTTP {error.status}", sent=False) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unreachable(f"{host}: the connection broke off ({_reason(error)})") from None


class UntrustedServer(Unreachable):
    """The server's certificate is not one that we trust."""


def _reason(error: BaseException) -> str:
    inner = getattr(error, "os_error", None) or error
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _proxy(config: ClientConfig) -> str | None:
    """The proxy of the kubeconfig, else that of the environment as Go reads it (never for the loopback)."""
    if config.proxy_url:
        return config.proxy_url
    parts = urlsplit(config.server)
    if is_loopback(config.server) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is not None and urlsplit(proxy).scheme not in ("http", "https"):
        raise ConfigError("the proxy of the environment is not an http or https URL")
    return proxy
