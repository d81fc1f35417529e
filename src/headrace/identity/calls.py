"""Requests to those who issue tokens. Two gates: the operator's, which may reach metadata servers and whatever the
environment names, and the tenants', through which goes everything that an object has a say in (SEC-29).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec

from headrace.core import tls
from headrace.core.egress import (
    NO_TRUST,
    Answer,
    BodyTooLarge,
    Egress,
    EgressDenied,
    RemoteUrl,
    Trust,
    UrlRefused,
    parse_url,
)
from headrace.core.limits import KIB
from headrace.identity.values import IdentityError, IssuerUnreachable

T = TypeVar("T")

_ANSWER_BYTES = 256 * KIB
_TIMEOUT = 30.0
_METADATA_TIMEOUT = 5.0
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an issuer. Everything in `headers` and `body` is secret."""

    method: str
    url: RemoteUrl
    headers: Mapping[str, str]
    body: bytes = b""


def form(url: RemoteUrl, fields: Mapping[str, str]) -> Request:
    """A POST of a form."""
    return Request("POST", url, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(fields).encode())


def issuer_url(text: str) -> RemoteUrl:
    """The URL of an issuer. Raises IdentityError."""
    try:
        return parse_url(text)
    except UrlRefused as error:
        raise IdentityError(str(error)) from error


def token_file(path: str) -> str:
    """A token that is renewed by somebody else, so read anew each time. Raises IdentityError."""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise IdentityError(f"cannot read the token file: {error.strerror}") from error


class Calls:
    """Sends requests to issuers. Nothing that they answer is shown but short error texts."""

    def __init__(self, operators: Egress, tenants: Egress) -> None:
        self._operators = operators
        self._tenants = tenants
        self._contexts: dict[Trust, ssl.SSLContext] = {}

    async def own(self, request: Request, what: str, *, metadata: bool = False) -> Answer:
        """To an address of the operator's choice. Raises IdentityError."""
        timeout = _METADATA_TIMEOUT if metadata else _TIMEOUT
        return await self._send(self._operators, request, what, NO_TRUST, None, timeout)

    async def foreign(
        self, request: Request, what: str, *, proxy: RemoteUrl | None = None, trust: Trust = NO_TRUST
    ) -> Answer:
        """To an address that an object has a say in. Raises IdentityError."""
        return await self._send(self._tenants, request, what, trust, proxy, _TIMEOUT)

    async def _send(
        self, egress: Egress, request: Request, what: str, trust: Trust, proxy: RemoteUrl | None, timeout: float
    ) -> Answer:
        try:
            answer = await egress.request(
                request.method, request.url, secret_headers=request.headers, body=request.body or None,
                tls=await self._context(trust) if request.url.scheme == "https" else None,
                proxy=proxy, timeout=timeout, body_limit=_ANSWER_BYTES, follow=False,
            )  # fmt: skip
        except TimeoutError as error:
            raise IssuerUnreachable(f"{what}: no answer of '{request.url.host}' in time") from error
        except aiohttp.ClientConnectorError as error:
            raise IssuerUnreachable(f"{what}: cannot connect to '{request.url.host}'") from error
        except (EgressDenied, UrlRefused, BodyTooLarge, ValueError) as error:
            raise IdentityError(f"{what}: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise IdentityError(f"{what}: request to '{request.url.host}' failed: {type(error).__name__}") from error
        if answer.status not in (200, 201):
            raise IdentityError(f"{what}: '{request.url.host}' answered {answer.status}{_said(answer.body)}")
        return answer

    async def _context(self, trust: Trust) -> ssl.SSLContext:
        """Kept, since connections are reused only with the very same one."""
        found = self._contexts.get(trust)
        if found is None:
            if len(self._contexts) > 64:
                self._contexts.clear()
            found = self._contexts[trust] = await asyncio.to_thread(tls.context, trust)
        return found


def decoded(answer: Answer, kind: type[T], what: str) -> T:
    """The body as JSON of a type. Raises IdentityError."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise IdentityError(f"{what}: the answer is not the expected one") from None


def pem(text: str, what: str) -> bytes:
    """Certificates as clouds write them, PEM in base64. Raises IdentityError."""
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        found = b""
    if not found.strip():
        raise IdentityError(f"{what}: the answer has no certificate authority")
    return found


class _Error(msgspec.Struct, frozen=True):
    error: object = ""
    error_description: str = ""
    message: str = ""


def _said(body: bytes) -> str:
    """What an issuer complains of, cut: error texts quote what was sent only in part, and tokens never."""
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return _said_in_xml(body)
    detail = error.error_description or error.message
    if not detail and isinstance(error.error, dict):
        detail = str(error.error.get("message", ""))
    text = " ".join((str(error.error) if isinstance(error.error, str) else "", detail)).strip()
    return f": {_line(text)}" if text else ""


def _said_in_xml(body: bytes) -> str:
    from headrace.core.xml import XmlRefused, parse_xml, text_at

    try:
        root = parse_xml(body)
    except XmlRefused:
        return ""
    text = f"{text_at(root, './/Code')} {text_at(root, './/Message')}".strip()
    return f": {_line(text)}" if text else ""


def _line(text: str) -> str:
    return " ".join(text.split())[:_SHOWN]
