"""Google Cloud Storage by its JSON API: objects are listed with their generation, and fetched in exactly that one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from headrace.core.egress import RemoteUrl, parse_url, read_body
from headrace.core.sigv4 import encoded_query
from headrace.source.bucket.errors import BucketError, BucketNotFound, ObjectNotFound, shown, told
from headrace.source.bucket.storage import LISTING_BYTES, Listed, Opened, Way, error_body

T = TypeVar("T")

_FIELDS = "items(name,etag,size,generation),nextPageToken"


class _Item(msgspec.Struct, frozen=True, gc=False):
    name: str
    etag: str = ""
    size: str = "0"
    generation: str = ""


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    items: tuple[_Item, ...] = ()
    next_page_token: str = ""


class _Detail(msgspec.Struct, frozen=True):
    message: str = ""


class _Failure(msgspec.Struct, frozen=True):
    error: _Detail = _Detail()


def gcs_endpoint(endpoint: str, *, insecure: bool) -> RemoteUrl:
    """The URL for `spec.endpoint`, `host` or `host:port`. Raises ValueError."""
    if "://" in endpoint:
        endpoint = endpoint.partition("://")[2]
    if "/" in endpoint.rstrip("/") or "@" in endpoint:
        raise ValueError(f"endpoint '{shown(endpoint)}' is not of the form 'host' or 'host:port'")
    return parse_url(f"{'http' if insecure else 'https'}://{endpoint.rstrip('/')}/")


class GcsStorage:
    """One bucket with one access token, which may be empty. See `storage.ObjectStorage`."""

    def __init__(self, endpoint: RemoteUrl, bucket: str, token: str, way: Way) -> None:
        self._endpoint = endpoint
        self._bucket = bucket
        self._base = f"{endpoint.text}storage/v1/b/{quote(bucket, safe='')}/o"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._way = way

    async def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        token = ""
        while True:
            query = [("fields", _FIELDS), ("maxResults", "1000"), ("prefix", prefix)]
            page = await self._page(query + ([("pageToken", token)] if token else []))
            yield [_listed(item) for item in page.items]
            token = page.next_page_token
            if not token:
                return

    async def _page(self, query: list[tuple[str, str]]) -> _Page:
        with told(self._endpoint.host):
            async with self._way.get(self._url(self._base, query), self._headers) as response:
                if response.status != 200:
                    raise await self._failure(response, "")
                return _decoded(await read_body(response, LISTING_BYTES), _Page)

    @contextlib.asynccontextmanager
    async def open(self, listed: Listed) -> AsyncIterator[Opened]:
        """Exactly what was listed; when that is no more, what is there now."""
        with told(self._endpoint.host):
            if not listed.version:
                listed = await self._now(listed.key)
            try:
                async with self._media(listed) as opened:
                    yield opened
                    return
            except _Moved:
                listed = await self._now(listed.key)
            async with self._media(listed) as opened:
                yield opened

    @contextlib.asynccontextmanager
    async def _media(self, listed: Listed) -> AsyncIterator[Opened]:
        url = self._url(self._path(listed.key), [("alt", "media"), ("generation", listed.version)])
        async with self._way.get(url, self._headers) as response:
            if response.status == 404:
                raise _Moved(f"object '{shown(listed.key)}' not found")
            if response.status != 200:
                raise await self._failure(response, listed.key)
            yield Opened(listed.etag, response.content.iter_any())

    async def _now(self, key: str) -> Listed:
        url = self._url(self._path(key), [("fields", "name,etag,size,generation")])
        async with self._way.get(url, self._headers) as response:
            if response.status != 200:
                raise await self._failure(response, key)
            return _listed(_decoded(await read_body(response, LISTING_BYTES), _Item))

    def _path(self, key: str) -> str:
        return f"{self._base}/{quote(key, safe='')}"

    def _url(self, text: str, query: list[tuple[str, str]]) -> RemoteUrl:
        return replace(self._endpoint, text=f"{text}?{encoded_query(query)}")

    async def _failure(self, response: aiohttp.ClientResponse, key: str) -> BucketError:
        if response.status == 404 and not key:
            return BucketNotFound(f"bucket '{self._bucket}' not found")
        if response.status == 404:
            return ObjectNotFound(f"object '{shown(key)}' not found")
        try:
            said = shown(msgspec.json.decode(await error_body(response), type=_Failure).error.message)
        except msgspec.MsgspecError:
            said = ""
        return BucketError(f"{said or 'the server refuses'} (status {response.status})")


class _Moved(ObjectNotFound):
    """The generation that was listed is no more."""


def _listed(item: _Item) -> Listed:
    return Listed(item.name, item.etag, int(item.size) if item.size.isdecimal() else 0, item.generation)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise BucketError("the answer is not that of Google Cloud Storage") from error
