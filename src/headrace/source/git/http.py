"""Git over HTTP: refs by requests of our own on a connection that stays open, content by the git program.

One poll of a version 2 server is one POST; its capabilities are asked once. A redirect of the first request is
followed and checked by core.egress; the git program gets the final address and follows none itself (SEC-29, SEC-30).
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from headrace.core import tls
from headrace.core.egress import Answer, BodyTooLarge, Egress, EgressDenied, RemoteUrl, UrlRefused, parse_url, proxy_for
from headrace.core.limits import MIB
from headrace.source.git.credentials import Credentials
from headrace.source.git.errors import AuthenticationRequired, GitError
from headrace.source.git.pktline import Advertisement, ls_refs_request, parse_advertisement, parse_ls_refs
from headrace.source.git.refs import RefTarget
from headrace.source.git.transport import GitAccess

_AGENT = "headrace"
_SERVICE = "git-upload-pack"
_INFO = f"/info/refs?service={_SERVICE}"
_REFS_BYTES = 64 * MIB
"""The largest list of refs that is read: some 600 000 (SEC-10)."""
_LOW_SPEED_BYTES, _LOW_SPEED_SECONDS = 1000, 20
"""A transfer below so many bytes a second for so many seconds is given up (REL-27)."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where the repository really is, and what its server can do."""

    base: RemoteUrl
    service: RemoteUrl
    advertisement: Advertisement


class HttpTransport:
    """One repository with one identity, over http or https."""

    def __init__(self, url: RemoteUrl, credentials: Credentials, egress: Egress) -> None:
        self.url = url
        self._credentials = credentials
        self._egress = egress
        self._endpoint: _Endpoint | None = None
        self._context: ssl.SSLContext | None = None

    def renew(self, credentials: Credentials) -> None:
        """Use credentials that were issued anew for the same identity."""
        self._credentials = credentials

    async def refs(self, prefixes: Sequence[str], timeout: float) -> Mapping[str, RefTarget]:
        """The refs that begin with one of the prefixes. Raises GitError.

        A server that does not know version 2 has sent all its refs with the first answer already.
        """
        with self._told("unable to list remote"):
            endpoint = self._endpoint or await self._discover(timeout)
            if endpoint.advertisement.version != 2:
                refs: Mapping[str, RefTarget] = endpoint.advertisement.refs
                self._endpoint = None
            else:
                refs = await self._ls_refs_again(endpoint, prefixes, timeout)
        return {name: target for name, target in refs.items() if not prefixes or name.startswith(tuple(prefixes))}

    async def _ls_refs_again(
        self, endpoint: _Endpoint, prefixes: Sequence[str], timeout: float
    ) -> Mapping[str, RefTarget]:
        """A connection kept alive may have been closed at the other end: that counts as no attempt."""
        try:
            return await self._ls_refs(endpoint, prefixes, timeout)
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            return await self._ls_refs(await self._discover(timeout), prefixes, timeout)

    async def _ls_refs(
        self, endpoint: _Endpoint, prefixes: Sequence[str], timeout: float
    ) -> Mapping[str, RefTarget]:
        body = ls_refs_request(prefixes, endpoint.advertisement.object_format, _AGENT)
        headers = {
            "Git-Protocol": "version=2",
            "Content-Type": f"application/x-{_SERVICE}-request",
            "Accept": f"application/x-{_SERVICE}-result",
        }
        self._endpoint = None
        answer = await self._send("POST", endpoint.base, endpoint.service, headers, timeout, body=body)
        _check(answer, f"application/x-{_SERVICE}-result")
        refs = parse_ls_refs(answer.body)
        self._endpoint = endpoint
        return refs

    async def _discover(self, timeout: float) -> _Endpoint:
        answer = await self._send("GET", self.url, _below(self.url, _INFO), {"Git-Protocol": "version=2"}, timeout)
        _check(answer, f"application/x-{_SERVICE}-advertisement")
        base = self.url
        if answer.url != self.url.text.rstrip("/") + _INFO:
            if not answer.url.endswith(_INFO):
                raise GitError("redirected to what is no git repository")
            base = parse_url(answer.url.removesuffix(_INFO))
        self._endpoint = _Endpoint(base, _below(base, f"/{_SERVICE}"), parse_advertisement(answer.body))
        return self._endpoint

    async def _send(
        self,
        method: str,
        base: RemoteUrl,
        target: RemoteUrl,
        headers: Mapping[str, str],
        timeout: float,
        *,
        body: bytes | None = None,
    ) -> Answer:
        return await self._egress.request(
            method,
            target,
            headers=headers,
            secret_headers=self._authorization(base),
            body=body,
            tls=self._tls() if base.origin == self.url.origin else None,
            proxy=self._credentials.proxy,
            timeout=timeout,
            body_limit=_REFS_BYTES,
            follow=method == "GET",
        )

    def _authorization(self, base: RemoteUrl) -> dict[str, str]:
        """Credentials are for the origin that the object names, not for where that redirects to."""
        if not self._credentials.authorization or base.origin != self.url.origin:
            return {}
        return {"Authorization": self._credentials.authorization}

    def _tls(self) -> ssl.SSLContext | None:
        if self.url.scheme != "https":
            return None
        if self._context is None:
            self._context = tls.context(self._credentials.trust)
        return self._context

    @contextlib.asynccontextmanager
    async def access(self, timeout: float) -> AsyncIterator[GitAccess]:
        """Configuration for the git program: our address, our credentials, no redirects, a checked IP address."""
        with self._told("unable to clone"):
            endpoint = self._endpoint or await self._discover(timeout)
            base = endpoint.base
            config = {
                "http.followRedirects": "false",
                "http.lowSpeedLimit": str(_LOW_SPEED_BYTES),
                "http.lowSpeedTime": str(_LOW_SPEED_SECONDS),
                "http.userAgent": f"git/{_AGENT}",
            }
            config |= await self._way(base)
        for name, value in self._authorization(base).items():
            config["http.extraHeader"] = f"{name}: {value}"
        with tempfile.TemporaryDirectory(prefix="headrace-git-") as folder:
            if base.origin == self.url.origin:
                config |= self._tls_files(Path(folder))
            yield GitAccess(base.text, config)

    async def _way(self, base: RemoteUrl) -> dict[str, str]:
        """To the server, or to the proxy before it: the Secret's before that of the environment (SRC-COM-31)."""
        proxy = self._credentials.proxy
        if proxy is not None:
            way = _with_userinfo(await self._pinned(proxy))
            return {"http.proxy": way, "http.curloptResolve": await self._pin(proxy)}
        if operators := proxy_for(base):
            return {"http.proxy": operators}
        return {"http.curloptResolve": await self._pin(base)}

    async def _pinned(self, proxy: RemoteUrl) -> RemoteUrl:
        """A SOCKS proxy by its checked address, for curl looks such names up by itself; it resolves the server's."""
        if proxy.scheme != "socks5":
            return proxy
        address = await self._egress.resolve(proxy)
        host = f"[{address}]" if ":" in address else address
        return replace(proxy, scheme="socks5h", text=f"socks5h://{host}:{proxy.port}")

    async def _pin(self, base: RemoteUrl) -> str:
        """git connects to the very address that was checked, whatever DNS says a moment later."""
        address = await self._egress.resolve(base)
        shown = f"[{address}]" if ":" in address else address
        return f"{base.host}:{base.port}:{shown}"

    def _tls_files(self, folder: Path) -> dict[str, str]:
        trust = self._credentials.trust
        files = {
            "http.sslCert": trust.certificate,
            "http.sslKey": trust.key,
            "http.sslCAInfo": tls.system_bundle() + b"\n" + trust.ca if trust.ca else b"",
        }
        config: dict[str, str] = {}
        for option, content in files.items():
            if content:
                path = folder / option
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                config[option] = str(path)
        return config

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn every way in which HTTP fails into a GitError that names the repository and no secret."""
        try:
            yield
        except AuthenticationRequired as error:
            raise AuthenticationRequired(f"{what} for '{self.url.text}': {error}") from error
        except (GitError, UrlRefused, EgressDenied, BodyTooLarge, ValueError) as error:
            raise GitError(f"{what} for '{self.url.text}': {error}") from error
        except TimeoutError as error:
            raise GitError(f"{what} for '{self.url.text}': context deadline exceeded: no answer in time") from error
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error.os_error)
            raise GitError(f"{what} for '{self.url.text}': cannot connect: {reason}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise GitError(f"{what} for '{self.url.text}': {str(error) or type(error).__name__}") from error


def _below(base: RemoteUrl, path: str) -> RemoteUrl:
    return parse_url(base.text.rstrip("/") + path)


def _with_userinfo(proxy: RemoteUrl) -> str:
    """For git's configuration, which knows no other place for credentials."""
    if not proxy.username:
        return proxy.text
    return str(proxy.url.with_user(proxy.username).with_password(proxy.password or None))


def _check(answer: Answer, content_type: str) -> None:
    """Raise the GitError that the status or type of an answer calls for."""
    if answer.status in (401, 403):
        wanted = "authentication required" if answer.status == 401 else "authorization failed"
        raise AuthenticationRequired(wanted)
    if answer.status in (404, 410):
        raise GitError("repository not found")
    if answer.status != 200:
        raise GitError(f"unexpected status {answer.status} of the server")
    if answer.headers.get("Content-Type", "").partition(";")[0].strip() != content_type:
        raise GitError("the answer is not that of a git server with the smart HTTP protocol")
