"""Requests to registries: which scheme, with which authorization, how often again.

Every request belongs to one repository and one identity. Credentials and tokens go to the origin of the registry and
nowhere else (SEC-30); a registry that asks for patience gets it from everybody who talks to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ssl import SSLContext

import aiohttp
import msgspec
from yarl import URL

from headrace.core import secrecy
from headrace.core.clock import Clock
from headrace.core.egress import (
    NO_TRUST,
    BodyTooLarge,
    Egress,
    EgressDenied,
    RemoteUrl,
    Trust,
    UrlRefused,
    parse_url,
    read_body,
)
from headrace.core.limits import KIB
from headrace.core.recent import Recent
from headrace.core.tls import context, unverified_context
from headrace.source.oci import challenge as challenges
from headrace.source.oci.challenge import Challenge
from headrace.source.oci.credentials import Access
from headrace.source.oci.errors import Denied, NotFound, OciError
from headrace.source.oci.reference import Repository
from headrace.source.oci.tokens import Asking, Tokens

_ATTEMPTS = 3
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_BACKOFF = 0.5
"""Seconds before the second attempt when the registry does not say how long to wait; twice as long before the next."""
_PATIENCE = 3600.0
"""Most seconds that a registry is left alone because it asks for that: it must not put off its objects for days."""
_WAYS = 1024
"""Ways of which is remembered what was found on them."""
_CONTEXTS = 64
_ERROR_BODY = 64 * KIB
_ERROR_TEXT = 256


Way = tuple[str, bool, Trust, RemoteUrl | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. `target` is a path that begins with `/v2/`, or a URL that the registry has named."""

    method: str
    repository: Repository
    target: str
    access: Access
    deadline: float
    """When the answer must be there, on the clock's monotonic scale."""
    actions: str = "pull"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def way(self) -> Way:
        """The registry as it is reached: what a proxy, or whoever an object trusts, says in its name counts for those
        who go the same way (SEC-49)."""
        return self.repository.server, self.access.insecure, self.access.trust, self.access.proxy


class Transport:
    """Talks to all registries of the engine; connections, tokens and challenges are shared."""

    def __init__(self, egress: Egress, clock: Clock, *, trusted_token_hosts: frozenset[str] = frozenset()) -> None:
        self._egress = egress
        self._clock = clock
        self._tokens = Tokens(egress, clock, trusted_hosts=trusted_token_hosts)
        self._challenges: Recent[Way, Challenge] = Recent(_WAYS)
        self._plain: Recent[Way, bool] = Recent(_WAYS)
        self._contexts: Recent[tuple[Trust, bool], SSLContext] = Recent(_CONTEXTS)
        self._patience: Recent[Way, float] = Recent(_WAYS)

    def deadline(self, timeout: float) -> float:
        """The deadline of calls that may take so many seconds together."""
        return self._clock.monotonic() + timeout

    def left(self, deadline: float) -> float:
        """Seconds until a deadline. Raises OciError when there are none."""
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise OciError("the registry did not answer in time: context deadline exceeded")
        return left

    @contextlib.asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; the body of the answer is left to be read. Any status but 401.

        Raises OciError (Denied), and whatever `told` turns into one.
        """
        try:
            async with self._attempts(call) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError):
            self._forget_scheme(call.repository.server)
            raise

    @contextlib.asynccontextmanager
    async def _attempts(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        for attempt in range(1, _ATTEMPTS + 1):
            async with contextlib.AsyncExitStack() as stack:
                await self._be_patient(call)
                response = await self._opened(stack, call)
                wait = self._wait(call, response, attempt)
                if wait is None:
                    yield response
                    return
            await self._clock.sleep(wait)

    async def request(self, call: Call, body_limit: int) -> tuple[aiohttp.ClientResponse, bytes]:
        """As `stream`, with the body read. Raises BodyTooLarge besides."""
        async with self.stream(call) as response:
            return response, await read_body(response, body_limit)

    # -- patience ------------------------------------------------------------------------------------------------

    async def _be_patient(self, call: Call) -> None:
        until = self._patience.get(call.way) or 0.0
        left = until - self._clock.monotonic()
        if left <= 0:
            self._patience.drop(call.way)
        elif until >= call.deadline:
            text = f"registry '{call.repository.host}' asks for fewer requests: next in {left:.0f}s"
            raise OciError(text, status=429, retry_after=left)
        else:
            await self._clock.sleep(left)

    def _wait(self, call: Call, response: aiohttp.ClientResponse, attempt: int) -> float | None:
        """Seconds until the request is sent again; None when this answer is the one that counts."""
        if response.status not in _AGAIN or call.method not in ("GET", "HEAD"):
            return None
        asked = retry_after(response.headers.get("Retry-After", ""))
        if asked is not None:
            self._patience.put(call.way, self._clock.monotonic() + asked)
        wait = _BACKOFF * 2 ** (attempt - 1) if asked is None else asked
        too_late = self._clock.monotonic() + wait >= call.deadline
        return None if attempt == _ATTEMPTS or too_late else wait

    # -- sending -------------------------------------------------------------------------------------------------

    async def _opened(self, stack: contextlib.AsyncExitStack, call: Call) -> aiohttp.ClientResponse:
        registry = await self._registry(call)
        url = _joined(registry, call.target)
        authorization = await self._authorization(call, registry) if url.origin == registry.origin else ""
        response = await self._send(stack, call, registry, url, authorization)
        if response.status != 401 or url.origin != registry.origin:
            return response
        found = challenges.parse(response.headers.getall("WWW-Authenticate", []))
        await stack.aclose()
        if found is None:
            raise Denied(f"registry '{call.repository.host}' denies access to '{call.repository}'", status=401)
        self._challenges.put(call.way, found)
        self._tokens.forget(self._asking(call, registry))
        renewed = await self._authorization(call, registry)
        if not renewed or (renewed == authorization and found.scheme == "basic"):
            raise Denied(f"registry '{call.repository.host}' denies access to '{call.repository}'", status=401)
        response = await self._send(stack, call, registry, url, renewed)
        if response.status == 401:
            raise Denied(f"registry '{call.repository.host}' denies access to '{call.repository}'", status=401)
        return response

    async def _send(
        self, stack: contextlib.AsyncExitStack, call: Call, registry: RemoteUrl, url: RemoteUrl, authorization: str
    ) -> aiohttp.ClientResponse:
        secret = {"Authorization": authorization} if authorization else {}
        opened = self._egress.stream(
            call.method,
            url,
            headers=call.headers,
            secret_headers=secret,
            body=call.body,
            tls=self._tls(call.access if url.origin == registry.origin else _without_certificate(call.access)),
            tls_elsewhere=self._tls(_without_certificate(call.access)),
            proxy=call.access.proxy,
            timeout=self.left(call.deadline),
            follow=call.method in ("GET", "HEAD"),
        )
        return await stack.enter_async_context(opened)

    def _tls(self, access: Access) -> SSLContext | None:
        """None for what the system trusts."""
        unverified = access.insecure and access.trust == NO_TRUST
        if access.trust == NO_TRUST and not unverified:
            return None
        key = access.trust, unverified
        made = self._contexts.get(key)
        if made is None:
            made = self._contexts.put(key, unverified_context() if unverified else context(access.trust))
        return made

    # -- which scheme --------------------------------------------------------------------------------------------

    async def _registry(self, call: Call) -> RemoteUrl:
        """The root of the registry: https, unless plain HTTP will do and nothing else is there."""
        server, access = call.repository.server, call.access
        secure = parse_url(f"https://{server}/")
        if not (access.insecure or call.repository.is_loopback):
            return secure
        plain = self._plain.get(call.way)
        if plain is None:
            plain = self._plain.put(call.way, not await self._speaks_tls(secure, call))
        return parse_url(f"http://{server}/") if plain else secure

    def _forget_scheme(self, server: str) -> None:
        """After a failure the question is asked again: another server may be there now."""
        self._plain.drop_where(lambda way: way[0] == server)

    async def _speaks_tls(self, root: RemoteUrl, call: Call) -> bool:
        """A certificate that is refused is one all the same: no reason to go on without (SEC-31)."""
        target = replace(root, text=f"{root.text}v2/")
        try:
            await self._egress.request(
                "GET", target, tls=self._tls(call.access), proxy=call.access.proxy,
                timeout=self.left(call.deadline), body_limit=_ERROR_BODY, follow=False,
            )  # fmt: skip
        except aiohttp.ClientConnectorCertificateError:
            return True
        except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if _nobody_listens(error) and ":" in call.repository.server:
                raise
            return False
        except (aiohttp.ClientError, BodyTooLarge):
            return True
        return True

    # -- authorization -------------------------------------------------------------------------------------------

    async def _authorization(self, call: Call, registry: RemoteUrl) -> str:
        """The value of the header, empty when nobody has asked for one yet or there is nothing to say."""
        credential = call.access.credential(call.repository)
        for value in credential.secrets:
            secrecy.register(value)
        if credential.registry_token:
            return f"Bearer {credential.registry_token}"
        known = self._challenges.get(call.way)
        if known is None:
            return ""
        if known.scheme == "basic":
            return "" if credential.is_anonymous else credential.basic
        asking = self._asking(call, registry)
        token = self._tokens.known(asking) or await self._tokens.fetch(asking, known, self.left(call.deadline))
        return f"Bearer {token}"

    def _asking(self, call: Call, registry: RemoteUrl) -> Asking:
        return Asking(
            registry=registry,
            repository=call.repository,
            scope=f"repository:{call.repository.path}:{call.actions}",
            credential=call.access.credential(call.repository),
            identity=call.access.identity(call.repository),
            tls=self._tls(call.access),
            proxy=call.access.proxy,
        )


def _nobody_listens(error: aiohttp.ClientError) -> bool:
    """Whether there is no server at all, so that asking it otherwise is of no use."""
    refused = isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError)
    return refused or isinstance(error, aiohttp.ClientConnectorDNSError)


def _without_certificate(access: Access) -> Access:
    """What other servers get to see: the same CAs, not who we are (SEC-30)."""
    return replace(access, trust=Trust(ca=access.trust.ca))


def _joined(registry: RemoteUrl, target: str) -> RemoteUrl:
    """A path of the registry, or the URL that it named; https never becomes http (SEC-31)."""
    url = parse_url(str(registry.url.join(URL(target, encoded=True))))
    if registry.scheme == "https" and url.scheme != "https":
        raise UrlRefused("redirect from https to http is refused")
    if url.username or url.password:
        raise UrlRefused("redirect to a URL with credentials is refused")
    return url


def retry_after(value: str) -> float | None:
    """The seconds of a Retry-After header, an hour at the most; None for none, and for dates, which few registries
    send."""
    asked = value.strip()
    return min(float(asked), _PATIENCE) or None if asked.isascii() and asked.isdigit() else None


async def failure(response: aiohttp.ClientResponse, what: str) -> OciError:
    """The error that an answer tells of, with what the registry says of it."""
    text = ""
    with contextlib.suppress(BodyTooLarge, aiohttp.ClientError, asyncio.TimeoutError):
        text = _told_by_registry(await read_body(response, _ERROR_BODY))
    message = f"{what}: {text or f'the registry answered with status {response.status}'}"
    wait = retry_after(response.headers.get("Retry-After", ""))
    kinds = {404: NotFound, 401: Denied, 403: Denied}
    return kinds.get(response.status, OciError)(message, status=response.status, retry_after=wait)


class _Error(msgspec.Struct, frozen=True, gc=False):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct, frozen=True, gc=False):
    errors: tuple[_Error, ...] = ()


def _told_by_registry(body: bytes) -> str:
    """`CODE: message` as registries put it, made fit to be shown."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        told = msgspec.json.decode(body, type=_Errors).errors
        text = "; ".join(f"{error.code}: {error.message}" for error in told[:3])
        return "".join(char for char in text if char.isprintable())[:_ERROR_TEXT]
    return ""


@contextlib.contextmanager
def told(repository: Repository) -> Iterator[None]:
    """Turn what goes wrong on the way to a registry into OciError; failures of the disk stay what they are."""
    host = repository.host
    try:
        yield
    except TimeoutError as error:
        raise OciError(f"registry '{host}' did not answer in time: context deadline exceeded") from error
    except (EgressDenied, UrlRefused, BodyTooLarge) as error:
        raise OciError(str(error)) from error
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or "it is not trusted"
        raise OciError(f"the certificate of registry '{host}' is refused: {reason}") from error
    except aiohttp.ClientConnectorError as error:
        raise OciError(f"cannot connect to registry '{host}': {error.os_error.strerror or error.os_error}") from error
    except aiohttp.ClientError as error:
        raise OciError(f"the connection to registry '{host}' failed: {type(error).__name__}") from error
