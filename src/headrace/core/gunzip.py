"""Decompression within limits: a tar stream out of a plain or gzipped file, hashed on its way."""

from __future__ import annotations

import hashlib
import zlib
from typing import BinaryIO, Protocol

from headrace.core.limits import UnpackLimits

_CHUNK = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_FORMAT = 31


class Inflater(Protocol):
    """The part of zlib's decompression object that is used; isal's is the same."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


try:
    from isal import igzip_lib, isal_zlib

    # isal's stub declares its exception class as an instance
    _ERRORS: tuple[type[Exception], ...] = (igzip_lib.IsalError, zlib.error)  # type: ignore[assignment]

    def _new_inflater() -> Inflater:
        inflater: Inflater = isal_zlib.decompressobj(wbits=_GZIP_FORMAT)
        return inflater

except ImportError:  # isal has no wheel for every machine
    _ERRORS = (zlib.error,)

    def _new_inflater() -> Inflater:
        return zlib.decompressobj(wbits=_GZIP_FORMAT)


class BadGzip(Exception):
    """The compressed data is damaged, ends too early, or unpacks to more than is allowed."""


class TarStream:
    """Reads from the beginning of `archive`, which may be gzipped, exactly as many bytes as asked for."""

    def __init__(self, archive: BinaryIO, limits: UnpackLimits) -> None:
        self._archive = archive
        self._limits = limits
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._read = 0
        self._written = 0
        self._pending = self._input()
        self._inflater = _new_inflater() if self._pending.startswith(_GZIP_MAGIC) else None

    def read(self, size: int) -> bytes:
        """`size` bytes, or fewer at the end. Raises BadGzip."""
        while len(self._buffer) < size and (data := self._output()):
            self._hash.update(data)
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def finish(self) -> str:
        """Read what is left, so that the checksum of gzip is checked, and return the digest of all bytes."""
        while self.read(_CHUNK):
            pass
        return f"sha256:{self._hash.hexdigest()}"

    def _input(self) -> bytes:
        data = self._archive.read(_CHUNK)
        self._read += len(data)
        if self._read > self._limits.archive_bytes:
            raise BadGzip(f"the archive is larger than {self._limits.archive_bytes} bytes")
        return data

    def _output(self) -> bytes:
        if self._inflater is None:
            data = self._pending
            self._pending = self._input() if data else b""
        else:
            data = self._inflate(self._inflater)
        self._written += len(data)
        self._check_amount()
        return data

    def _inflate(self, inflater: Inflater) -> bytes:
        while True:
            if inflater.eof:
                following = self._next_member(inflater)
                if following is None:
                    return b""
                inflater = following
            try:
                data = inflater.decompress(self._pending, _CHUNK)
            except _ERRORS as error:
                raise BadGzip(f"the archive is no valid gzip: {error}") from error
            self._pending = inflater.unconsumed_tail
            if data:
                return data
            if not inflater.eof and not self._pending:
                self._pending = self._input()
                if not self._pending:
                    raise BadGzip("the archive is no valid gzip: it ends too early")

    def _next_member(self, ended: Inflater) -> Inflater | None:
        """gzip files may be put one behind the other; zeros may follow the last."""
        rest = ended.unused_data or self._input()
        if not rest.strip(b"\0"):
            self._pending = b""
            return None
        self._pending = rest
        self._inflater = _new_inflater()
        return self._inflater

    def _check_amount(self) -> None:
        limits = self._limits
        if self._written > limits.ratio_free_bytes and self._written > limits.ratio * self._read and self._inflater:
            raise BadGzip(f"the archive unpacks to more than {limits.ratio} times its size")
        if self._written > 2 * limits.total_bytes:
            raise BadGzip(f"the archive unpacks to more than {limits.total_bytes} bytes")
