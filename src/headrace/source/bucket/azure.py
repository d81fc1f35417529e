"""Azure Blob Storage by its REST API: with a shared key, a shared access signature, a token, or nothing."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, quote

import aiohttp

from headrace.core.clock import Clock
from headrace.core.egress import RemoteUrl, parse_url, read_body
from headrace.core.sigv4 import encoded_query
from headrace.core.xml import XmlRefused, parse_xml, text_at
from headrace.source.bucket.errors import BucketError, BucketNotFound, ObjectNotFound, shown, told
from headrace.source.bucket.storage import LISTING_BYTES, Listed, Opened, Way, error_body, plain_etag

_VERSION = "2021-12-02"
_CONTAINER = re.compile(r"\$root|\$web|[a-z0-9](?:-?[a-z0-9])+")
Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AzureLocation:
    """Where a container is: the URL of the storage account, without query, and the name."""

    endpoint: tuple[RemoteUrl, Query]
    container: str


def azure_endpoint(text: str) -> tuple[RemoteUrl, Query]:
    """The URL of `spec.endpoint`, and its query, which may be a shared access signature. Raises UrlRefused."""
    url, _, query = text.partition("?")
    parsed = parse_url(url.rstrip("/") + "/")
    return parsed, tuple(parse_qsl(query, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class _Identity:
    """One of the ways to say who asks."""

    token: str = ""
    account: str = ""
    key: bytes = b""
    query: Query = ()


class AzureStorage:
    """One container with one identity. See `storage.ObjectStorage`."""

    def __init__(self, location: AzureLocation, identity: _Identity, way: Way, clock: Clock) -> None:
        if not _CONTAINER.fullmatch(location.container):
            raise ValueError(f"'{shown(location.container)}' cannot be the name of a container")
        self._endpoint, self._own_query = location.endpoint
        self._container = location.container
        self._identity = identity
        self._way = way
        self._clock = clock

    @classmethod
    def with_key(cls, location: AzureLocation, key: str, way: Way, clock: Clock) -> AzureStorage:
        """By the account's shared key. Raises ValueError."""
        try:
            decoded = base64.b64decode(key, validate=True)
        except binascii.Error:
            raise ValueError("invalid secret: 'accountKey' is not Base64") from None
        return cls(location, _Identity(account=_account(location.endpoint[0]), key=decoded), way, clock)

    @classmethod
    def with_sas(cls, location: AzureLocation, sas: str, way: Way, clock: Clock) -> AzureStorage:
        """By a shared access signature, to which the endpoint's own query is added (SRC-BKT-12). Raises ValueError."""
        try:
            query = tuple(parse_qsl(sas.strip().removeprefix("?"), keep_blank_values=True, strict_parsing=True))
        except ValueError:
            raise ValueError("invalid secret: unable to parse SAS token") from None
        return cls(location, _Identity(query=query), way, clock)

    @classmethod
    def with_token(cls, location: AzureLocation, token: str, way: Way, clock: Clock) -> AzureStorage:
        """By an access token; without one nobody asks."""
        return cls(location, _Identity(token=token), way, clock)

    async def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        marker = ""
        while True:
            query = [("restype", "container"), ("comp", "list"), ("maxresults", "1000"), ("prefix", prefix)]
            page, marker = await self._page(query + ([("marker", marker)] if marker else []))
            yield page
            if not marker:
                return

    async def _page(self, query: list[tuple[str, str]]) -> tuple[list[Listed], str]:
        with told(self._endpoint.host):
            async with self._get(quote(self._container, safe="$"), query) as response:
                if response.status != 200:
                    raise await self._failure(response, "")
                return _listing(await read_body(response, LISTING_BYTES))

    @contextlib.asynccontextmanager
    async def open(self, listed: Listed) -> AsyncIterator[Opened]:
        with told(self._endpoint.host):
            path = f"{quote(self._container, safe='$')}/{quote(listed.key, safe='/~')}"
            async with self._get(path, []) as response:
                if response.status != 200:
                    raise await self._failure(response, listed.key)
                etag = plain_etag(response.headers.get("ETag", "")) or listed.etag
                yield Opened(etag, response.content.iter_any())

    @contextlib.asynccontextmanager
    async def _get(self, path: str, query: list[tuple[str, str]]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The signature goes into the query, which no message ever shows."""
        given = {name for name, _ in (*query, *self._identity.query)}
        query = [*query, *self._identity.query, *(item for item in self._own_query if item[0] not in given)]
        text = f"{self._endpoint.text}{path}{'?' if query else ''}{encoded_query(query)}"
        async with self._way.get(replace(self._endpoint, text=text), self._headers(path, query)) as response:
            yield response

    def _headers(self, path: str, query: list[tuple[str, str]]) -> dict[str, str]:
        date = format_datetime(datetime.fromtimestamp(self._clock.now(), UTC), usegmt=True)
        headers = {"x-ms-date": date, "x-ms-version": _VERSION}
        if self._identity.token:
            return headers | {"Authorization": f"Bearer {self._identity.token}"}
        if not self._identity.key:
            return headers
        signed = _string_to_sign(headers, self._identity.account, f"{self._endpoint.url.raw_path}{path}", query)
        signature = base64.b64encode(hmac.digest(self._identity.key, signed.encode(), "sha256")).decode()
        return headers | {"Authorization": f"SharedKey {self._identity.account}:{signature}"}

    async def _failure(self, response: aiohttp.ClientResponse, key: str) -> BucketError:
        code = response.headers.get("x-ms-error-code", "") or _code(await error_body(response))
        if code == "ContainerNotFound" or (response.status == 404 and not key):
            return BucketNotFound(f"bucket '{self._container}' not found")
        if response.status == 404:
            return ObjectNotFound(f"object '{shown(key)}' not found")
        if code == "AuthenticationFailed":
            return BucketError(
                "the specified bucket name may be incorrect, nonexistent, or the caller might lack sufficient "
                "permissions to access it (AuthenticationFailed)"
            )
        return BucketError(f"the server refuses ({shown(code) or f'status {response.status}'})")


def _string_to_sign(headers: dict[str, str], account: str, path: str, query: list[tuple[str, str]]) -> str:
    """The form that a GET without a body has under the Shared Key scheme."""
    own = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    resource = f"/{account}{path}" + "".join(f"\n{name.lower()}:{value}" for name, value in sorted(query))
    return "GET" + "\n" * 12 + own + resource


def _account(endpoint: RemoteUrl) -> str:
    """The name of the account: of the host, or of the path where the host is an address (an emulator)."""
    path = endpoint.url.path.strip("/")
    name = path or endpoint.host.partition(".")[0]
    if not name:
        raise ValueError("the endpoint does not name a storage account")
    return name


def _listing(body: bytes) -> tuple[list[Listed], str]:
    """The objects of a page, and where the next begins."""
    try:
        page = parse_xml(body)
    except XmlRefused as error:
        raise BucketError(f"the answer is not that of Azure Blob Storage: {error}") from error
    if page.tag != "EnumerationResults":
        raise BucketError("the answer is not that of Azure Blob Storage")
    found = []
    for blob in page.iterfind("Blobs/Blob"):
        size = text_at(blob, "Properties/Content-Length")
        etag = plain_etag(text_at(blob, "Properties/Etag"))
        found.append(Listed(blob.findtext("Name") or "", etag, int(size) if size.isdecimal() else 0))
    return found, text_at(page, "NextMarker")


def _code(body: bytes) -> str:
    try:
        return text_at(parse_xml(body), "Code")
    except XmlRefused:
        return ""
