"""JSON that is nested more deeply than a decoder goes, taken apart one level at a time.

The API server takes ten thousand levels. One object with that many must not hide the others that came with it (SEC-39).
"""

from __future__ import annotations

import re

import msgspec

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN = re.compile(_STRING + rb"|[\[\]{},]", re.DOTALL)
_KEY = re.compile(rb"\s*(" + _STRING + rb")\s*:", re.DOTALL)

TOO_DEEP = "the object is nested too deeply"


def members(raw: bytes) -> dict[str, bytes]:
    """The members of a JSON object, undecoded. Raises msgspec.DecodeError."""
    found: dict[str, bytes] = {}
    for part in elements(raw):
        key = _KEY.match(part)
        if key is None:
            raise msgspec.DecodeError("JSON is malformed")
        found[msgspec.json.decode(key[1], type=str)] = part[key.end() :].strip()
    return found


def elements(raw: bytes) -> list[bytes]:
    """What is between the commas of a JSON array or object, undecoded. Raises msgspec.DecodeError."""
    parts: list[bytes] = []
    depth = start = 0
    for token in _TOKEN.finditer(raw):
        char = token[0]
        if char in (b"{", b"["):
            depth += 1
            start = token.end() if depth == 1 else start
        elif depth == 1 and char in (b"}", b"]", b","):
            parts.append(raw[start : token.start()].strip())
            start = token.end()
        if char in (b"}", b"]"):
            depth -= 1
    if depth:
        raise msgspec.DecodeError("JSON is malformed")
    return parts if parts != [b""] else []
