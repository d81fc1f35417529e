"""Reads: what a run used of the world, in a form that tells later whether it changed.

Every read of a reconcile is recorded as (reference, part, digest). The engine evaluates the same part again when
an event arrives and wakes the reader only when the digest differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

ABSENT = "absent"
"""The digest of an object that does not exist, whatever the part."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of an object that a reader uses.

    `name` identifies it (two parts with the same name must extract the same); `extract` returns JSON-encodable
    data, or None when the object has no such part. `metadata_only` says that metadata is enough to evaluate it,
    so that no GET is needed where only metadata is watched. `secret` makes the digest a keyed hash.
    """

    name: str
    extract: Callable[[LiveObject], object]
    metadata_only: bool = False
    secret: bool = False

    def digest(self, live: LiveObject | None, key: bytes = b"") -> str:
        """Digest of this part of `live`; ABSENT for None. `key` (32 bytes) is used for secret parts."""
        if live is None:
            return ABSENT
        encoded = msgspec.json.encode(self.extract(live), order="deterministic")
        return hashlib.blake2b(encoded, digest_size=16, key=key if self.secret else b"").hexdigest()


WHOLE = Part("*", lambda live: live.metadata.resource_version, metadata_only=True)
"""Any change at all, status included."""


class Read(msgspec.Struct, frozen=True, gc=False):
    """One recorded read.

    `resource_version` is that of the object when it was read: events that are not newer say nothing new.
    """

    reference: Reference
    part: str
    digest: str
    resource_version: str = ""
