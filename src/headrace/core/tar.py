"""A reader of tar archives that knows no more than it must: ustar, GNU long names and PAX paths.

Python's own tarfile allocates what a header declares and follows whatever an archive asks for; this one bounds
every header and refuses what has no place in a source (SEC-01, SEC-03).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from headrace.core.gunzip import TarStream
from headrace.core.limits import KIB, UnpackLimits
from headrace.core.paths import printable

_BLOCK = 512
_CHUNK = 256 * 1024
_EXTENSION_BYTES = 64 * KIB
"""Largest PAX or GNU extension header: they hold a path or two."""


class BadTar(Exception):
    """The archive is no tar, ends too early, or holds an entry of a kind that is refused."""


class EntryKind(enum.Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"


_KINDS = {
    b"0": EntryKind.FILE,
    b"\0": EntryKind.FILE,
    b"7": EntryKind.FILE,
    b"1": EntryKind.HARDLINK,
    b"2": EntryKind.SYMLINK,
    b"5": EntryKind.DIRECTORY,
}
_REFUSED = {b"3": "character device", b"4": "block device", b"6": "FIFO", b"S": "sparse file"}


@dataclass(slots=True)
class Entry:
    """One entry. The data of a file can be read once, before the next entry is asked for."""

    path: str
    kind: EntryKind
    size: int
    mode: int
    link: str
    _stream: TarStream
    _left: int = field(default=0)

    def chunks(self) -> Iterator[bytes]:
        """The data of the file, piece by piece. Raises BadTar when the archive ends before."""
        while self._left:
            data = self._stream.read(min(self._left, _CHUNK))
            if not data:
                raise BadTar("the archive ends in the middle of a file")
            self._left -= len(data)
            yield data


def entries(stream: TarStream, limits: UnpackLimits) -> Iterator[Entry]:
    """All entries in order. Raises BadTar, and BadGzip as the stream does."""
    pax: dict[str, str] = {}
    first = stream.read(_BLOCK)
    if not first:
        raise BadTar("this is no tar archive: it is empty")
    while (header := _header(first or stream.read(_BLOCK))) is not None:
        first = b""
        kind, size = header[156:157], _number(header[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            _extend(pax, kind, _extension(stream, size))
            continue
        entry = _entry(stream, header, kind, size, pax)
        if entry.size > limits.file_bytes:
            raise BadTar(f"{printable(entry.path)} is larger than {limits.file_bytes} bytes")
        yield entry
        for _ in entry.chunks():
            pass
        stream.read(-entry.size % _BLOCK)
        pax = {}


def _header(block: bytes) -> bytes | None:
    """The block, if it is a header; None at the end of the archive."""
    if not block or not block.strip(b"\0"):
        return None
    if len(block) < _BLOCK:
        raise BadTar("the archive ends too early")
    if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 0x20:
        raise BadTar("this is no tar archive, or it is damaged: wrong checksum of a header")
    return block


def _entry(stream: TarStream, header: bytes, type_flag: bytes, size: int, pax: dict[str, str]) -> Entry:
    path = pax.get("path") or _ustar_path(header)
    if type_flag in _REFUSED or any(key.startswith("GNU.sparse") for key in pax):
        raise BadTar(f"{printable(path)} is a {_REFUSED.get(type_flag, 'sparse file')}, which is refused")
    kind = _KINDS.get(type_flag)
    if kind is None:
        raise BadTar(f"{printable(path)} has the unknown type {type_flag!r}")
    if kind is EntryKind.FILE and path.endswith("/"):
        kind = EntryKind.DIRECTORY
    if "size" in pax:
        size = _decimal(pax["size"])
    size = size if kind is EntryKind.FILE else 0
    link = pax.get("linkpath") or _text(header[157:257])
    return Entry(path, kind, size, _number(header[100:108]), link, stream, size)


def _ustar_path(header: bytes) -> str:
    name = _text(header[0:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _extension(stream: TarStream, size: int) -> bytes:
    if size > _EXTENSION_BYTES:
        raise BadTar(f"an extension header is larger than {_EXTENSION_BYTES} bytes")
    data = stream.read(size + -size % _BLOCK)
    if len(data) < size:
        raise BadTar("the archive ends too early")
    return data[:size]


def _extend(pax: dict[str, str], kind: bytes, data: bytes) -> None:
    """Global headers are comments to us: a path for all entries makes no sense."""
    if kind == b"L":
        pax["path"] = _text(data)
    elif kind == b"K":
        pax["linkpath"] = _text(data)
    elif kind == b"x":
        pax.update(_records(data))


def _records(data: bytes) -> dict[str, str]:
    """`<length> <key>=<value>\\n`, where the length counts the whole record."""
    records: dict[str, str] = {}
    while data:
        length, _, _ = data.partition(b" ")
        size = _decimal(length.decode("ascii", "replace"))
        key, separator, value = data[len(length) + 1 : size - 1].partition(b"=")
        if size > len(data) or data[size - 1 : size] != b"\n" or not separator:
            raise BadTar("a PAX header is damaged")
        if b"\0" in value:
            raise BadTar("a PAX header contains a NUL byte")
        records[_decoded(key)] = _decoded(value)
        data = data[size:]
    return records


def _number(octets: bytes) -> int:
    """An octal number, or the binary form of GNU tar for large ones."""
    if octets[0] & 0x80:
        return int.from_bytes(bytes([octets[0] & 0x7F]) + octets[1:], "big")
    digits = octets.strip(b" \0")
    if digits.strip(b"01234567"):
        raise BadTar("this is no tar archive, or it is damaged: a header holds no number")
    return int(digits or b"0", 8)


def _decimal(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadTar("a PAX header is damaged")
    return int(text)


def _text(field_bytes: bytes) -> str:
    return _decoded(field_bytes.partition(b"\0")[0])


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
