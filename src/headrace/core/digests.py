"""The digests of artifacts, `algorithm:hex`: which algorithms there are, and how a file's is computed."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import BinaryIO, Protocol

_CHUNK = 1024 * 1024


class Hash(Protocol):
    """The part of hashlib's objects that is used; those of blake3 have it too."""

    def update(self, data: bytes, /) -> object: ...
    def hexdigest(self) -> str: ...


def _blake3() -> Hash:
    from blake3 import blake3

    return blake3()


_NEW_HASH: dict[str, Callable[[], Hash]] = {
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "blake3": _blake3,
}

ALGORITHMS = tuple(_NEW_HASH)
"""Those that are written and accepted (SEC-33): what Flux's consumers take. Its source-controller would also write
sha1, which none of them reads."""


def new_hash(algorithm: str) -> Hash:
    """What computes digests of one of the ALGORITHMS."""
    return _NEW_HASH[algorithm]()


def digest_of(file: BinaryIO, algorithm: str) -> str:
    """The digest of a file as `algorithm:hex`; the algorithm is one of ALGORITHMS."""
    hashed = new_hash(algorithm)
    while data := file.read(_CHUNK):
        hashed.update(data)
    return f"{algorithm}:{hashed.hexdigest()}"


def matches(file: BinaryIO, digest: str) -> bool:
    """Whether a file has the digest; never for an algorithm that is not accepted (SEC-33)."""
    algorithm, _, expected = digest.partition(":")
    if algorithm not in ALGORITHMS or not expected:
        return False
    return hmac.compare_digest(digest_of(file, algorithm).encode(), digest.encode())
