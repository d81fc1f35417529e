"""A chart as files: listed in a directory or unpacked from an archive, its metadata read, and written as a package.

Everything stays inside the tree that the chart came in: a link that leads out of it refuses the chart, as do files
beyond the limits (SRC-HCH-17, SRC-HCH-18, SEC-15).
"""

from __future__ import annotations

import asyncio
import posixpath
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.gunzip import TarStream
from headrace.core.limits import CHART_TOTAL_BYTES, HelmLimits, UnpackLimits
from headrace.core.paths import PathRefused, resolve_inside
from headrace.core.tar import EntryKind, entries
from headrace.core.unpack import ArchiveRefused, TreeWriter, unpack
from headrace.source.helm.chart_ignore import HELM_IGNORE, HelmIgnore
from headrace.source.helm.entry import Dependency, Entry, EntryRefused, text, validated
from headrace.source.helm.index import ReadYaml
from headrace.source.values import merged_values

CHART_FILE, VALUES_FILE = "Chart.yaml", "values.yaml"
_REQUIREMENTS = "requirements.yaml"
_LOCKS = ("Chart.lock", "requirements.lock")
_DEPTH = 32
_CHUNK = 1024 * 1024
_BOM = b"\xef\xbb\xbf"

Files = dict[str, Path]
"""The files of a chart by their path in it."""


class ChartRefused(ValueError):
    """This is no chart, or none that is accepted. The message is for users."""


class _Listed(msgspec.Struct, frozen=True, gc=False):
    dependencies: list[Dependency | None] | None = None


@dataclass(frozen=True, slots=True)
class ChartMetadata:
    """What a chart says of itself. `content` is its Chart.yaml as data."""

    name: str
    version: str
    dependencies: tuple[Dependency, ...]
    content: dict[str, Any]


def unpack_limits(limits: HelmLimits) -> UnpackLimits:
    """Those of an archive that holds a chart."""
    return UnpackLimits(files=20_000, total_bytes=CHART_TOTAL_BYTES, file_bytes=limits.file_bytes, depth=_DEPTH,
                        archive_bytes=limits.chart_bytes)  # fmt: skip


def clamped(path: str) -> str:
    """A path that is read from the root of a tree and cannot leave it by its text."""
    return posixpath.normpath("/" + path).lstrip("/")


def locate(root: Path, path: str) -> Path:
    """The file or directory at a path of a tree, links resolved. Raises ChartRefused when it is not in there."""
    try:
        found = resolve_inside(root, clamped(path))
    except PathRefused as error:
        raise ChartRefused(str(error)) from error
    if not found.exists():
        raise ChartRefused(f"stat /{clamped(path)}: no such file or directory")
    return found


def open_archive(archive: Path, directory: Path, limits: HelmLimits) -> Path:
    """Unpack a chart into an empty directory and return where it is in there. Blocking. Raises ChartRefused."""
    size = archive.stat().st_size
    if size > limits.chart_bytes:
        raise ChartRefused(f"size of chart '{archive.name}' exceeds '{limits.chart_bytes}' bytes limit")
    try:
        with archive.open("rb") as file:
            unpack(file, directory, unpack_limits(limits))
    except ArchiveRefused as error:
        raise ChartRefused(str(error)) from error
    for folder in sorted(directory.iterdir()):
        if (folder / CHART_FILE).is_file():
            return folder
    raise ChartRefused(f"no '{CHART_FILE}' found")


def names(archive: Path) -> frozenset[str]:
    """The paths of the files of a chart that was packaged here. Blocking. Raises OSError."""
    limits = UnpackLimits(total_bytes=CHART_TOTAL_BYTES)
    with archive.open("rb") as file:
        found = entries(TarStream(file, limits), limits)
        return frozenset(entry.path.partition("/")[2] for entry in found if entry.kind is EntryKind.FILE)


def list_files(root: Path, chart: Path, limits: HelmLimits) -> Files:
    """The files of the chart in a directory of the tree `root` that `.helmignore` leaves. Blocking.

    Raises ChartRefused for links out of the tree, files beyond the limit and what is no file; OSError.
    """
    ignore_file = chart / HELM_IGNORE
    try:
        ignore = HelmIgnore(ignore_file.read_text("utf-8", "replace") if _is_inside(root, ignore_file) else "")
    except ValueError as error:
        raise ChartRefused(f"cannot load ignore rules for chart: {error}") from error
    walk = _Walk(root.resolve(), limits, ignore)
    return dict(walk.below(chart, "", 0))


def all_files(root: Path, chart: Path, limits: HelmLimits) -> Files:
    """As `list_files`, of a chart that was packaged: what is to be left out was left out then."""
    return dict(_Walk(root.resolve(), limits, None).below(chart, "", 0))


@dataclass(frozen=True, slots=True)
class _Walk:
    root: Path
    limits: HelmLimits
    ignore: HelmIgnore | None

    def below(self, directory: Path, prefix: str, depth: int) -> Iterator[tuple[str, Path]]:
        if depth > _DEPTH:
            raise ChartRefused(f"'{prefix}' is deeper than {_DEPTH} directories")
        for entry in sorted(directory.iterdir()):
            path = f"{prefix}{entry.name}"
            is_directory = entry.is_dir()
            if self.ignore is not None and self.ignore.ignores(path, directory=is_directory):
                continue
            what = "directory" if is_directory else "file"
            if not _is_inside(self.root, entry):
                raise ChartRefused(f"cannot load '{path}' {what}: absolute path traverses outside root boundary")
            if is_directory:
                yield from self.below(entry, f"{path}/", depth + 1)
            else:
                self._check(entry, path)
                yield path, entry

    def _check(self, entry: Path, path: str) -> None:
        found = entry.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ChartRefused(f"cannot load irregular file {path} as it has file mode type bits set")
        if found.st_size > self.limits.file_bytes:
            limit = self.limits.file_bytes
            raise ChartRefused(f"cannot load file {path} as file size ({found.st_size}) exceeds limit ({limit})")


def _is_inside(root: Path, entry: Path) -> bool:
    """Whether an entry, links followed, is a file or directory of the tree; False too when it leads nowhere."""
    try:
        target = entry.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return root.resolve() in (target, *target.parents)


async def read_metadata(files: Mapping[str, Path], read_yaml: ReadYaml) -> ChartMetadata:
    """What the chart of these files says of itself, requirements.yaml included. Raises ChartRefused, OSError."""
    if CHART_FILE not in files:
        raise ChartRefused(f"no '{CHART_FILE}' found")
    content = await read_map(files[CHART_FILE], CHART_FILE, read_yaml)
    try:
        entry = validated(msgspec.convert(content, Entry))
    except EntryRefused as error:
        raise ChartRefused(f"validation: {error}") from error
    except msgspec.ValidationError as error:
        raise ChartRefused(f"cannot load '{CHART_FILE}': {error}") from error
    dependencies = _present(entry.dependencies)
    if _REQUIREMENTS in files:
        dependencies = await _listed(files[_REQUIREMENTS], _REQUIREMENTS, read_yaml) or dependencies
    return ChartMetadata(str(entry.name), str(entry.version), dependencies, content)


async def required(files: Mapping[str, Path], metadata: ChartMetadata, read_yaml: ReadYaml) -> tuple[Dependency, ...]:
    """The dependencies of the lock file, else those of the metadata. Raises ChartRefused, OSError."""
    for name in _LOCKS:
        if name in files:
            return await _listed(files[name], name, read_yaml)
    return metadata.dependencies


async def _listed(path: Path, name: str, read_yaml: ReadYaml) -> tuple[Dependency, ...]:
    content = await read_map(path, name, read_yaml)
    try:
        return _present(msgspec.convert(content, _Listed).dependencies)
    except msgspec.ValidationError as error:
        raise ChartRefused(f"cannot load '{name}': {error}") from error


def _present(dependencies: list[Dependency | None] | None) -> tuple[Dependency, ...]:
    return tuple(one for one in dependencies or () if one is not None)


async def read_map(path: Path, name: str, read_yaml: ReadYaml) -> dict[str, Any]:
    """The map that a YAML file holds; several documents are merged, none is an empty map. Raises ChartRefused."""
    data = await asyncio.to_thread(path.read_bytes)
    try:
        documents = msgspec.json.decode(await read_yaml(data.removeprefix(_BOM)), type=list[dict[str, Any]])
    except (ValueError, msgspec.DecodeError) as error:
        raise ChartRefused(f"cannot load '{name}': {error}") from error
    content: dict[str, Any] = {}
    for document in documents:
        content = merged_values(content, document)
    return content


def write(directory: Path, name: str, files: Mapping[str, Path], replaced: Mapping[str, bytes], total: int) -> None:
    """Write a chart below `directory`/`name`, the form of a package; `replaced` are contents instead of files.

    Blocking. Raises ChartRefused, OSError.
    """
    limits = UnpackLimits(total_bytes=total)
    try:
        with TreeWriter(directory, limits) as writer:
            for path in sorted({*files, *replaced}):
                content = [replaced[path]] if path in replaced else _chunks(files[path])
                writer.file(f"{name}/{path}", content)
    except (PathRefused, ArchiveRefused) as error:
        raise ChartRefused(str(error)) from error


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            yield data


def dependency_name(dependency: Dependency) -> str:
    """The name under which a dependency is in its chart."""
    return text(dependency.alias) or text(dependency.name)
