"""What a source produces: a Tree of files, packed into an Artifact with a Revision."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Tree(msgspec.Struct, frozen=True, gc=False):
    """Files in a directory that nobody writes to any more. `digest` is that of the files, not of an archive."""

    directory: Path
    digest: str


class Artifact(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`status.artifact` as every consumer of Flux sources reads it (spec: sources.md section 3).

    `digest` (`sha256:hex`) is that of the served tar.gz, `size` its bytes, `path` relative to the storage root.
    """

    path: str
    url: str
    revision: str
    digest: str = ""
    last_update_time: str = ""
    size: int | None = None
    metadata: dict[str, str] | None = None

    @property
    def origin_revision(self) -> str:
        return (self.metadata or {}).get("org.opencontainers.image.revision", "")
