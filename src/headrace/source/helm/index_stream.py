"""An index of YAML taken apart as it is read: one piece for each version of a chart, never the whole (SEC-16).

Programs write indexes in block style, and there indentation alone says where an entry begins and ends. A piece that was
cut wrong (a quoted text that goes on further left) is no valid YAML by itself, so nothing is ever misread: then, and
for every other style, the index counts as one that must be read whole, for which a smaller limit applies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

PIECE_BYTES = 4 * 1024 * 1024
"""The largest single entry."""
_BOM = b"\xef\xbb\xbf"
_ENTRIES = re.compile(rb"entries:[ \t]*(#.*)?\r?\n?")
_KEY = re.compile(rb" *([A-Za-z0-9][A-Za-z0-9._/+-]*|\"[A-Za-z0-9._/+-]+\"|'[A-Za-z0-9._/+-]+'):[ \t]*(#.*)?\r?\n?")


class NotInBlocks(ValueError):
    """The text is not written in the way that can be taken apart."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the index: a sequence of one version of `chart`, or (chart empty) fields beside the entries."""

    chart: str
    text: bytes


def pieces(file: BinaryIO) -> Iterator[Piece]:
    """The parts of an index in order; a chart without versions gives one with an empty text. Raises NotInBlocks."""
    lines = _Lines(file)
    fields: list[bytes] = []
    size = 0
    while (line := lines.next()) is not None:
        if _ENTRIES.fullmatch(line):
            yield from _entries(lines)
        else:
            fields.append(line)
            size += len(line)
            if size > PIECE_BYTES:
                raise NotInBlocks("there is too much beside the entries")
    yield Piece("", b"".join(fields))


def _entries(lines: _Lines) -> Iterator[Piece]:
    """The charts below `entries:`, until a line at the left margin."""
    charts = _Charts()
    while (line := lines.next()) is not None:
        indent = _indent(line)
        if indent == 0:
            lines.back(line)
            break
        yield from charts.take(line, indent)
    yield from charts.end()


class _Charts:
    """Charts and their versions, line by line: names at one indentation, the dashes of a list at one as deep or deeper,
    everything else deeper than its dash."""

    def __init__(self) -> None:
        self._margin = self._dash = -1
        self._chart = ""
        self._seen: set[str] = set()
        self._item: list[bytes] = []
        self._size = 0

    def take(self, line: bytes, indent: int) -> Iterator[Piece]:
        """The piece that ends with the line before this one, if one does."""
        if indent < 0 or (self._dash >= 0 and indent > self._dash):
            self._go_on(line)
        elif self._chart and _is_dash(line, indent) and self._dash in (-1, indent) and indent >= self._margin:
            yield from self._end_item()
            self._item, self._size, self._dash = [line], len(line), indent
        elif self._margin in (-1, indent):
            yield from self.end()
            self._margin, self._chart, self._dash = indent, self._name(line), -1
        else:
            raise NotInBlocks("the entries are not indented as a list for each chart")

    def end(self) -> Iterator[Piece]:
        """The last piece of a chart; an empty one when it has no versions."""
        if self._chart and self._dash < 0:
            yield Piece(self._chart, b"")
        yield from self._end_item()

    def _end_item(self) -> Iterator[Piece]:
        if self._item:
            yield Piece(self._chart, b"".join(self._item))
        self._item = []

    def _go_on(self, line: bytes) -> None:
        if not self._item:
            return
        self._item.append(line)
        self._size += len(line)
        if self._size > PIECE_BYTES:
            raise NotInBlocks(f"an entry of chart '{self._chart}' is larger than {PIECE_BYTES} bytes")

    def _name(self, line: bytes) -> str:
        match = _KEY.fullmatch(line)
        if match is None:
            raise NotInBlocks("the name of a chart is not followed by a list")
        name = match[1].decode("ascii").strip("'\"")
        if name in self._seen:
            raise NotInBlocks(f"chart '{name}' is there twice")
        self._seen.add(name)
        return name


def _is_dash(line: bytes, indent: int) -> bool:
    return line[indent : indent + 1] == b"-" and line[indent + 1 : indent + 2] in (b" ", b"\n", b"\r", b"")


def _indent(line: bytes) -> int:
    """Spaces before the first character; -1 for what says nothing: an empty line or a comment."""
    bare = line.lstrip(b" ")
    return -1 if bare[:1] in (b"", b"\n", b"\r", b"#") else len(line) - len(bare)


class _Lines:
    """The lines of a file one by one, with one step back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held: bytes | None = None
        self._first = True

    def next(self) -> bytes | None:
        line, self._held = self._held, None
        if line is None:
            line = self._file.readline(PIECE_BYTES)
            if self._first:
                line = line.removeprefix(_BOM)
                self._first = False
        if line.startswith((b"%", b"\t")) or len(line) >= PIECE_BYTES:
            raise NotInBlocks("it has directives, tabs, or a line that is far too long")
        return line or None

    def back(self, line: bytes) -> None:
        self._held = line
