"""The registry client: manifests, blobs, tags and referrers, read and written by the OCI distribution protocol.

    registry = Registry(egress, clock)
    repository = parse_url("oci://ghcr.io/org/app")
    access = Access(keychain=keychain_of([secret_data]))
    found = await registry.resolve(repository, "v1", access, timeout=60)        # HEAD
    image = await registry.image(repository, found.digest, access, timeout=60)  # platform chosen, digest checked
    await registry.blob(repository, image.layers[0], file, access, timeout=60)  # digest and size checked

One Registry serves the whole engine: it keeps connections, tokens and challenges for everybody, apart by identity.
Everything raises OciError (NotFound, Denied, DigestMismatch), and OSError only for the file that is written.
`timeout` covers a whole operation, authorization, retries and waiting for a busy registry included.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import BinaryIO
from urllib.parse import urlencode

import msgspec

from headrace.core.clock import Clock
from headrace.core.egress import Egress, read_body
from headrace.core.limits import MIB, UNPACK
from headrace.source.oci.credentials import Access
from headrace.source.oci.errors import DigestMismatch, NotFound, OciError
from headrace.source.oci.manifest import ACCEPTED, INDEX, Content, Descriptor, Index, Manifest, of_platform
from headrace.source.oci.reference import (
    ReferenceRefused,
    Repository,
    check_digest,
    check_tag,
    digest_of,
    hasher,
    is_digest,
    matches,
)
from headrace.source.oci.transport import Call, Transport, failure, told

MANIFEST_BYTES = 4 * MIB
"""The largest manifest: what the distribution specification asks registries to take."""
BLOB_BYTES = UNPACK.archive_bytes
"""The largest blob that is fetched."""
TAGS = 100_000
"""Tags of one repository that are looked at."""
_PAGE = 1000
_PAGES = 1000
_PAGE_BYTES = 8 * MIB
_CHUNK = MIB
_NEXT = re.compile(r'\s*<([^<>]+)>\s*;\s*rel="?next"?\s*$')
_OCTETS = "application/octet-stream"


class _TagPage(msgspec.Struct, frozen=True, gc=False):
    tags: tuple[str, ...] | None = None


class Registry:
    """All registries. `trusted_token_hosts` may ask for the credentials of registries of other domains."""

    def __init__(self, egress: Egress, clock: Clock, *, trusted_token_hosts: frozenset[str] = frozenset()) -> None:
        self._transport = Transport(egress, clock, trusted_token_hosts=trusted_token_hosts)

    # -- reading -------------------------------------------------------------------------------------------------

    async def resolve(self, repository: Repository, reference: str, access: Access, *, timeout: float) -> Descriptor:
        """What a tag or digest names now, by HEAD; by GET where the registry does not answer that (SRC-OCI-01).

        Later steps use the digest of the answer, never the tag again (SEC-46).
        """
        call = self._manifest_call("HEAD", repository, reference, access, timeout)
        with told(repository):
            async with self._transport.stream(call) as response:
                found = _described(response.headers) if response.status == 200 else None
                if response.status in (403, 429):
                    raise await failure(response, repository.named(reference))
        if found is None:
            left = self._transport.left(call.deadline)
            return (await self.manifest(repository, reference, access, timeout=left)).descriptor
        if is_digest(reference) and found.digest != reference:
            raise DigestMismatch(f"{repository.named(reference)}: the registry answered with digest '{found.digest}'")
        return found

    async def manifest(self, repository: Repository, reference: str, access: Access, *, timeout: float) -> Content:
        """The manifest or index of a tag or digest as it is; its bytes are checked against a digest (SEC-33)."""
        call = self._manifest_call("GET", repository, reference, access, timeout)
        with told(repository):
            async with self._transport.stream(call) as response:
                if response.status != 200:
                    raise await failure(response, repository.named(reference))
                body = await read_body(response, MANIFEST_BYTES)
                stated = response.headers.get("Docker-Content-Digest", "")
                media_type = _media_type(response.headers, body)
        wanted = reference if is_digest(reference) else _digest_or_empty(stated) or digest_of(body)
        if not matches(body, wanted):
            raise DigestMismatch(f"{repository.named(reference)}: the manifest does not match its digest '{wanted}'")
        return Content(Descriptor(media_type, wanted, len(body)), body)

    async def image(self, repository: Repository, reference: str, access: Access, *, timeout: float) -> Manifest:
        """The manifest of a tag or digest; of an index that for linux/amd64, as upstream."""
        deadline = self._transport.deadline(timeout)
        content = await self.manifest(repository, reference, access, timeout=timeout)
        if content.is_index:
            chosen = of_platform(content.index())
            left = self._transport.left(deadline)
            content = await self.manifest(repository, chosen.digest, access, timeout=left)
            if content.is_index:
                raise OciError(f"{repository.named(reference)}: an index in an index is not followed")
        return content.manifest()

    async def blob(
        self, repository: Repository, descriptor: Descriptor, file: BinaryIO, access: Access, *, timeout: float,
        limit: int = BLOB_BYTES,
    ) -> None:  # fmt: skip
        """Write a blob to a file. It is not to be used unless this returns: the digest is known only at the end.

        Never reads more than `descriptor.size` bytes and never more than `limit` (SEC-05). Raises OSError for the
        file besides.
        """
        shown = repository.named(descriptor.digest)
        if descriptor.size > limit:
            raise OciError(f"{shown}: the blob has {descriptor.size} bytes, more than {limit}")
        check_digest(descriptor.digest)
        call = self._call("GET", repository, f"blobs/{descriptor.digest}", access, timeout)
        with told(repository):
            async with self._transport.stream(call) as response:
                if response.status != 200:
                    raise await failure(response, shown)
                await _copy(response.content.iter_chunked(_CHUNK), descriptor, file, shown)

    async def blob_bytes(
        self, repository: Repository, descriptor: Descriptor, access: Access, *, timeout: float, limit: int = MIB
    ) -> bytes:
        """A small blob: signatures, configs."""
        file = io.BytesIO()
        await self.blob(repository, descriptor, file, access, timeout=timeout, limit=limit)
        return file.getvalue()

    async def tags(self, repository: Repository, access: Access, *, timeout: float, limit: int = TAGS) -> list[str]:
        """All tags, page by page. Raises OciError when there are more than `limit`, or the pages do not end."""
        call = self._call("GET", repository, f"tags/list?n={_PAGE}", access, timeout)
        found: list[str] = []
        for _ in range(_PAGES):
            with told(repository):
                async with self._transport.stream(call) as response:
                    if response.status != 200:
                        raise await failure(response, f"{repository}: tags cannot be listed")
                    body = await read_body(response, _PAGE_BYTES)
                    following = _next_page(response.headers.getall("Link", []))
            found += _tags_of(body)
            if len(found) > limit:
                raise OciError(f"{repository} has more than {limit} tags")
            if not following:
                return found
            call = self._following(call, following)
        raise OciError(f"{repository}: the list of tags does not end")

    async def referrers(
        self, repository: Repository, digest: str, access: Access, *, timeout: float, artifact_type: str = ""
    ) -> tuple[Descriptor, ...]:
        """The manifests that refer to a digest: signatures, attestations. Registries without that question keep them
        in an index under the tag `<algorithm>-<hex>`. None is no error."""
        deadline = self._transport.deadline(timeout)
        query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        call = self._call("GET", repository, f"referrers/{check_digest(digest)}{query}", access, timeout)
        with told(repository):
            async with self._transport.stream(call) as response:
                answered = response.status == 200 and response.content_type == INDEX
                if response.status not in (200, 400, 404, 405, 501):
                    raise await failure(response, f"{repository.named(digest)}: referrers cannot be listed")
                body = await read_body(response, MANIFEST_BYTES) if answered else b""
        if answered:
            index = Content(Descriptor(INDEX, digest_of(body), len(body)), body).index()
        else:
            index = await self._referrers_by_tag(repository, digest, access, deadline)
        found = index.manifests or ()
        return tuple(one for one in found if not artifact_type or one.artifact_type == artifact_type)

    async def _referrers_by_tag(self, repository: Repository, digest: str, access: Access, deadline: float) -> Index:
        left = self._transport.left(deadline)
        try:
            content = await self.manifest(repository, digest.replace(":", "-"), access, timeout=left)
        except NotFound:
            return Index()
        return content.index() if content.is_index else Index()

    # -- writing -------------------------------------------------------------------------------------------------

    async def push_blob(
        self, repository: Repository, data: bytes, media_type: str, access: Access, *, timeout: float
    ) -> Descriptor:
        """Upload a blob in one piece, unless it is there already. Returns its descriptor."""
        made = Descriptor(media_type, digest_of(data), len(data))
        deadline = self._transport.deadline(timeout)
        if await self._has_blob(repository, made, access, deadline):
            return made
        location = await self._begin_upload(repository, access, deadline)
        query = urlencode({"digest": made.digest})
        target = f"{location}{'&' if '?' in location else '?'}{query}"
        call = Call(method="PUT", repository=repository, target=target, access=access, deadline=deadline,
                    actions="pull,push", headers={"Content-Type": _OCTETS}, body=data)  # fmt: skip
        with told(repository):
            async with self._transport.stream(call) as response:
                if response.status != 201:
                    raise await failure(response, f"{repository}: the blob cannot be uploaded")
        return made

    async def push_manifest(
        self, repository: Repository, reference: str, body: bytes, media_type: str, access: Access, *, timeout: float
    ) -> Descriptor:
        """Store a manifest or index under a tag, or under its digest. Returns its descriptor."""
        target = f"/v2/{repository.path}/manifests/{_checked(reference)}"
        call = Call(method="PUT", repository=repository, target=target,
                    access=access, deadline=self._transport.deadline(timeout), actions="pull,push",
                    headers={"Content-Type": media_type}, body=body)  # fmt: skip
        with told(repository):
            async with self._transport.stream(call) as response:
                if response.status not in (200, 201):
                    raise await failure(response, f"{repository.named(reference)}: the manifest cannot be stored")
        return Descriptor(media_type, digest_of(body), len(body))

    async def tag(
        self, repository: Repository, reference: str, tag: str, access: Access, *, timeout: float
    ) -> Descriptor:
        """Give what a tag or digest names another tag."""
        deadline = self._transport.deadline(timeout)
        content = await self.manifest(repository, reference, access, timeout=timeout)
        left = self._transport.left(deadline)
        return await self.push_manifest(
            repository, tag, content.body, content.descriptor.media_type, access, timeout=left
        )

    async def _has_blob(self, repository: Repository, descriptor: Descriptor, access: Access, deadline: float) -> bool:
        call = Call(method="HEAD", repository=repository, target=f"/v2/{repository.path}/blobs/{descriptor.digest}",
                    access=access, deadline=deadline, actions="pull,push")  # fmt: skip
        with told(repository):
            async with self._transport.stream(call) as response:
                return response.status == 200

    async def _begin_upload(self, repository: Repository, access: Access, deadline: float) -> str:
        call = Call(method="POST", repository=repository, target=f"/v2/{repository.path}/blobs/uploads/",
                    access=access, deadline=deadline, actions="pull,push", body=b"")  # fmt: skip
        with told(repository):
            async with self._transport.stream(call) as response:
                if response.status != 202 or "Location" not in response.headers:
                    raise await failure(response, f"{repository}: an upload cannot be begun")
                return response.headers["Location"]

    # -- calls ---------------------------------------------------------------------------------------------------

    def _call(self, method: str, repository: Repository, path: str, access: Access, timeout: float) -> Call:
        return Call(method=method, repository=repository, target=f"/v2/{repository.path}/{path}", access=access,
                    deadline=self._transport.deadline(timeout))  # fmt: skip

    def _manifest_call(
        self, method: str, repository: Repository, reference: str, access: Access, timeout: float
    ) -> Call:
        call = self._call(method, repository, f"manifests/{_checked(reference)}", access, timeout)
        return replace(call, headers={"Accept": ", ".join(ACCEPTED)})

    def _following(self, call: Call, following: str) -> Call:
        """The next page: of the same list of the same registry, or none (SEC-29)."""
        path = f"/v2/{call.repository.path}/tags/list?"
        if not following.startswith("/"):
            server = f"://{call.repository.server}"
            _, found, following = following.partition(server)
            following = following if found else ""
        if not following.startswith(path):
            raise OciError(f"{call.repository}: the list of tags goes on elsewhere, which is not followed")
        return Call(method="GET", repository=call.repository, target=following, access=call.access,
                    deadline=call.deadline)  # fmt: skip


def _checked(reference: str) -> str:
    try:
        return check_digest(reference) if is_digest(reference) else check_tag(reference)
    except ReferenceRefused as error:
        raise OciError(str(error)) from error


async def _copy(chunks: AsyncIterator[bytes], descriptor: Descriptor, file: BinaryIO, shown: str) -> None:
    """Write what comes, and no byte more than there should be."""
    computed, size = hasher(descriptor.digest), 0
    async for chunk in chunks:
        size += len(chunk)
        if size > descriptor.size:
            raise DigestMismatch(f"{shown}: the blob is larger than {descriptor.size} bytes")
        await asyncio.to_thread(_take, chunk, computed, file)
    if size < descriptor.size:
        raise OciError(f"{shown}: the blob ended after {size} of {descriptor.size} bytes")
    if f"{computed.name}:{computed.hexdigest()}" != descriptor.digest:
        raise DigestMismatch(f"{shown}: the blob does not match its digest")


def _take(chunk: bytes, computed: hashlib._Hash, file: BinaryIO) -> None:
    computed.update(chunk)
    file.write(chunk)


def _described(headers: Mapping[str, str]) -> Descriptor | None:
    """The descriptor that the headers of a HEAD give; None when they do not give a digest that can be used."""
    digest = _digest_or_empty(headers.get("Docker-Content-Digest", ""))
    length = headers.get("Content-Length", "0")
    media_type = headers.get("Content-Type", "").partition(";")[0].strip()
    return Descriptor(media_type, digest, int(length) if length.isdigit() else 0) if digest else None


def _digest_or_empty(text: str) -> str:
    try:
        return check_digest(text)
    except ReferenceRefused:
        return ""


def _media_type(headers: Mapping[str, str], body: bytes) -> str:
    """What the answer says it is, else what the manifest says of itself."""
    stated = headers.get("Content-Type", "").partition(";")[0].strip()
    if stated in ACCEPTED:
        return stated
    return Content(Descriptor(stated, "", len(body)), body).manifest().media_type or stated


def _next_page(links: list[str]) -> str:
    for link in links:
        match = _NEXT.match(link)
        if match is not None:
            return match[1]
    return ""


def _tags_of(body: bytes) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(body, type=_TagPage).tags or ()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise OciError(f"the list of tags cannot be read: {error}") from error
