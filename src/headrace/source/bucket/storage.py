"""The border between buckets and the protocols of object storage: S3, Google Cloud Storage, Azure Blob Storage.

A store is one bucket with one identity. It speaks the protocol itself over `core.egress`, so that what is true of
every URL is true of buckets: addresses are checked where they are connected to, credentials stay with their origin.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import aiohttp

from headrace.core import tls
from headrace.core.egress import NO_TRUST, Egress, RemoteUrl, Trust
from headrace.core.limits import KIB, MIB

LISTING_BYTES = 16 * MIB
"""The largest page of a listing that is read: a thousand keys of a thousand bytes take some two (SEC-05)."""
_ERROR_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it. `version` is what the protocol needs to fetch exactly this one."""

    key: str
    etag: str
    size: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """An object that is being read. `etag` is that of the content which `chunks` gives."""

    etag: str
    chunks: AsyncIterator[bytes]


class ObjectStorage(Protocol):
    """One bucket with one identity. All methods raise BucketError, and what comes of the deadline around them."""

    def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        """All objects whose keys begin with `prefix`. Raises BucketNotFound."""
        ...

    def open(self, listed: Listed) -> AbstractAsyncContextManager[Opened]:
        """The content of an object as it is now. Raises ObjectNotFound."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a server is reached: TLS data, proxy, and the time for one request."""

    egress: Egress
    timeout: float
    trust: Trust = NO_TRUST
    proxy: RemoteUrl | None = field(default=None)

    @contextlib.asynccontextmanager
    async def get(
        self, url: RemoteUrl, secret_headers: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET without following redirects: they would change what is signed."""
        async with self.egress.stream(
            "GET", url, headers=headers, secret_headers=secret_headers, tls=self._context(url), proxy=self.proxy,
            timeout=self.timeout, follow=False,
        ) as response:  # fmt: skip
            yield response

    def _context(self, url: RemoteUrl) -> ssl.SSLContext | None:
        return _context(self.trust) if url.scheme == "https" and self.trust != NO_TRUST else None


@lru_cache(maxsize=64)
def _context(trust: Trust) -> ssl.SSLContext:
    """Kept: connections are reused only with the very same context."""
    return tls.context(trust)


async def error_body(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of the body of an error."""
    return await response.content.read(_ERROR_BYTES)


def plain_etag(text: str) -> str:
    """An ETag without quotes: listings and answers write the same one differently."""
    return text.strip().removeprefix("W/").strip('"')
