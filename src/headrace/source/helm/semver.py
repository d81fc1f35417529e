"""Versions of charts by themselves: whether a text is one, their order, and metadata put on them.

Ranges are matched by the library that Helm uses, in the toolbox; this is what is needed for each entry of an index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(
    rf"v?([0-9]{{1,19}})(?:\.([0-9]{{1,19}}))?(?:\.([0-9]{{1,19}}))?(?:-({_IDENTIFIERS}))?(?:\+({_IDENTIFIERS}))?"
)
_STRICT = re.compile(
    rf"v?(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)(?:-{_IDENTIFIERS})?(?:\+{_IDENTIFIERS})?"
)
_METADATA = re.compile(_IDENTIFIERS)
_LARGEST = 2**64
_LONGEST = 256

Order = tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]


@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version; parts that were left out are 0."""

    numbers: tuple[int, int, int]
    prerelease: str = ""
    metadata: str = ""

    def __str__(self) -> str:
        text = ".".join(map(str, self.numbers))
        text += f"-{self.prerelease}" if self.prerelease else ""
        return text + (f"+{self.metadata}" if self.metadata else "")

    @property
    def order(self) -> Order:
        """A key that sorts as the specification says; metadata does not count (SEC-45)."""
        parts = self.prerelease.split(".") if self.prerelease else []
        return self.numbers, not parts, tuple((not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts)


def parse(text: str) -> Version:
    """The version that `text` is, as leniently as Helm reads it: `v1.2` is one. Raises ValueError."""
    match = _VERSION.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(f"invalid semantic version '{text[:_LONGEST]}'")
    numbers = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    prerelease = match[4] or ""
    if max(numbers) >= _LARGEST or any(_has_zero_in_front(part) for part in prerelease.split(".")):
        raise ValueError(f"invalid semantic version '{text}'")
    return Version(numbers, prerelease, match[5] or "")


def is_valid(text: str) -> bool:
    """Whether `text` is a version."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def is_exact(text: str) -> bool:
    """Whether `text` is one whole version, of three parts, and no range (a leading `v` is allowed)."""
    return _STRICT.fullmatch(text) is not None and is_valid(text)


def with_metadata(text: str, metadata: str) -> str:
    """The version `text` with this build metadata instead of its own. Raises ValueError."""
    if not _METADATA.fullmatch(metadata):
        raise ValueError(f"invalid metadata '{metadata}' for a version")
    version = parse(text)
    return str(Version(version.numbers, version.prerelease, metadata))


def _has_zero_in_front(part: str) -> bool:
    return part.isdigit() and len(part) > 1 and part[0] == "0"
