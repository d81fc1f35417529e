"""Inputs that are almost right: seeds, changed at random by the byte, by the line and by the token.

The same seed makes the same cases. `CASES=100000 SEED=7` in the environment make the tests of this folder run long.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence

CASES = int(os.environ.get("CASES", "300"))
SEED = int(os.environ.get("SEED", "4711"))

_BYTES = rb"""
\0 \xff \xc3 \xed\xa0\x80 \xe2\x80\x8b \xef\xbb\xbf \xd9\xa1 \xc3\x9f \xe2\x80\xae \n \r\n \t \x20
- -- .. ../ / // \\ : @ % %00 %2e%2e ? # * ** [ ] { } . ' " | > ${ --- ...
0 1 -1 00 1e999 0x10 1_0 nan inf null ~ true &a *a <<:\x20*a !!python/object:os.system !!binary
"""
_INTERESTING = (
    *(token.decode("unicode_escape").encode("latin-1") for token in _BYTES.split()),
    *(b"", b"9" * 20, b"9" * 400),
)


class Mutator:
    """Makes cases of seeds. `tokens` are what the format itself is made of."""

    def __init__(self, name: str, seeds: Sequence[bytes], tokens: Sequence[bytes] = ()) -> None:
        self._random = random.Random(f"{SEED} {name}")
        self._seeds = seeds
        self._tokens = (*_INTERESTING, *tokens)

    def cases(self, count: int = CASES) -> Iterator[bytes]:
        """The seeds as they are, then `count` changed ones."""
        yield from self._seeds
        for _ in range(count):
            data = self._random.choice(self._seeds)
            for _ in range(self._random.choice((1, 1, 1, 2, 3, 8))):
                data = self._changed(data)
            yield data

    def _changed(self, data: bytes) -> bytes:
        kind = self._random.randrange(8)
        at, to = sorted(self._random.randrange(len(data) + 1) for _ in range(2))
        to = min(to, at + 64)
        if kind == 0:
            return data[:at] + self._random.choice(self._tokens) + data[at:]
        if kind == 1:
            return data[:at] + self._random.choice(self._tokens) + data[to:]
        if kind == 2:
            return data[:at] + data[to:]
        if kind == 3:
            return data[:at] + data[at:to] * self._random.choice((2, 3, 50)) + data[to:]
        if kind == 4:
            return data[:at]
        if kind == 5:
            other = self._random.choice(self._seeds)
            return data[:at] + other[self._random.randrange(len(other) + 1) :]
        if kind == 6 and data:
            at = min(at, len(data) - 1)
            return data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]
        lines = data.split(b"\n")
        self._random.shuffle(lines)
        return b"\n".join(lines)
