"""A thin client: bytes in, bytes out, typed errors, and every wait has a deadline.

A Client is one identity on one cluster. `impersonate` gives another identity that shares its connections.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from urllib.parse import quote, urlencode

import msgspec
from multidict import CIMultiDict
from yarl import URL

from headrace import __version__
from headrace.core.clock import Clock, SystemClock
from headrace.core.random import Random
from headrace.kube import counter as purposes
from headrace.kube.config import ClientConfig, Impersonation, is_loopback
from headrace.kube.counter import RequestCounter, RequestKey, request_key
from headrace.kube.credentials import Material
from headrace.kube.errors import (
    ApiError,
    ConfigError,
    Gone,
    KubeError,
    ResponseTooLarge,
    Unreachable,
    error_from_response,
)
from headrace.kube.objects import decode_items, decode_list, decode_object
from headrace.kube.resource import Resource
from headrace.kube.retry import delay_after_answer, delay_after_reset, retry_after
from headrace.kube.wire import Answer, UntrustedServer, Wire
from headrace.model.objects import LiveObject
from headrace.model.reference import MANAGEMENT_CLUSTER

USER_AGENT = f"headrace/{__version__}"

JSON = "application/json"
APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

PARTIAL_OBJECT = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

PAGE = 500
"""Objects of one page of a list, as client-go has it."""

Fence = Callable[[], None]
"""Raises KubeError when nothing may be written (any more)."""

_READS = ("GET", "HEAD")
_IDEMPOTENT_PATCHES = (APPLY_PATCH, MERGE_PATCH)
_SERVICE_ACCOUNT = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request, ready to be sent. `repeatable` says that sending it twice does what sending it once
    does."""

    method: str
    path: str
    url: URL
    key: RequestKey
    body: bytes | None
    accept: str
    content_type: str
    timeout: float
    repeatable: bool
    etag: str = ""

    @property
    def what(self) -> str:
        return f"{self.method} {self.path}"


class Applied(msgspec.Struct, frozen=True, gc=False):
    """The answer to a server-side apply. `created` is also told for a dry-run."""

    live: LiveObject
    created: bool


class Listing(msgspec.Struct, frozen=True, gc=False):
    """A whole list. `quarantined` objects were left out since their metadata cannot be decoded."""

    items: tuple[LiveObject, ...]
    resource_version: str
    quarantined: int = 0


class Client:
    """See the module. `cluster` is the name that the References of its objects carry."""

    def __init__(
        self,
        config: ClientConfig,
        *,
        user_agent: str = USER_AGENT,
        counter: RequestCounter | None = None,
        cluster: str = MANAGEMENT_CLUSTER,
        clock: Clock | None = None,
        random: Random | None = None,
        wire: Wire | None = None,
        fence: Fence | None = None,
    ) -> None:
        """`fence` is called before each request that may change something, and raises what forbids it."""
        self.config = config
        self.cluster = cluster
        self.counter = counter if counter is not None else RequestCounter()
        self._user_agent = user_agent
        self._clock: Clock = clock or SystemClock()
        self._random = random or Random()
        self._wire = wire or Wire(config, self._clock)
        self._fence = fence
        self._headers = _base_headers(user_agent, config)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, those of all identities that share them included."""
        await self._wire.close()

    def impersonate(self, user: str, groups: Iterable[str] = ()) -> Client:
        """The same cluster as somebody else. Raises ConfigError on an identity that is empty or that a header
        cannot carry: it must never become our own one (SEC-23)."""
        groups = tuple(groups)
        for identity in (user, *groups):
            if not identity.strip() or not identity.isprintable():
                raise ConfigError(f"cannot impersonate {identity[:253]!r}")
        config = msgspec.structs.replace(self.config, impersonation=Impersonation(user=user, groups=groups))
        return Client(
            config,
            user_agent=self._user_agent,
            counter=self.counter,
            cluster=self.cluster,
            clock=self._clock,
            random=self._random,
            wire=self._wire,
            fence=self._fence,
        )

    def impersonate_service_account(self, namespace: str, name: str) -> Client:
        """As `impersonate` for a service account. Raises ConfigError on what is no name of one."""
        for part in (namespace, name):
            if _SERVICE_ACCOUNT.fullmatch(part) is None:
                raise ConfigError(f"invalid service account {namespace[:253]!r}/{name[:253]!r}")
        return self.impersonate(f"system:serviceaccount:{namespace}:{name}")

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        accept: str = JSON,
        timeout: float | None = None,
        purpose: str = purposes.WORK,
    ) -> bytes:
        """Any request; `path` is quoted already. Returns the body of a success, raises KubeError
        otherwise."""
        answer = await self.exchange(
            method,
            path,
            query=query,
            body=body,
            content_type=content_type,
            accept=accept,
            timeout=timeout,
            purpose=purpose,
        )
        return answer.body

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        accept: str = JSON,
        timeout: float | None = None,
        purpose: str = purposes.WORK,
        etag: str = "",
        repeatable: bool | None = None,
    ) -> Answer:
        """As `request`, with the status code. With `etag` a 304 is a success too. `repeatable` says whether
        it may be sent again when the connection breaks off (None: reads, dry-runs, apply and merge patches
        are)."""
        items = dict(query or {})
        if repeatable is None:
            repeatable = method in _READS or "dryRun" in items or content_type in _IDEMPOTENT_PATCHES
        call = Call(
            method=method,
            path=path,
            url=self._wire.url(path, urlencode(items, quote_via=quote)),
            key=request_key(method, path, items, purpose),
            body=body,
            accept=accept,
            content_type=content_type or (JSON if body is not None else ""),
            timeout=timeout if timeout is not None else self.config.timeout,
            repeatable=repeatable,
            etag=etag,
        )
        return await self._send(call)

    async def get(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        metadata_only: bool = False,
        timeout: float | None = None,
        purpose: str = purposes.WORK,
    ) -> LiveObject:
        """One object. Raises NotFound."""
        accept = PARTIAL_OBJECT if metadata_only else JSON
        path = resource.object(namespace, name)
        raw = await self.request("GET", path, accept=accept, timeout=timeout, purpose=purpose)
        return self._object(raw, resource, partial=metadata_only)

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        limit: int = PAGE,
        timeout: float | None = None,
        purpose: str = purposes.WORK,
    ) -> Listing:
        """All objects, read in pages. A continue token that ran out, and a page that is too large, begin the
        list anew, without pages and with smaller ones. Objects that cannot be decoded are left out
        (SEC-39)."""
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        query = {key: value for key, value in query.items() if value}
        pages = _Pages(self, resource, namespace, query, metadata_only=metadata_only, timeout=timeout, purpose=purpose)
        while True:
            try:
                return await pages.read(limit)
            except Gone:
                if limit == 0:
                    raise
                limit = 0
            except ResponseTooLarge:
                if limit == 1:
                    raise
                limit = max((limit or PAGE) // 5, 1)

    async def create(
        self,
        resource: Resource,
        namespace: str,
        body: bytes,
        *,
        dry_run: bool = False,
        field_manager: str = "",
        timeout: float | None = None,
        purpose: str = purposes.WORK,
    ) -> LiveObject:
        """POST. Raises AlreadyExists, Invalid, Forbidden."""
        raw = await self.request(
            "POST",
            resource.collection(namespace),
            query=_write_query(dry_run, field_manager),
            body=body,
            timeout=timeout,
            purpose=purpose,
        )
        return self._object(raw, resource)

    async def replace(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: bytes,
        *,
        subresource: str = "",
        dry_run: bool = False,
        field_manager: str = "",
        timeout: float | None = None,
        purpose: str = purposes.WORK,
    ) -> LiveObject:
        """PUT. With a resourceVersion in the body, raises Conflict when the object is another one by now."""
        raw = await self.request(
            "PUT",
            resource.object(namespace, name, subresource),
            query=_write_query(dry_run, field_manager),
            body=body,
            timeout=timeout,
            purpose=purpose,
        )
        return self._object(raw, resource)

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: bytes,
        *,
        field_manager: str,
        force: bool = True,
        dry_run: bool = False,
        subresource: str = "",
        timeout: float | None = None,
        purpose: str = purposes.WORK,
    ) -> Applied:
        """Server-side apply of a JSON body. Raises Conflict only when `force` is False."""
        query = _write_query(dry_run, field_manager)
        if force:
            query["force"] = "true"
        answer = await self.exchange(
            "PATCH",
            resource.object(namespace, name, subresource),
            query=query,
            body=body,
            content_type=APPLY_PATCH,
            timeout=timeout,
            purpose=purpose,
        )
        return Applied(self._object(answer.body, resource), answer.status == 201)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: bytes,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
        dry_run: bool = False,
        field_manager: str = "",
        timeout: float | None = None,
        purpose: str = purposes.WORK,
    ) -> LiveObject:
        """A merge, JSON or strategic merge patch. Raises NotFound, Invalid, and Conflict when the body holds
        a resourceVersion that is not the current one."""
        raw = await self.request(
            "PATCH",
            resource.object(namespace, name, subresource),
            query=_write_query(dry_run, field_manager),
            body=body,
            content_type=content_type,
            timeout=timeout,
            purpose=purpose,
        )
        return self._object(raw, resource)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "Background",
        dry_run: bool = False,
        timeout: float | None = None,
        purpose: str = purposes.WORK,
    ) -> LiveObject | None:
        """DELETE with preconditions. Returns the object when it stays for its finalizers, None when it is
        gone.

        Raises NotFound, and Conflict when the object is another one than `uid` and `resource_version` say.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in preconditions.items() if value}
        options: dict[str, object] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if preconditions:
            options["preconditions"] = preconditions
        if dry_run:
            # The server ignores the query of a DELETE that has a body.
            options["dryRun"] = ["All"]
        # Only with the uid is a second DELETE sure to meet nothing else than the first one's object.
        answer = await self.exchange(
            "DELETE",
            resource.object(namespace, name),
            query=_write_query(dry_run, ""),
            body=msgspec.json.encode(options),
            timeout=timeout,
            purpose=purpose,
            repeatable=bool(uid) or dry_run,
        )
        live = self._object(answer.body, resource)
        return live if live.metadata.uid else None

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], accept: str, silence: float, purpose: str = purposes.WATCH
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """GET an answer without end (a watch), as chunks of bytes.

        Raises the typed error of an answer that is no success, Timeout when nothing comes for `silence`
        seconds, Unreachable when the connection breaks off. Not retried here: the caller knows where to go
        on.
        """
        items = dict(query)
        url = self._wire.url(path, urlencode(items, quote_via=quote))
        material = await self._wire.material()
        self.counter.sent(request_key("GET", path, items, purpose))
        headers = self._request_headers(accept, "", material.authorization)
        async with self._wire.stream(url, headers, material, silence) as response:
            self.counter.answered("GET", str(response.status))
            if response.status == 401:
                await self._wire.refresh(material)
            if response.status != 200:
                body = await response.content.read(64 * 1024)
                wait = retry_after(response.headers.get("Retry-After", ""), self._clock.now())
                raise error_from_response(response.status, body, what=f"GET {path}", retry_after=wait)
            yield response.content.iter_any()

    async def _send(self, call: Call) -> Answer:
        """Send until there is an answer to give back, an error to raise, or no time left."""
        deadline = self._clock.monotonic() + call.timeout
        attempt, refreshed = 0, False
        while True:
            attempt += 1
            material = await self._wire.material()
            delay: float | None
            try:
                answer = await self._once(call, material, deadline)
                if 200 <= answer.status < 300 or (answer.status == 304 and call.etag):
                    return answer
                wait = retry_after(answer.retry_after, self._clock.now())
                error: KubeError = error_from_response(answer.status, answer.body, what=call.what, retry_after=wait)
                delay = delay_after_answer(error, attempt, self._random) if isinstance(error, ApiError) else None
            except Unreachable as unreachable:
                error = unreachable
                delay = delay_after_reset(attempt, self._random) if _may_repeat(call, unreachable) else None
            if not refreshed and _credentials_refused(error):
                refreshed = True
                if await self._wire.refresh(material):
                    continue
            if delay is None or self._clock.monotonic() + delay >= deadline:
                raise error
            await self._clock.sleep(delay)

    async def _once(self, call: Call, material: Material, deadline: float) -> Answer:
        headers = self._request_headers(call.accept, call.content_type, material.authorization)
        if call.etag:
            headers["If-None-Match"] = call.etag
        remaining = max(deadline - self._clock.monotonic(), 0.001)
        if self._fence is not None and call.method not in _READS:
            self._fence()
        self.counter.sent(call.key)
        try:
            answer = await self._wire.exchange(call.method, call.url, headers, call.body, material, remaining)
        except KubeError:
            self.counter.answered(call.method, "<error>")
            raise
        self.counter.answered(call.method, str(answer.status))
        return answer

    def _request_headers(self, accept: str, content_type: str, authorization: str) -> CIMultiDict[str]:
        headers = self._headers.copy()
        headers["Accept"] = accept
        if content_type:
            headers["Content-Type"] = content_type
        if authorization:
            headers["Authorization"] = authorization
        return headers

    def _object(self, raw: bytes, resource: Resource, *, partial: bool = False) -> LiveObject:
        try:
            return decode_object(raw, resource, cluster=self.cluster, partial=partial)
        except msgspec.MsgspecError as error:
            raise KubeError(f"the server's answer about a {resource.kind} cannot be decoded: {error}") from None


class _Pages:
    """One list, page by page."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str,
        query: dict[str, str],
        *,
        metadata_only: bool,
        timeout: float | None,
        purpose: str,
    ) -> None:
        self._client = client
        self._resource = resource
        self._path = resource.collection(namespace)
        self._query = query
        self._partial = metadata_only
        self._timeout = timeout
        self._purpose = purpose

    async def read(self, limit: int) -> Listing:
        query = {**self._query, "limit": str(limit)} if limit else dict(self._query)
        items: list[LiveObject] = []
        quarantined = 0
        while True:
            body = await self._client.request(
                "GET",
                self._path,
                query=query,
                accept=PARTIAL_LIST if self._partial else JSON,
                timeout=self._timeout,
                purpose=self._purpose,
            )
            try:
                page = decode_list(body)
            except msgspec.MsgspecError as error:
                raise KubeError(f"the server's list of {self._resource.plural} cannot be decoded: {error}") from None
            found, odd = decode_items(
                page.items or (), self._resource, cluster=self._client.cluster, partial=self._partial
            )
            items += found
            quarantined += odd
            if not page.metadata.continue_:
                return Listing(tuple(items), page.metadata.resource_version, quarantined)
            query["continue"] = page.metadata.continue_


def _base_headers(user_agent: str, config: ClientConfig) -> CIMultiDict[str]:
    headers = CIMultiDict({"User-Agent": user_agent})
    # The server packs what is larger than 128 KiB, which costs more than it saves on the loopback.
    if not config.disable_compression and not is_loopback(config.server):
        headers["Accept-Encoding"] = "gzip"
    impersonation = config.impersonation
    if impersonation is None:
        return headers
    headers["Impersonate-User"] = impersonation.user
    if impersonation.uid:
        headers["Impersonate-Uid"] = impersonation.uid
    for group in impersonation.groups:
        headers.add("Impersonate-Group", group)
    for key, values in impersonation.extra:
        for value in values:
            headers.add("Impersonate-Extra-" + quote(key, safe=""), value)
    return headers


def _write_query(dry_run: bool, field_manager: str) -> dict[str, str]:
    query: dict[str, str] = {}
    if dry_run:
        query["dryRun"] = "All"
    if field_manager:
        query["fieldManager"] = field_manager
    return query


def _may_repeat(call: Call, error: Unreachable) -> bool:
    """A refused connection is the caller's to wait for; one that broke off is ours, if repeating is
    harmless."""
    return error.sent and call.repeatable


def _credentials_refused(error: KubeError) -> bool:
    return isinstance(error, UntrustedServer) or (isinstance(error, ApiError) and error.status == 401)
