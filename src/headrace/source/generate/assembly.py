"""One output from its copy operations: files staged, merged, named by their content, and what is never packed removed.

An operation sees what those before it have left. The name of the stored file is upstream's, so that consumers and
people find under it what they expect.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.api.artifactgenerator import CopyOperation
from headrace.core.limits import UNPACK, UnpackLimits
from headrace.core.unpack import TreeWriter, check_amounts
from headrace.source.generate.copying import Merging, Spent, perform
from headrace.source.generate.errors import CopyRefused
from headrace.source.generate.files import Kind, Segments, TreeReader, chunks
from headrace.source.generate.merging import YamlToJson, merged
from headrace.source.ignore import Ignore


async def assemble(
    operations: Sequence[CopyOperation],
    sources: Mapping[str, Path],
    staging: Path,
    to_json: YamlToJson,
    *,
    limits: UnpackLimits = UNPACK,
) -> None:
    """Perform the operations in order on `staging`, an empty directory. `sources` are directories by alias.

    Raises CopyRefused for what cannot be done, PathRefused and ArchiveRefused for what may not, what `to_json` raises,
    and OSError.
    """
    spent = Spent()
    for operation in operations:
        mergings, spent = await asyncio.to_thread(perform, operation, sources, staging, spent, limits)
        for merging in mergings:
            await _merge(merging, staging, to_json, limits)


async def _merge(merging: Merging, staging: Path, to_json: YamlToJson, limits: UnpackLimits) -> None:
    base = await asyncio.to_thread(_read, staging, merging.target, limits)
    overlay = await asyncio.to_thread(_read, merging.source, merging.path, limits)
    await asyncio.to_thread(_replace, staging, merging.target, await merged(base, overlay, to_json))


def _read(directory: Path, path: Segments, limits: UnpackLimits) -> bytes:
    with TreeReader(directory) as reader:
        if reader.kind(path) is not Kind.FILE:
            raise CopyRefused(f"'{'/'.join(path)}' is a directory: only files are merged")
        with reader.open(path) as file:
            check_amounts(limits, 0, 0, os.fstat(file.fileno()).st_size, "/".join(path))
            return file.read()


def _replace(directory: Path, path: Segments, content: bytes) -> None:
    with TreeWriter(directory) as writer:
        writer.file("/".join(path), [content])


def finish(staging: Path, name: str) -> str:
    """Take out what is never packed, and return the name of the file that holds the rest.

    The name is upstream's: the Adler-32 of a list of the Adler-32 of each file as staged. What is excluded by default
    (SRC-AGN-17) counts in it.
    """
    with TreeReader(staging) as reader:
        everything = list(reader.walk())
        file_name = _content_name(reader, [path for path, kind in everything if kind is Kind.FILE], name)
    ignore = Ignore((), None)
    for path, kind in everything:
        if ignore.excludes(path, kind is Kind.DIRECTORY):
            _remove(staging.joinpath(*path), kind)
    return file_name


def _content_name(reader: TreeReader, files: Sequence[Segments], name: str) -> str:
    lines = sorted(("/".join((name, *path)).encode(), path) for path in files)
    total = 1
    for shown, path in lines:
        checksum = 1
        with reader.open(path) as file:
            for chunk in chunks(file):
                checksum = zlib.adler32(chunk, checksum)
        total = zlib.adler32(b"%x  %s\n" % (checksum, shown), total)
    return f"{total}.tar.gz"


def _remove(path: Path, kind: Kind) -> None:
    if kind is Kind.DIRECTORY:
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
