"""AWS Signature Version 4: what proves to AWS, and to every S3-compatible server, who sends a request.

Pure functions of the request, the keys and the time; nothing is sent from here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from headrace.core.egress import RemoteUrl

EMPTY_PAYLOAD = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """An access key; with a session token it is a temporary one."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def encoded_query(parameters: Iterable[tuple[str, str]]) -> str:
    """A query as it must be signed, and so may as well be sent: every part escaped, sorted by name."""
    return "&".join(sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in parameters))


def host_header(url: RemoteUrl) -> str:
    """The Host header that HTTP clients send for a URL."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return host if url.port == _DEFAULT_PORTS.get(url.scheme) else f"{host}:{url.port}"


def sign(
    method: str,
    url: RemoteUrl,
    *,
    keys: AwsKeys,
    region: str,
    service: str,
    now: float,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers that sign a request, all of them to be sent to the origin of `url` only.

    The query of `url` must have the form of `encoded_query`. `headers` are further ones to be signed.
    """
    stamp, scope = _dated(now, region, service)
    payload = hashlib.sha256(body).hexdigest() if body else EMPTY_PAYLOAD
    added = {"x-amz-date": stamp}
    if service == "s3":
        added["x-amz-content-sha256"] = payload
    if keys.session_token:
        added["x-amz-security-token"] = keys.session_token
    signed = {name.lower(): value.strip() for name, value in (headers or {}).items()} | added
    signed["host"] = host_header(url)
    names, canonical = _canonical(method, url, url.url.raw_query_string, signed, payload)
    signature = _signature(keys.secret_key, stamp, scope, canonical)
    credential = f"Credential={keys.access_key}/{scope}"
    return added | {"Authorization": f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"}


def presign(
    url: RemoteUrl,
    query: Mapping[str, str],
    *,
    keys: AwsKeys,
    region: str,
    service: str,
    now: float,
    seconds: int,
    headers: Mapping[str, str],
) -> str:
    """The URL of a GET that whoever has it may send, together with `headers`, which are not in it. A secret.

    `url` is without a query; it has `query` and what signs it.
    """
    stamp, scope = _dated(now, region, service)
    signed = {name.lower(): value for name, value in headers.items()} | {"host": host_header(url)}
    added = {
        "X-Amz-Algorithm": _ALGORITHM, "X-Amz-Credential": f"{keys.access_key}/{scope}", "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds), "X-Amz-SignedHeaders": ";".join(sorted(signed)),
    }  # fmt: skip
    if keys.session_token:
        added["X-Amz-Security-Token"] = keys.session_token
    whole = encoded_query((dict(query) | added).items())
    _, canonical = _canonical("GET", url, whole, signed, EMPTY_PAYLOAD)
    return f"{url.text}?{whole}&X-Amz-Signature={_signature(keys.secret_key, stamp, scope, canonical)}"


def git_password(host: str, path: str, *, keys: AwsKeys, region: str, now: float) -> str:
    """The password for git over HTTPS at CodeCommit: a time and the signature of a request that is never sent."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
    canonical = f"GIT\n{path}\n\nhost:{host}\n\nhost\n"
    scope = f"{stamp[:8]}/{region}/codecommit/aws4_request"
    return f"{stamp}Z{_signature(keys.secret_key, stamp, scope, canonical)}"


def _dated(now: float, region: str, service: str) -> tuple[str, str]:
    """The time of a request, and what its signature is good for."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    return stamp, f"{stamp[:8]}/{region}/{service}/aws4_request"


def _canonical(
    method: str, url: RemoteUrl, query: str, signed: Mapping[str, str], payload: str
) -> tuple[str, str]:
    """The names of the signed headers, and the request in the form that is signed."""
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    return names, "\n".join((method, url.url.raw_path or "/", query, lines, names, payload))


def _signature(secret: str, stamp: str, scope: str, canonical: str) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, "\n".join((_ALGORITHM, stamp, scope, digest)).encode(), "sha256").hex()
