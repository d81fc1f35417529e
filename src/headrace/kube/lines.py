"""Splits a stream of bytes into lines of any length: aiohttp's own reader fails on watch events above its
buffer."""

from __future__ import annotations

from headrace.kube.errors import ResponseTooLarge


class LineSplitter:
    """Feed it chunks, get whole lines. An unfinished line is kept as its chunks, so a long one costs no more
    than its bytes; a line above `limit` bytes raises ResponseTooLarge."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their ends; empty lines are left out."""
        first, newline, rest = chunk.partition(b"\n")
        if not newline:
            self._keep(first)
            return []
        self._keep(first)
        lines = [b"".join(self._parts), *rest.split(b"\n")]
        self._parts, self._size = [], 0
        self._keep(lines.pop())
        return [line for line in lines if line.strip()]

    @property
    def unfinished(self) -> bool:
        """Whether the stream ended within a line."""
        return self._size > 0

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._size += len(part)
        if self._size > self._limit:
            raise ResponseTooLarge(f"a line of the stream is longer than {self._limit} bytes")
        self._parts.append(part)
