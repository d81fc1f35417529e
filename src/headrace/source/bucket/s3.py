"""S3, as Amazon's and as every compatible server's: ListObjectsV2 and GetObject, signed with Signature Version 4."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote_plus
from xml.etree.ElementTree import Element

import aiohttp

from headrace.core.clock import Clock
from headrace.core.egress import RemoteUrl, parse_url, read_body
from headrace.core.sigv4 import AwsKeys, encoded_query, sign
from headrace.core.xml import XmlRefused, parse_xml, text_at
from headrace.source.bucket.errors import BucketError, BucketNotFound, ObjectNotFound, shown, told
from headrace.source.bucket.storage import LISTING_BYTES, Listed, Opened, Way, error_body, plain_etag

DEFAULT_REGION = "us-east-1"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{1,254}")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
_AWS_HOST = re.compile(r"(?:.+\.)?s3[.-](?:dualstack\.|fips\.)*([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?")
_BY_HOST_NAME = (".amazonaws.com", ".amazonaws.com.cn", "storage.googleapis.com", ".aliyuncs.com")
"""Servers whose buckets are parts of the host name; all others have them in the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Location:
    """Where a bucket is. `endpoint` is the server's URL without a path; an empty region is found out."""

    endpoint: RemoteUrl
    bucket: str
    region: str = ""


def s3_endpoint(endpoint: str, *, insecure: bool) -> RemoteUrl:
    """The URL for `spec.endpoint`, which is `host` or `host:port`. Raises ValueError."""
    if "/" in endpoint.rstrip("/") or "://" in endpoint:
        raise ValueError(f"endpoint '{shown(endpoint)}' is not of the form 'host' or 'host:port'")
    url = parse_url(f"{'http' if insecure else 'https'}://{endpoint.rstrip('/')}/")
    if url.username or url.password:
        raise ValueError("the endpoint of a bucket has no user name")
    return url


class S3Storage:
    """One bucket; `keys` None means that nothing is signed. See `storage.ObjectStorage`."""

    def __init__(self, location: S3Location, keys: AwsKeys | None, way: Way, clock: Clock) -> None:
        if not _BUCKET.fullmatch(location.bucket):
            raise ValueError(f"'{shown(location.bucket)}' cannot be the name of a bucket")
        if location.region and not _REGION.fullmatch(location.region):
            raise ValueError(f"'{shown(location.region)}' cannot be the name of a region")
        self._bucket = location.bucket
        self._base = _base(location)
        self._region = location.region or region_of(location.endpoint.host)
        self._keys = keys
        self._way = way
        self._clock = clock

    async def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        token = ""
        while True:
            query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", "1000"), ("prefix", prefix)]
            query += [("continuation-token", token)] if token else []
            page = await self._listing(query)
            yield [_listed(element, page) for element in page.iterfind("Contents")]
            token = text_at(page, "NextContinuationToken")
            if text_at(page, "IsTruncated") != "true":
                return
            if not token:
                raise BucketError(f"the listing of bucket '{self._bucket}' is cut and cannot be continued")

    async def _listing(self, query: list[tuple[str, str]]) -> Element:
        with told(self._base.host):
            async with self._get("", query) as response:
                if response.status != 200:
                    raise await self._failure(response, "")
                return _parsed(await read_body(response, LISTING_BYTES))

    @contextlib.asynccontextmanager
    async def open(self, listed: Listed) -> AsyncIterator[Opened]:
        with told(self._base.host):
            async with self._get(quote(listed.key, safe="/~"), []) as response:
                if response.status != 200:
                    raise await self._failure(response, listed.key)
                etag = plain_etag(response.headers.get("ETag", "")) or listed.etag
                yield Opened(etag, response.content.iter_any())

    @contextlib.asynccontextmanager
    async def _get(self, path: str, query: list[tuple[str, str]]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Asked again, once, in the region that the server names when it is another one."""
        for attempt in range(2):
            url = replace(self._base, text=f"{self._base.text}{path}{'?' if query else ''}{encoded_query(query)}")
            async with self._way.get(url, self._signature(url)) as response:
                region = response.headers.get("x-amz-bucket-region", "")
                moved = response.status in (301, 400) and region not in ("", self._region)
                if attempt or not moved or not _REGION.fullmatch(region):
                    yield response
                    return
            self._region = region

    def _signature(self, url: RemoteUrl) -> dict[str, str]:
        if self._keys is None:
            return {}
        return sign("GET", url, keys=self._keys, region=self._region, service="s3", now=self._clock.now())

    async def _failure(self, response: aiohttp.ClientResponse, key: str) -> BucketError:
        code, message = _code(await error_body(response))
        if code == "NoSuchBucket" or (response.status == 404 and not key):
            return BucketNotFound(f"bucket '{self._bucket}' not found")
        if response.status == 404:
            return ObjectNotFound(f"object '{shown(key)}' not found")
        return BucketError(f"{message or 'the server refuses'} ({code or f'status {response.status}'})")


def _base(location: S3Location) -> RemoteUrl:
    """The URL of the bucket, with a slash at the end."""
    endpoint, bucket = location.endpoint, location.bucket
    dotted_over_tls = endpoint.scheme == "https" and "." in bucket
    if not f".{endpoint.host}".endswith(_BY_HOST_NAME) or dotted_over_tls:
        return replace(endpoint, text=f"{endpoint.text}{quote(bucket, safe='~')}/")
    return parse_url(f"{endpoint.scheme}://{bucket}.{endpoint.host}:{endpoint.port}/")


def region_of(host: str) -> str:
    """The region that the host name of an AWS endpoint says, else the default one."""
    match = _AWS_HOST.fullmatch(host)
    return match[1] if match else DEFAULT_REGION


def _listed(element: Element, page: Element) -> Listed:
    key = element.findtext("Key") or ""
    if text_at(page, "EncodingType") == "url":
        key = unquote_plus(key)
    size = text_at(element, "Size")
    return Listed(key, plain_etag(text_at(element, "ETag")), int(size) if size.isdecimal() else 0)


def _parsed(body: bytes) -> Element:
    try:
        page = parse_xml(body)
    except XmlRefused as error:
        raise BucketError(f"the answer is not that of an S3 server: {error}") from error
    if page.tag != "ListBucketResult":
        raise BucketError(f"the answer is not that of an S3 server: it is a {shown(page.tag)}")
    return page


def _code(body: bytes) -> tuple[str, str]:
    """Code and message of an error, empty when it says none."""
    try:
        error = parse_xml(body)
    except XmlRefused:
        return "", ""
    return shown(text_at(error, "Code")), shown(text_at(error, "Message")).rstrip(".")
