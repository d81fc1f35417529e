"""Frames between headrace and a toolbox child: two big-endian lengths, a JSON header, a raw body."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

MAX_FRAME = 256 * 1024 * 1024
"""Bytes of header and body together, in both directions."""

_LENGTHS = struct.Struct(">II")


class FrameTooLarge(Exception):
    """The other side announced more than it may send, or this side was asked to."""


class RequestHeader(msgspec.Struct, frozen=True, gc=False):
    """A call. `timeout_ms` 0 means none."""

    id: int
    call: str
    args: msgspec.Raw
    timeout_ms: int = 0


class WantedIdentity(msgspec.Struct, frozen=True, gc=False):
    """Whom a key service would have had to be shown. `provider` is aws, azure or gcp; `scope` what the identity has to
    be good for: a region, a scope of tokens, nothing."""

    provider: str
    scope: str = ""


class ErrorHeader(msgspec.Struct, frozen=True, gc=False):
    """An error as the child tells it."""

    code: str
    message: str
    file: str = ""
    object: str = ""
    identities: tuple[WantedIdentity, ...] = ()


class AnswerHeader(msgspec.Struct, frozen=True, gc=False):
    """An answer: a result, or an error."""

    id: int
    result: msgspec.Raw = msgspec.Raw(b"{}")
    error: ErrorHeader | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnswerHeader)


def encode(request: RequestHeader, body: bytes) -> list[bytes]:
    """The frame in parts, so that a large body is not copied. Raises FrameTooLarge."""
    header = _encoder.encode(request)
    if len(header) + len(body) > MAX_FRAME:
        raise FrameTooLarge(f"a call of {len(header) + len(body)} bytes is larger than {MAX_FRAME}")
    return [_LENGTHS.pack(len(header), len(body)) + header, body]


class Splitter:
    """Cuts a stream of bytes, arriving in any pieces, into answers."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = _LENGTHS.size

    def feed(self, data: bytes) -> Iterator[tuple[AnswerHeader, bytes]]:
        """The answers that `data` completes. Raises FrameTooLarge and msgspec.DecodeError."""
        self._buffer += data
        while len(self._buffer) >= self._needed:
            header_size, body_size = _LENGTHS.unpack_from(self._buffer)
            if header_size + body_size > MAX_FRAME:
                raise FrameTooLarge(f"an answer of {header_size + body_size} bytes is larger than {MAX_FRAME}")
            end = _LENGTHS.size + header_size + body_size
            if len(self._buffer) < end:
                self._needed = end
                return
            yield self._cut(header_size, end)

    def _cut(self, header_size: int, end: int) -> tuple[AnswerHeader, bytes]:
        with memoryview(self._buffer) as view:
            start = _LENGTHS.size + header_size
            # A copy, since the raw result goes on pointing into it.
            header = _decoder.decode(bytes(view[_LENGTHS.size : start]))
            body = bytes(view[start:end])
        del self._buffer[:end]
        self._needed = _LENGTHS.size
        return header, body
