"""Takes secrets out of text: those that the run has read, and everything that looks like one (SEC-35, SEC-56).

Every message of a condition, every event and, through `core.log.add_redaction`, every log line passes through here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote

from headrace.core.secrecy import SHORTEST, secrets

MASK = "***"

LIMIT = 256 * 1024
"""Characters that are looked at; what is longer is cut, since nobody reads it and patterns cost time."""

_VALUE = r"[^\s\"',;&<>]+"
_PATTERNS = (
    (re.compile(r"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY( BLOCK)?-----.*?"
                r"(-----END \1PRIVATE KEY( BLOCK)?-----|\Z)", re.DOTALL), MASK),
    # The user of an ssh or git URL is no secret; one in an http URL may be a token.
    (re.compile(r"(?i)\b(https?://)[^\s/@\"'<>]+@"), rf"\1{MASK}@"),
    # Passwords may hold a slash that nobody escaped; what begins with digits and a slash is a port and a path.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@\"'<>]*):(?!\d+/)[^\s@\"'<>]+@"), rf"\1:{MASK}@"),
    (re.compile(rf"(?i)\b((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)(?:[a-z]+\s+)?{_VALUE}"), rf"\1{MASK}"),
    (re.compile(r"\b(Bearer|Basic|bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(rf"(?i)([?&](?:sig|signature|[a-z_-]*token|password|secret|key|code|x-(?:amz|goog)-[a-z-]+)=){_VALUE}"),
     rf"\1{MASK}"),
    (re.compile(r"(?i)\b((?:[a-z0-9]*[_-])?(?:password|passwd|passphrase|token|api[_-]?key|access[_-]?key|"
                r"secret[_-]?(?:access[_-]?)?key|client[_-]?secret|private[_-]?key|client-key-data)[\"']?\s*[:=]\s*"
                rf"[\"']?)(?!(?:Invalid|Required|Forbidden|Unsupported|Duplicate|Too|Not) ){_VALUE}"),
     rf"\1{MASK}"),
    (re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|"
                r"AGE-SECRET-KEY-(?:PQ-)?1[A-Z0-9]+|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"), MASK),
)


_SIGNS = (
    "-----begin", "://", "authorization", "bearer", "basic", "passw", "passp", "token", "key", "secret", "sig=",
    "signature=", "code=", "x-amz", "x-goog", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox",
    "eyj",
)  # fmt: skip
"""Lower-case text that every match of a pattern has in it: most messages have none, and looking for it is quick."""


def redact(text: str) -> str:
    """`text` as anybody may read it."""
    text = text[:LIMIT]
    known = secrets()
    if known:
        text = _registered(known).sub(MASK, text)
    folded = text.casefold()
    if not any(sign in folded for sign in _SIGNS):
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


@lru_cache(maxsize=64)
def _registered(known: frozenset[str]) -> re.Pattern[str]:
    """One pattern for all forms of all secrets, the longest first, so that no rest of a longer one is left."""
    forms = {form for secret in known for form in _forms(secret) if len(form) >= SHORTEST}
    return re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))


def _forms(secret: str) -> Iterator[str]:
    """How a secret may stand in a text: as it is, escaped in JSON or a URL, in base64 alone or after a user name."""
    raw = secret.encode()
    yield secret
    yield quote(secret, safe="")
    yield secret.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    yield base64.b64encode(raw).decode().rstrip("=")
    yield base64.urlsafe_b64encode(raw).decode().rstrip("=")
    yield from _inner_base64(raw)


def _inner_base64(raw: bytes) -> Iterator[str]:
    """The part of the base64 of a longer text that is the same wherever in it `raw` stands."""
    for before in (1, 2):
        encoded = base64.b64encode(b"\0" * before + raw)[4:]
        whole = (len(raw) + before) // 3 * 4 - 4
        yield encoded[:whole].decode()
