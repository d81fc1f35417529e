"""What a registry says it wants to know who asks: the header WWW-Authenticate (RFC 9110, section 11)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z0-9_-]+)(?:\s+|$)")
_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: `basic`, or `bearer` with the address of a token server."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse(headers: Iterable[str]) -> Challenge | None:
    """The best challenge of the headers: bearer before basic; None when there is neither."""
    found = [challenge for header in headers for challenge in _challenges(header[:_LENGTH])]
    for scheme in ("bearer", "basic"):
        for challenge in found:
            if challenge.scheme == scheme and (scheme == "basic" or challenge.realm):
                return challenge
    return None


def _challenges(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while (match := _SCHEME.match(header, position)) is not None:
        position = match.end()
        values: dict[str, str] = {}
        while (parameter := _PARAMETER.match(header, position)) is not None:
            quoted = re.sub(r"\\(.)", r"\1", parameter[2] or "")
            values.setdefault(parameter[1].lower(), quoted or parameter[3] or "")
            position = parameter.end()
        found.append(
            Challenge(match[1].lower(), values.get("realm", ""), values.get("service", ""), values.get("scope", ""))
        )
    return found
