"""What rendering gives: the objects to deliver as JSON bytes, and what was read to make them."""

from __future__ import annotations

import msgspec

from headrace.model.reference import Reference


class Manifest(msgspec.Struct, frozen=True, gc=False):
    """One object to deliver. `body` is its JSON with owner labels set; `digest` that of the body; `file` the path
    in the source it came from, where known. Only the envelope is decoded."""

    reference: Reference
    api_version: str
    body: bytes
    digest: str
    file: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]


class FileRead(msgspec.Struct, frozen=True, gc=False):
    """A file read, a directory listed, or a path looked for in vain (`kind`: file, dir, absent)."""

    path: str
    kind: str
    digest: str = ""


class Manifests(msgspec.Struct, frozen=True, gc=False):
    """The result of a renderer. `digest` covers all bodies in order; `remote` says that something outside the tree
    was read, so that the reads are not the whole truth."""

    items: tuple[Manifest, ...]
    reads: tuple[FileRead, ...]
    digest: str
    remote: bool = False
