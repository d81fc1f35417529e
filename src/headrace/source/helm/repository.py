"""A Helm repository over HTTP: its index and its charts, fetched with an identity that stays with its host.

Credentials and client certificates go to the origin of the repository alone, unless its owner says otherwise
(`passCredentials`, SRC-HRP-07): a chart's address is what the index says, and the index is a stranger's (SEC-30).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import BinaryIO

import aiohttp
from yarl import URL

from headrace.core import tls
from headrace.core.egress import NO_TRUST, BodyTooLarge, Egress, EgressDenied, RemoteUrl, Trust, UrlRefused, parse_url
from headrace.source.access import joined
from headrace.source.helm.errors import AuthenticationRequired, RepositoryError

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HelmCredentials:
    """Who is asking, and which certificates are trusted."""

    username: str = ""
    password: str = field(default="", repr=False)
    trust: Trust = NO_TRUST
    pass_credentials: bool = False

    @property
    def identity(self) -> bytes:
        """Bytes that are the same only for the same identity (SEC-49)."""
        trust = self.trust
        return joined(self.username.encode(), self.password.encode(), trust.ca, trust.certificate, trust.key,
                      b"1" if self.pass_credentials else b"")  # fmt: skip

    @property
    def headers(self) -> dict[str, str]:
        if not self.username:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()}


ANONYMOUS = HelmCredentials()


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer that was written to a file. Without `changed` the server said that it knows nothing newer."""

    changed: bool
    etag: str = ""
    modified: str = ""


def normalised(url: str) -> str:
    """The URL by which repositories are told apart: one slash at the end, none for oci."""
    head, separator, query = url.partition("?")
    head = head.rstrip("/") + ("" if url.startswith("oci://") else "/")
    return head + separator + query


class HelmRepositoryClient:
    """One repository with one identity."""

    def __init__(self, url: RemoteUrl, credentials: HelmCredentials, egress: Egress) -> None:
        self._url = url
        username, password = credentials.username or url.username, credentials.password or url.password
        self._credentials = replace(credentials, username=username, password=password)
        self._egress = egress

    @property
    def host(self) -> str:
        """Where it is polled."""
        return self._url.origin

    def key(self, secret: bytes) -> str:
        """A name that is the same only for the same repository and identity; meaningless without `secret`."""
        text = normalised(self._url.text).encode()
        return hashlib.blake2b(joined(text, self._credentials.identity), key=secret, digest_size=16).hexdigest()

    async def index(self, file: BinaryIO, *, timeout: float, limit: int, known: Fetched | None = None) -> Fetched:
        """Write the index to `file`, unless the server says that `known` is still what it has.

        Raises RepositoryError, AuthenticationRequired, OSError for the file.
        """
        headers: dict[str, str] = {}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        elif known is not None and known.modified:
            headers["If-Modified-Since"] = known.modified
        base = self._url.url
        url = str(base.with_path(base.raw_path.rstrip("/") + "/index.yaml", encoded=True, keep_query=True))
        return await self._fetch(url, file, timeout, limit, headers, "index")

    async def chart(self, reference: str, file: BinaryIO, *, timeout: float, limit: int) -> None:
        """Write the chart at a URL of the index, relative to the repository or anywhere. Raises as `index`."""
        await self._fetch(self.resolved(reference), file, timeout, limit, {}, "chart")

    def resolved(self, reference: str) -> str:
        """The whole URL of a chart. Raises RepositoryError."""
        try:
            target = URL(reference, encoded=True)
            if target.is_absolute() and target.scheme:
                return reference
            base = URL(normalised(self._url.text), encoded=True)
            joined_url = base.with_query(None).join(target)
            return str(joined_url.with_query(base.query_string) if base.query_string else joined_url)
        except ValueError as error:
            raise RepositoryError(f"failed to parse '{reference[:256]}' as URL") from error

    async def _fetch(
        self, url: str, file: BinaryIO, timeout: float, limit: int, headers: Mapping[str, str], what: str
    ) -> Fetched:
        with _told(url):
            target = parse_url(url)
            ours = target.origin == self._url.origin or self._credentials.pass_credentials
            secret = self._credentials.headers if ours else {}
            context = self._context if ours else self._anonymous_context
            async with self._egress.stream(
                "GET", target, headers=headers, secret_headers=secret, tls=context, timeout=timeout
            ) as response:
                if response.status == 304 and headers:
                    return Fetched(changed=False)
                _check(response, url)
                await _copy(response, file, limit, what)
                return Fetched(True, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))

    @cached_property
    def _context(self) -> ssl.SSLContext | None:
        return None if self._credentials.trust == NO_TRUST else tls.context(self._credentials.trust)

    @cached_property
    def _anonymous_context(self) -> ssl.SSLContext | None:
        """For other hosts: what is trusted there too, without our certificate."""
        ca = self._credentials.trust.ca
        return tls.context(Trust(ca=ca)) if ca else None


def _check(response: aiohttp.ClientResponse, url: str) -> None:
    if response.status in (401, 403):
        raise AuthenticationRequired(f"failed to fetch {_shown(url)} : {response.status} {response.reason}")
    if response.status != 200:
        raise RepositoryError(f"failed to fetch {_shown(url)} : {response.status} {response.reason}")


async def _copy(response: aiohttp.ClientResponse, file: BinaryIO, limit: int, what: str) -> None:
    """Never a byte more than is accepted (SEC-05)."""
    size = 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        size += len(chunk)
        if size > limit:
            response.close()
            raise RepositoryError(f"{what} exceeds the maximum {what} file size of {limit} bytes")
        file.write(chunk)


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except (UrlRefused, EgressDenied) as error:
        raise RepositoryError(str(error)) from error
    except TimeoutError as error:
        raise RepositoryError(f'Get "{_shown(url)}": context deadline exceeded: no complete answer in time') from error
    except aiohttp.ClientSSLError as error:
        raise AuthenticationRequired(f'Get "{_shown(url)}": tls: {error}') from error
    except (aiohttp.ClientError, BodyTooLarge, ConnectionError) as error:
        raise RepositoryError(f'Get "{_shown(url)}": {error or type(error).__name__}') from error


def _shown(url: str) -> str:
    """Without user, password and query, which may be secret."""
    try:
        return str(URL(url, encoded=True).with_user(None).with_query(None))
    except ValueError:
        return url[:256]
