"""Layers of artifacts: which one is used, and how it becomes files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from headrace.core.limits import UNPACK, UnpackLimits
from headrace.core.unpack import unpack
from headrace.source.ignore import IGNORE_FILE, Ignore
from headrace.source.oci.errors import OciError
from headrace.source.oci.manifest import Descriptor, Manifest

_IGNORE_BYTES = 1024 * 1024


def select_layer(manifest: Manifest, media_type: str = "") -> Descriptor:
    """The first layer, or the first of a media type (SRC-OCI-09). Raises OciError when there is none (SRC-OCI-10)."""
    layers = manifest.layers or ()
    if not layers:
        raise OciError("no layers found in artifact")
    for layer in layers:
        if media_type in ("", layer.media_type):
            return layer
    raise OciError(f"failed to find layer with media type '{media_type}' in artifact")


def extract(archive: BinaryIO, directory: Path, ignore: str | None, limits: UnpackLimits = UNPACK) -> None:
    """Unpack a layer below an empty directory and take out what is ignored (SRC-OCI-11). Blocks.

    Raises ArchiveRefused, and OSError as the file system does.
    """
    unpack(archive, directory, limits)
    leave_out(directory, ignore)


def leave_out(directory: Path, ignore: str | None) -> None:
    """Delete what the `.sourceignore` files of a tree, then the rules `ignore`, leave out.

    The tree is ours alone and has only files and directories. A directory that is left out goes with what is in it,
    apart from files that a later rule takes in again.
    """
    rules = Ignore(_ignore_files(directory), ignore)
    for name, folders, files in os.walk(directory, topdown=False):
        folder = Path(name)
        inner = folder.relative_to(directory).parts
        for file in files:
            if rules.excludes((*inner, file), False):
                (folder / file).unlink()
        for child in folders:
            if rules.excludes((*inner, child), True) and not any((folder / child).iterdir()):
                (folder / child).rmdir()


def _ignore_files(directory: Path) -> list[tuple[tuple[str, ...], str]]:
    """Every `.sourceignore` with its directory, those higher up first."""
    found: list[tuple[tuple[str, ...], str]] = []
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if name != ".git"]
        if IGNORE_FILE in files:
            with (Path(folder) / IGNORE_FILE).open("rb") as file:
                text = file.read(_IGNORE_BYTES).decode("utf-8", "replace")
            found.append((Path(folder).relative_to(directory).parts, text))
    return sorted(found, key=lambda item: item[0])
