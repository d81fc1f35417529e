"""The only gate for URLs: which ones are accepted, which addresses are connected to, and who gets credentials.

A name is checked where it becomes a connection, so that neither a redirect nor DNS that answers differently the
second time leads inside (SEC-29). Credentials belong to one origin (SEC-30); https never falls back (SEC-31).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import re
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from headrace.core.limits import HTTP, HttpLimits
from headrace.core.recent import Recent
from headrace.core.sessions import Sessions

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192")
)
"""Addresses at which clouds hand out identities; those that are link-local too are listed for the message."""
_PORTS = {"http": 80, "https": 443, "ssh": 22, "socks5": 1080}
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]+\]")
_REDIRECTS = (301, 302, 303, 307, 308)
_KEEPALIVE_SECONDS = 90.0
_PROXY_ANSWER = 8192
_ORIGINS = 512
"""Servers to which connections are kept."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UrlRefused(ValueError):
    """A URL that is not accepted, whoever it points to. The message never contains its userinfo."""


class EgressDenied(OSError):
    """An address that may not be connected to."""


class BodyTooLarge(Exception):
    """An answer is larger than it may be."""


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A URL that has passed the gate. `text` is without userinfo and may be shown."""

    scheme: str
    host: str
    port: int
    text: str
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def url(self) -> URL:
        return URL(self.text, encoded=True)


def parse_url(text: str, schemes: Iterable[str] = ("http", "https")) -> RemoteUrl:
    """Accept a URL of one of the `schemes`.

    Raises UrlRefused for other schemes (`ext::`, `file:`), a leading `-` of the URL, user or host, control
    characters, white space and backslashes, and hosts that are none (SEC-07).
    """
    if text.startswith("-"):
        raise UrlRefused("URL is refused: it begins with '-'")
    if any(ord(char) <= 32 or ord(char) == 127 for char in text) or "\\" in text:
        raise UrlRefused("URL is refused: it contains white space, control characters or a backslash")
    match = _SCHEME.match(text)
    scheme = match.group(1).lower() if match else ""
    if scheme not in schemes or not text[len(scheme) :].startswith("://"):
        wanted = ", ".join(f"{name}://" for name in schemes)
        raise UrlRefused(f"URL is refused: scheme '{scheme}' is none of {wanted}")
    return _parsed(text, scheme)


def _parsed(text: str, scheme: str) -> RemoteUrl:
    authority, slash, rest = text[len(scheme) + 3 :].partition("/")
    if "?" in authority or "#" in authority:
        raise UrlRefused("URL is refused: it has no path")
    userinfo, _, location = authority.rpartition("@")
    try:
        url = URL(f"{scheme}://{location}", encoded=True)
        user = URL(f"{scheme}://{userinfo}@host") if userinfo else URL(f"{scheme}://host")
        port = url.explicit_port or _PORTS[scheme]
        _ = url.host  # decoded now: `xn--a` stands for nothing, which whoever shows it would stumble over
    except (ValueError, TypeError):
        raise UrlRefused("URL is refused: its host or port is not valid") from None
    host, username = (url.raw_host or "").lower(), user.user or ""
    if not _HOST.fullmatch(f"[{host}]" if ":" in host else host) or username.startswith("-"):
        raise UrlRefused("URL is refused: its host or user is not valid")
    return RemoteUrl(scheme, host, port, f"{scheme}://{location}{slash}{rest}", username, user.password or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """Which addresses may be connected to. The operator's settings, never a tenant's."""

    allow_loopback: bool = False
    """Loopback is the engine's own machine: closed to tenants' URLs unless the operator opens it."""
    allow_hosts: frozenset[str] = frozenset()
    """`host` or `host:port` as URLs write them: their addresses are not looked at."""
    deny_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Further networks that are closed (strict tenancy: the cluster's ranges)."""

    def allows_host(self, host: str, port: int) -> bool:
        name = f"[{host}]" if ":" in host else host
        return host in self.allow_hosts or f"{name}:{port}" in self.allow_hosts

    def check(self, host: str, port: int, address: str) -> None:
        """Raise EgressDenied unless `address`, to which `host` led, may be connected to."""
        if self.allows_host(host, port):
            return
        reason = self._reason_to_deny(_unwrapped(address))
        if reason:
            raise EgressDenied(f"connection to '{host}' is denied: {address} is {reason}")

    def _reason_to_deny(self, address: Address) -> str:
        if address in _METADATA:
            return "a cloud metadata address"
        if address.is_loopback:
            return "" if self.allow_loopback else "a loopback address"
        if address.is_link_local:
            return "a link-local address"
        if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
            return "no address of a host"
        if any(address in network for network in self.deny_networks if network.version == address.version):
            return "in a network closed by the operator"
        return ""


def _unwrapped(text: str) -> Address:
    """The address that is meant by one that carries another: mapped, 6to4, NAT64."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """TLS of one remote: CAs added to those of the system, and a client certificate, as PEM."""

    ca: bytes = b""
    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)


NO_TRUST = Trust()
"""The system's CAs, no client certificate."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that was read whole. `url` is where it came from, after redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Egress:
    """HTTP for everything that objects name by URL. One session per origin, so that connections stay alive, for the
    `origins` that were used last.

    Failures are raised as aiohttp's ClientError, TimeoutError, EgressDenied, UrlRefused, BodyTooLarge.
    """

    def __init__(
        self, policy: EgressPolicy, *, limits: HttpLimits = HTTP, user_agent: str = "headrace", origins: int = _ORIGINS
    ) -> None:
        self.policy = policy
        self.limits = limits
        self._agent = user_agent
        self._sessions = Sessions(origins)
        self._proxies: Recent[str, str] = Recent(origins)
        self._closing: list[Callable[[], None]] = []

    def on_close(self, close: Callable[[], None]) -> None:
        """Have `close` called with the gate's own connections: for those of other protocols to checked addresses."""
        self._closing.append(close)

    async def close(self) -> None:
        """Close all connections."""
        for close in self._closing:
            close()
        await self._sessions.close()

    async def request(
        self,
        method: str,
        url: RemoteUrl,
        *,
        headers: Mapping[str, str] | None = None,
        secret_headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        tls: ssl.SSLContext | None = None,
        proxy: RemoteUrl | None = None,
        timeout: float,
        body_limit: int | None = None,
        follow: bool = True,
    ) -> Answer:
        """Send a request and read the answer, whatever its status.

        `secret_headers` and the client certificate in `tls` go to the origin of `url` only. `timeout` covers it all.
        `proxy` (http, https or socks5) is a tenant's and replaces the operator's: its own address is checked instead.
        """
        limit = self.limits.body_bytes if body_limit is None else body_limit
        async with self.stream(method, url, headers=headers, secret_headers=secret_headers, body=body, tls=tls,
                               proxy=proxy, timeout=timeout, follow=follow) as response:  # fmt: skip
            content = await read_body(response, limit)
            return Answer(response.status, response.headers, content, str(response.url))

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: RemoteUrl,
        *,
        headers: Mapping[str, str] | None = None,
        secret_headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        tls: ssl.SSLContext | None = None,
        tls_elsewhere: ssl.SSLContext | None = None,
        proxy: RemoteUrl | None = None,
        timeout: float,
        follow: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """As `request`, with the body left to be read. After a redirect to another origin `tls_elsewhere` is used."""
        async with asyncio.timeout(timeout), contextlib.AsyncExitStack() as stack:
            target, secret = url, dict(secret_headers or {})
            for _ in range(self.limits.redirects + 1):
                session = await self._session(stack, target, proxy)
                sent = {**(headers or {}), **secret}
                response = await self._send(session, method, target, headers=sent, body=body, tls=tls, proxy=proxy)
                if not follow or response.status not in _REDIRECTS or "Location" not in response.headers:
                    break
                response.close()
                following = self._redirected(target, response)
                if following.origin != url.origin:
                    secret, tls = {}, tls_elsewhere
                target = following
            else:
                raise UrlRefused(f"more than {self.limits.redirects} redirects")
            try:
                yield response
            finally:
                response.release()

    def _redirected(self, source: RemoteUrl, response: aiohttp.ClientResponse) -> RemoteUrl:
        location = response.headers["Location"]
        target = parse_url(str(source.url.join(URL(location, encoded=True))))
        if source.scheme == "https" and target.scheme != "https":
            raise UrlRefused("redirect from https to http is refused")
        if target.username or target.password:
            raise UrlRefused("redirect to a URL with credentials is refused")
        return target

    async def _send(
        self, session: aiohttp.ClientSession, method: str, url: RemoteUrl, *, headers: dict[str, str],
        body: bytes | None, tls: ssl.SSLContext | None, proxy: RemoteUrl | None,
    ) -> aiohttp.ClientResponse:  # fmt: skip
        if proxy is not None and proxy.scheme == "socks5":
            return await _send_by_socks(session, method, url, headers=headers, body=body, tls=tls, proxy=proxy)
        try:
            return await session.request(
                method, url.url, headers=headers, data=body, allow_redirects=False, ssl=tls or True,
                proxy=proxy.url if proxy else self._operators_proxy(url) or None,
                proxy_headers=_proxy_headers(proxy) if proxy else None,
            )  # fmt: skip
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, EgressDenied):
                raise error.os_error from None
            raise

    async def tunnel(self, url: RemoteUrl, proxy: RemoteUrl, timeout: float) -> socket.socket:
        """A socket that is connected to the server of `url` by way of a proxy, at whose checked address it begins.

        For protocols other than HTTP. Raises EgressDenied, OSError, TimeoutError; ValueError for a proxy of https.
        """
        if proxy.scheme not in ("http", "socks5"):
            raise ValueError(f"a proxy of scheme {proxy.scheme} is not supported for {url.scheme} URLs")
        address = await self.resolve(proxy)
        if proxy.scheme == "http":
            async with asyncio.timeout(timeout):
                return await _tunnel_by_connect(url, proxy, address)
        from python_socks import ProxyError, ProxyType
        from python_socks.async_.asyncio import Proxy

        way = Proxy(
            ProxyType.SOCKS5, address, proxy.port, username=proxy.username or None, password=proxy.password or None,
            rdns=True,
        )  # fmt: skip
        try:
            return await way.connect(url.host, url.port, timeout=timeout)
        except ProxyError as error:
            raise ConnectionError(f"proxy '{proxy.host}' failed: {error}") from error

    def _operators_proxy(self, url: RemoteUrl) -> str:
        """As `proxy_for`, asked once for each origin: the whole environment is searched for it."""
        found = self._proxies.get(url.origin)
        if found is None:
            found = self._proxies.put(url.origin, proxy_for(url))
        return found

    async def _session(
        self, stack: contextlib.AsyncExitStack, url: RemoteUrl, proxy: RemoteUrl | None
    ) -> aiohttp.ClientSession:
        """The session for an origin by a way, kept open by `stack`."""
        if proxy is None:
            taken = self._sessions.taken(url.origin, lambda: self._new_session(url, None))
        elif proxy.scheme == "socks5":
            address = await self.resolve(proxy)
            # Who shares connections has the same credentials at the proxy (SEC-49).
            way = "\0".join((url.origin, proxy.origin, address, proxy.username, proxy.password))
            key = hashlib.sha256(way.encode()).hexdigest()
            taken = self._sessions.taken(key, lambda: self._session_over(_socks_connector(proxy, address)))
        else:
            taken = self._sessions.taken(f"{url.origin} {proxy.origin}", lambda: self._new_session(url, proxy))
        return await stack.enter_async_context(taken)

    def _new_session(self, url: RemoteUrl, proxy: RemoteUrl | None) -> aiohttp.ClientSession:
        peer = proxy or url

        def connect_socket(info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
            family, kind, protocol, _, address = info
            if proxy or not self._operators_proxy(url):
                self.policy.check(peer.host, peer.port, str(address[0]))
            return socket.socket(family=family, type=kind, proto=protocol)

        connector = aiohttp.TCPConnector(
            socket_factory=connect_socket,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            limit=32,
            ttl_dns_cache=10,
        )
        return self._session_over(connector)

    def _session_over(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        timeouts = aiohttp.ClientTimeout(
            total=None, sock_connect=self.limits.connect_seconds, sock_read=self.limits.stall_seconds
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeouts,
            headers={"User-Agent": self._agent},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def resolve(self, url: RemoteUrl) -> str:
        """One address of the URL's host that may be connected to: for programs that make their own connections.

        Raises EgressDenied when the host has none, OSError when it is not known.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        for *_, address in found:
            self.policy.check(url.host, url.port, str(address[0]))
        return str(found[0][4][0])


async def _send_by_socks(
    session: aiohttp.ClientSession, method: str, url: RemoteUrl, *, headers: dict[str, str], body: bytes | None,
    tls: ssl.SSLContext | None, proxy: RemoteUrl,
) -> aiohttp.ClientResponse:  # fmt: skip
    """The proxy is connected to at its checked address, and finds the server itself (SRC-COM-31)."""
    from aiohttp_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError

    try:
        return await session.request(
            method, url.url, headers=headers, data=body, allow_redirects=False, ssl=tls or True
        )
    except ProxyTimeoutError as error:
        raise TimeoutError(f"no answer of the proxy '{proxy.host}'") from error
    except (ProxyError, ProxyConnectionError) as error:
        raise aiohttp.ClientConnectionError(f"proxy '{proxy.host}' failed: {error}") from error


def _socks_connector(proxy: RemoteUrl, address: str) -> aiohttp.TCPConnector:
    from aiohttp_socks import ProxyConnector, ProxyType

    return ProxyConnector(
        address, proxy.port, ProxyType.SOCKS5, username=proxy.username or None, password=proxy.password or None,
        rdns=True, keepalive_timeout=_KEEPALIVE_SECONDS, limit=32,
    )  # fmt: skip


async def _tunnel_by_connect(url: RemoteUrl, proxy: RemoteUrl, address: str) -> socket.socket:
    """A tunnel through an HTTP proxy."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, (address, proxy.port))
        await _ask_to_connect(made, url, proxy)
    except BaseException:
        made.close()
        raise
    return made


async def _ask_to_connect(connection: socket.socket, url: RemoteUrl, proxy: RemoteUrl) -> None:
    """The answer is read to its end and no further: the server behind may speak first. Raises ConnectionError."""
    loop = asyncio.get_running_loop()
    target = f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"
    login = "".join(f"Proxy-{name}: {value}\r\n" for name, value in _proxy_headers(proxy).items())
    await loop.sock_sendall(connection, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = await loop.sock_recv(connection, 1)
        answer += byte
        if not byte or len(answer) > _PROXY_ANSWER:
            raise ConnectionError(f"proxy '{proxy.host}' failed: it gives no answer of HTTP")
    status = answer.partition(b" ")[2][:3]
    if status != b"200":
        raise ConnectionError(f"proxy '{proxy.host}' failed: it answered {status.decode('ascii', 'replace')}")


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, up to `limit` bytes; the rest is never drained (SEC-05). Raises BodyTooLarge."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > limit:
            response.close()
            raise BodyTooLarge(f"the answer of '{response.url.host}' is larger than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _proxy_headers(proxy: RemoteUrl) -> dict[str, str]:
    """aiohttp turns them into Proxy-Authorization, which the server behind never sees of a tunnel."""
    if not proxy.username:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()}


def proxy_for(url: RemoteUrl) -> str:
    """The operator's proxy for a URL (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), or empty."""
    if urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return ""
    return urllib.request.getproxies().get(url.scheme, "")
