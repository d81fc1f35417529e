"""Packs a directory into the tar.gz that consumers of Flux sources expect (sources.md section 3, SRC-ART-01..03).

Identity is the digest of the tar: the same files give the same tar everywhere, while gzip differs between machines.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from headrace.core.digests import new_hash

_BLOCK = 512
_RECORD = 20 * _BLOCK
_CHUNK = 1024 * 1024
_GZIP_FORMAT = 31
_LEVEL = 2

_FILE, _DIRECTORY, _PAX = b"0", b"5", b"x"
_OCTAL_SIZE_LIMIT = 8**11


class Compressor(Protocol):
    """The part of zlib's compression object that is used; isal's is the same."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


try:
    from isal import isal_zlib

    def _new_compressor() -> Compressor:
        return isal_zlib.compressobj(level=_LEVEL, wbits=_GZIP_FORMAT)

except ImportError:  # isal has no wheel for every machine

    def _new_compressor() -> Compressor:
        return zlib.compressobj(level=_LEVEL, wbits=_GZIP_FORMAT)


@dataclass(frozen=True, slots=True)
class Packed:
    """A written tar.gz: its digest and size, and the digest of the tar inside; digests as `algorithm:hex`."""

    digest: str
    size: int
    tar_digest: str


def pack(directory: Path, target: BinaryIO, algorithm: str = "sha256") -> Packed:
    """Write the files and directories below `directory` to `target`. Links and other things are left out.

    Owner, time and modes are those of every Flux artifact; the entry `.` comes first, then lexical order. Blocking:
    call it in a thread. Raises OSError.
    """
    inner, outer = hashlib.sha256(), new_hash(algorithm)
    compressor = _new_compressor()
    size = 0

    def write(data: bytes) -> None:
        nonlocal size
        if data:
            target.write(data)
            outer.update(data)
            size += len(data)

    for block in _gathered(_tar(directory)):
        inner.update(block)
        write(compressor.compress(block))
    write(compressor.flush())
    return Packed(f"{algorithm}:{outer.hexdigest()}", size, f"sha256:{inner.hexdigest()}")


def _gathered(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Larger pieces, padded at the end to a record as tar does: a call per header would be most of the cost."""
    buffer = bytearray()
    total = 0
    for block in blocks:
        buffer += block
        if len(buffer) >= _CHUNK:
            total += len(buffer)
            yield bytes(buffer)
            buffer.clear()
    buffer += bytes(2 * _BLOCK)
    buffer += bytes(-(total + len(buffer)) % _RECORD)
    yield bytes(buffer)


def _tar(directory: Path) -> Iterator[bytes]:
    yield from _header(".", _DIRECTORY, 0, 0o750)
    yield from _below(directory, "")


def _below(directory: Path, prefix: str) -> Iterator[bytes]:
    """Entries of a directory in lexical order of bytes, each directory before what is in it."""
    with os.scandir(directory) as found:
        children = sorted(found, key=lambda child: os.fsencode(child.name))
    for child in children:
        name = prefix + child.name
        if child.is_dir(follow_symlinks=False):
            yield from _header(name + "/", _DIRECTORY, 0, 0o750)
            yield from _below(directory / child.name, name + "/")
        elif child.is_file(follow_symlinks=False):
            yield from _file(directory / child.name, name)


def _file(path: Path, name: str) -> Iterator[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        yield from _header(name, _FILE, status.st_size, 0o700 if status.st_mode & 0o111 else 0o600)
        left = status.st_size
        while left:
            data = file.read(min(left, _CHUNK))
            if not data:
                raise OSError(f"'{name}' became shorter while it was read")
            left -= len(data)
            yield data
        yield bytes(-status.st_size % _BLOCK)


def _header(name: str, kind: bytes, size: int, mode: int) -> Iterator[bytes]:
    """One ustar header; a PAX header before it where name or size do not fit."""
    raw = os.fsencode(name)
    prefix, short = _split(raw)
    records = b""
    if short is None or not raw.isascii():
        records += _record(b"path", raw)
        prefix, short = b"", (raw if raw.isascii() else raw.decode("utf-8", "replace").encode("ascii", "replace"))[:100]
    if size >= _OCTAL_SIZE_LIMIT:
        records += _record(b"size", str(size).encode())
    if records:
        yield _ustar(b"PaxHeaders.0/pax", b"", _PAX, len(records), 0o600)
        yield records + bytes(-len(records) % _BLOCK)
    yield _ustar(short, prefix, kind, min(size, _OCTAL_SIZE_LIMIT - 1), mode)


def _split(raw: bytes) -> tuple[bytes, bytes | None]:
    """Prefix and name as ustar holds them; None for the name when it does not fit."""
    if len(raw) <= 100:
        return b"", raw
    cut = raw.rfind(b"/", 0, 156)
    while cut > 0:
        if len(raw) - cut - 1 <= 100 and cut <= 155 and len(raw) > cut + 1:
            return raw[:cut], raw[cut + 1 :]
        cut = raw.rfind(b"/", 0, cut)
    return b"", None


def _record(key: bytes, value: bytes) -> bytes:
    """`<length> <key>=<value>\\n`; the length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _ustar(name: bytes, prefix: bytes, kind: bytes, size: int, mode: int) -> bytes:
    """Owner and group 0 without names, time 0."""
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % 0,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
