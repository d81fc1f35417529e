"""One entry of an index: a version of a chart, as repositories write it and as it is stored (SRC-HRP-03).

Repositories are written by many programs: a number may stand where a text belongs, and entries may be worth nothing.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headrace.source.helm import semver

Scalar = str | int | float | bool | None
"""A text, or what YAML makes of one without quotes."""
_NO_TIME = "0001-01-01T00:00:00Z"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_ALIAS = re.compile(r"[A-Za-z0-9_-]+")
_TYPES = ("", "application", "library")
_API_VERSION = "v1"
_DEPENDENCY_TEXTS = ("name", "version", "repository", "condition", "alias")
_EXACT = 2**53


class EntryRefused(ValueError):
    """An entry that no chart can be pulled by; the others are not touched by it."""


class Maintainer(msgspec.Struct, gc=False, omit_defaults=True):
    """Who looks after a chart."""

    name: Scalar = ""
    email: Scalar = ""
    url: Scalar = ""


class Dependency(msgspec.Struct, gc=False, omit_defaults=True, rename={"import_values": "import-values"}):
    """Another chart that a chart needs."""

    name: Scalar = ""
    version: Scalar = ""
    repository: Scalar = ""
    condition: Scalar = ""
    tags: list[Scalar] | None = None
    enabled: bool | None = False
    import_values: list[Any] | None = None
    alias: Scalar = ""


class Entry(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    """All that the format knows, in the order in which it is stored."""

    name: Scalar = ""
    home: Scalar = ""
    sources: list[Scalar] | None = None
    version: Scalar = ""
    description: Scalar = ""
    keywords: list[Scalar] | None = None
    maintainers: list[Maintainer | None] | None = None
    icon: Scalar = ""
    api_version: Scalar = ""
    condition: Scalar = ""
    tags: Scalar = ""
    app_version: Scalar = ""
    deprecated: bool | None = False
    annotations: dict[str, Scalar] | None = None
    kube_version: Scalar = ""
    dependencies: list[Dependency | None] | None = None
    type: Scalar = ""
    urls: list[Scalar] | None = None
    created: str | None = ""
    removed: bool | None = False
    digest: Scalar = ""
    checksum: Scalar = ""
    engine: Scalar = ""
    tiller_version: Scalar = ""
    url: Scalar = ""


class StrictEntry(Entry, gc=False, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """Of YAML, in which an unknown field refuses the whole index, as upstream."""


class Located(msgspec.Struct, frozen=True, gc=False):
    """What a version is chosen and pulled by."""

    name: str = ""
    version: str = ""
    created: str = ""
    digest: str = ""
    urls: list[str] | None = None


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An entry as it is kept: JSON, and what it is sorted by."""

    body: bytes
    order: semver.Order


_TEXTS = tuple(field.name for field in msgspec.structs.fields(Entry) if field.type == Scalar)
_LISTS = ("sources", "keywords", "urls")


def stored(entry: Entry) -> Stored:
    """The entry made fit to be kept. Raises EntryRefused when it is none (SEC-15), ValueError for a bad time."""
    validated(entry)
    entry.created = entry.created or _NO_TIME
    if not _TIME.fullmatch(entry.created):
        raise ValueError(f"cannot parse '{entry.created[:64]}' as a time")
    body = msgspec.json.encode(entry)
    if entry.urls is None:
        body = body[:-1] + b',"urls":null}'
    return Stored(body, semver.parse(str(entry.version)).order)


def validated(entry: Entry) -> Entry:
    """The entry itself, or the metadata of a chart, made plain. Raises EntryRefused."""
    _make_plain(entry)
    entry.api_version = entry.api_version or _API_VERSION
    _check(entry, str(entry.name), str(entry.version))
    return entry


def _check(entry: Entry, name: str, version: str) -> None:
    if not name or name in (".", "..") or "/" in name:
        raise EntryRefused(f"chart.metadata.name '{name[:64]}' is invalid")
    if not semver.is_valid(version):
        raise EntryRefused(f"chart.metadata.version '{version[:64]}' is invalid")
    if entry.type not in _TYPES:
        raise EntryRefused("chart.metadata.type must be application or library")
    if any(maintainer is None for maintainer in entry.maintainers or ()):
        raise EntryRefused("maintainers must not contain empty or null nodes")
    for dependency in entry.dependencies or ():
        if dependency is None or (dependency.alias and not _ALIAS.fullmatch(text(dependency.alias))):
            raise EntryRefused("a dependency is empty, or its alias is invalid")


def _make_plain(entry: Entry) -> None:
    """Texts where texts belong, without what cannot be printed; null is nothing."""
    for field in _TEXTS:
        setattr(entry, field, text(getattr(entry, field)))
    for field in _LISTS:
        items = getattr(entry, field)
        setattr(entry, field, None if items is None else [text(item) for item in items])
    entry.deprecated, entry.removed = bool(entry.deprecated), bool(entry.removed)
    if entry.annotations is not None:
        entry.annotations = {
            key: value if isinstance(value, str) else text(value) for key, value in entry.annotations.items()
        }
    for part in (*(entry.maintainers or ()), *(entry.dependencies or ())):
        if part is not None:
            _make_part_plain(part)


def _make_part_plain(part: Maintainer | Dependency) -> None:
    for field in ("name", "email", "url") if isinstance(part, Maintainer) else _DEPENDENCY_TEXTS:
        setattr(part, field, text(getattr(part, field)))
    if isinstance(part, Dependency):
        part.tags = None if part.tags is None else [text(tag) for tag in part.tags]
        part.enabled = bool(part.enabled)


def text(value: Scalar) -> str:
    """What Go makes of a value where it wants a text; white space becomes spaces, the unprintable is left out."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return repr(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
        case str() if value.isprintable():
            return value
    return "".join(" " if char.isspace() else char for char in str(value) if char.isspace() or char.isprintable())
