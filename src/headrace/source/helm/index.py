"""An index as it is kept: JSON with the charts in order and their versions best first, found without reading it all.

`normalise` makes it of what a repository serves, version by version (SEC-16). `Lookup` finds the versions of one chart
in a kept file by where they stand in it, so that a chart never costs the memory of the whole index.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from headrace.core.limits import MIB
from headrace.source.helm.entry import Entry, EntryRefused, Located, StrictEntry, stored
from headrace.source.helm.errors import IndexRefused
from headrace.source.helm.index_stream import NotInBlocks, Piece, pieces
from headrace.source.helm.semver import Order

T = TypeVar("T")

ReadYaml = Callable[[bytes], Awaitable[bytes]]
"""Strict YAML documents, each a map, to a JSON array of them. Raises ValueError."""

WHOLE_BYTES = 4 * MIB
"""The largest index of YAML that is read as a whole, because it is not written in blocks."""
_BATCH_BYTES = 32 * 1024
_ENTRIES = re.compile(rb'^  "entries": \{', re.MULTILINE)
_NAME = re.compile(rb'^    ("(?:[^"\\\n]|\\.)*"): (\[)', re.MULTILINE)
_END_OF_CHART = b"\n    ]"
_WINDOW = 512 * 1024
"""Bytes that are searched at a time, since nothing else runs meanwhile."""
_INDENT = b"\n      "


class _Fields(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What stands beside the entries."""

    api_version: str | None = None
    generated: str | None = None
    server_info: dict[str, Any] | None = None
    public_keys: list[str] | None = None
    annotations: dict[str, Any] | None = None


class _StrictFields(_Fields, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True):
    pass


class _StrictWhole(_Fields, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True):
    entries: dict[str, list[StrictEntry | None] | None] | None = None


class _Lazy(_Fields, frozen=True, gc=False, rename="camel"):
    """An index of JSON, its versions yet to be decoded one by one."""

    entries: dict[str, list[msgspec.Raw] | None] | None = None


class _Versions(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    v: list[StrictEntry | None] | None = None


@dataclass(slots=True)
class _Kept:
    """Where the versions of charts stand in a file of pieces, and how they are sorted."""

    file: BinaryIO
    charts: dict[str, list[tuple[Order, int, int]]] = field(default_factory=dict)
    dropped: int = 0

    def add(self, chart: str, entry: Entry | None) -> None:
        """Keep a version, unless it is worth nothing (SRC-HRP-03)."""
        versions = self.charts.setdefault(chart, [])
        try:
            kept = stored(entry) if entry is not None else None
        except EntryRefused:
            kept = None
        except ValueError as error:
            raise IndexRefused(f"chart '{chart}': {error}") from error
        if kept is None:
            self.dropped += 1
            return
        offset = self.file.tell()
        self.file.write(msgspec.json.format(kept.body, indent=2).replace(b"\n", _INDENT))
        versions.append((kept.order, offset, self.file.tell() - offset))


async def normalise(source: Path, target: BinaryIO, scratch: BinaryIO, read_yaml: ReadYaml) -> None:
    """Write the index that is in `source` to `target` as it is kept; `scratch` is a file for pieces in between.

    Raises IndexRefused when it is none (SRC-HRP-03), OSError.
    """
    kept = _Kept(scratch)
    fields = await _taken(source, kept, read_yaml)
    if not fields.api_version:
        raise IndexRefused("no API version specified")
    await asyncio.to_thread(_write, fields, kept, target)


async def _taken(source: Path, kept: _Kept, read_yaml: ReadYaml) -> _Fields:
    with source.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise IndexRefused("empty index.yaml file")
        if _begins_as_json(file):
            return await _of_json(source, kept, read_yaml)
        try:
            return await _of_blocks(file, kept, read_yaml)
        except (NotInBlocks, IndexRefused) as error:
            if size > WHOLE_BYTES:
                raise IndexRefused(f"cannot be read in parts: {error}") from error
    kept.charts.clear()
    return await _of_whole(source, kept, read_yaml)


def _begins_as_json(file: BinaryIO) -> bool:
    start = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    file.seek(0)
    return start[:1] == b"{"


async def _of_json(source: Path, kept: _Kept, read_yaml: ReadYaml) -> _Fields:
    """JSON, which is mapped and not read, and of which one version at a time is decoded."""
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            await asyncio.to_thread(_keep_json, view, kept)
            return msgspec.json.decode(view, type=_Fields)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if len(mapped) > WHOLE_BYTES:
                raise IndexRefused(str(error)) from None
        finally:
            view.release()
    return await _of_whole(source, kept, read_yaml)


def _keep_json(view: memoryview, kept: _Kept) -> None:
    entries = msgspec.json.decode(view, type=_Lazy).entries or {}
    for chart, versions in entries.items():
        kept.charts.setdefault(chart, [])
        for raw in versions or ():
            kept.add(chart, msgspec.json.decode(raw, type=Entry | None))


async def _of_blocks(file: BinaryIO, kept: _Kept, read_yaml: ReadYaml) -> _Fields:
    fields = b""
    batch: list[Piece] = []
    size = 0
    for piece in pieces(file):
        if not piece.chart:
            fields = piece.text
        elif piece.text:
            batch.append(piece)
            size += len(piece.text)
        else:
            kept.charts.setdefault(piece.chart, [])
        if size > _BATCH_BYTES:
            await _keep_batch(batch, kept, read_yaml)
            batch, size = [], 0
    await _keep_batch(batch, kept, read_yaml)
    found = await _decoded([fields], _StrictFields, read_yaml)
    if len(found) > 1:
        raise NotInBlocks("there are several documents")
    return found[0] if found else _Fields()


async def _keep_batch(batch: list[Piece], kept: _Kept, read_yaml: ReadYaml) -> None:
    """Each piece is a list of one version; under a key it is a document of its own."""
    found = await _decoded([b"v:\n" + piece.text for piece in batch], _Versions, read_yaml)
    if len(found) != len(batch):
        raise NotInBlocks("an entry is no single document")
    for piece, versions in zip(batch, found, strict=True):
        for entry in versions.v or ():
            kept.add(piece.chart, entry)


async def _of_whole(source: Path, kept: _Kept, read_yaml: ReadYaml) -> _Fields:
    found = await _decoded([await asyncio.to_thread(source.read_bytes)], _StrictWhole, read_yaml)
    if not found:
        raise IndexRefused("empty index.yaml file")
    for chart, versions in (found[0].entries or {}).items():
        kept.charts.setdefault(chart, [])
        for entry in versions or ():
            kept.add(chart, entry)
    return found[0]


async def _decoded(documents: list[bytes], kind: type[T], read_yaml: ReadYaml) -> list[T]:
    try:
        body = await read_yaml(b"\n---\n".join(documents))
        return msgspec.json.decode(body, type=list[kind])  # type: ignore[valid-type]
    except (msgspec.DecodeError, ValueError) as error:
        raise IndexRefused(str(error)) from error


def _write(fields: _Fields, kept: _Kept, target: BinaryIO) -> None:
    """In the order and form of upstream's stored index, charts sorted by name, versions by precedence."""
    if fields.server_info:
        target.write(b'{\n  "serverInfo": ' + _member(fields.server_info) + b",\n")
    else:
        target.write(b"{\n")
    target.write(b'  "apiVersion": ' + _member(fields.api_version))
    target.write(b',\n  "generated": ' + _member(fields.generated or "0001-01-01T00:00:00Z"))
    target.write(b',\n  "entries": {')
    for number, chart in enumerate(sorted(kept.charts)):
        target.write((b"," if number else b"") + b"\n    " + msgspec.json.encode(chart) + b": [")
        _write_versions(kept, chart, target)
        target.write(b"]")
    target.write(b"\n  }" if kept.charts else b"}")
    for name, value in (("publicKeys", fields.public_keys), ("annotations", fields.annotations)):
        if value:
            target.write(b",\n  " + msgspec.json.encode(name) + b": " + _member(value))
    target.write(b"\n}")


def _write_versions(kept: _Kept, chart: str, target: BinaryIO) -> None:
    versions = sorted(kept.charts[chart], key=lambda version: version[0], reverse=True)
    for number, (_, offset, size) in enumerate(versions):
        target.write((b"," if number else b"") + _INDENT)
        kept.file.seek(offset)
        target.write(kept.file.read(size))
    if versions:
        target.write(b"\n    ")


def _member(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).replace(b"\n", b"\n  ")


class Lookup:
    """Where the charts stand in a kept index. Made once for each content, by one pass over the file."""

    def __init__(self, path: Path) -> None:
        """Raises IndexRefused when the file is no kept index, OSError. Blocking: make it in a thread."""
        self._charts: dict[str, int] = {}
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            start = _ENTRIES.search(mapped)
            if start is None:
                raise IndexRefused("there are no entries")
            self._find(mapped, start.end())

    def _find(self, mapped: mmap.mmap, position: int) -> None:
        while position < len(mapped):
            end = mapped.find(b"\n", position + _WINDOW)
            end = len(mapped) if end < 0 else end + 1
            for match in _NAME.finditer(mapped, position, end):
                self._charts[msgspec.json.decode(match[1], type=str)] = match.start(2)
            position = end

    def __contains__(self, chart: str) -> bool:
        return chart in self._charts

    def versions(self, path: Path, chart: str) -> list[Located]:
        """The versions of a chart in the file that the lookup was made of. Raises KeyError, IndexRefused, OSError."""
        position = self._charts[chart]
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if mapped[position : position + 2] == b"[]":
                return []
            end = mapped.find(_END_OF_CHART, position)
            try:
                return msgspec.json.decode(mapped[position : end + len(_END_OF_CHART)], type=list[Located])
            except msgspec.DecodeError as error:
                raise IndexRefused(str(error)) from error
