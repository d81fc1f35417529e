"""Values of charts, written so that every reader of YAML understands the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_BREAKS = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029", "\x7f": "\\u007f"}


def to_yaml(values: Mapping[str, Any]) -> bytes:
    """Block style, keys sorted, texts always in quotes: nothing can be taken for a number or a date. Empty for {}."""
    return "".join(f"{line}\n" for line in _map(values, "")).encode() if values else b""


def _map(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key in sorted(values):
        yield from _below(f"{indent}{_key(key)}:", values[key], indent + "  ")


def _list(items: list[Any], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, dict | list) and item:
            lines = _map(item, indent + "  ") if isinstance(item, dict) else _list(item, indent + "  ")
            first = next(lines)
            yield f"{indent}- {first.lstrip(' ')}"
            yield from lines
        else:
            yield f"{indent}- {_scalar(item)}"


def _below(start: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield start
        yield from _map(value, indent)
    elif isinstance(value, list) and value:
        yield start
        yield from _list(value, indent)
    else:
        yield f"{start} {_scalar(value)}"


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and key.lower() not in _WORDS else _scalar(key)


def _scalar(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    for char, escaped in _BREAKS.items():
        text = text.replace(char, escaped)
    return text
