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
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(body).hexdigest() if body else EMPTY_PAYLOAD
    added = {"x-amz-date": stamp}
    if service == "s3":
        added["x-amz-content-sha256"] = payload
    if keys.session_token:
        added["x-amz-security-token"] = keys.session_token
    signed = {name.lower(): value.strip() for name, value in (headers or {}).items()} | added
    signed["host"] = host_header(url)
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    canonical = "\n".join((method, url.url.raw_path or "/", url.url.raw_query_string, lines, names, payload))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    signature = _signature(keys.secret_key, stamp, scope, canonical)
    credential = f"Credential={keys.access_key}/{scope}"
    return added | {"Authorization": f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"}


def git_password(host: str, path: str, *, keys: AwsKeys, region: str, now: float) -> str:
    """The password for git over HTTPS at CodeCommit: a time and the signature of a request that is never sent."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
    canonical = f"GIT\n{path}\n\nhost:{host}\n\nhost\n"
    scope = f"{stamp[:8]}/{region}/codecommit/aws4_request"
    return f"{stamp}Z{_signature(keys.secret_key, stamp, scope, canonical)}"


def _signature(secret: str, stamp: str, scope: str, canonical: str) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, "\n".join((_ALGORITHM, stamp, scope, digest)).encode(), "sha256").hex()
