"""Packages: a chart's files with other default values, another version, and the dependencies that it lacks.

Made of files as they are: only Chart.yaml (when the version gets metadata) and values.yaml (when values files are
merged) are written anew, and dependencies are put below charts/ as `helm dependency build` puts them.
"""

from __future__ import annotations

import asyncio
import posixpath
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from headrace.core.limits import CHART_TOTAL_BYTES, HELM, HelmLimits
from headrace.source.helm import chart, semver
from headrace.source.helm.chart import CHART_FILE, VALUES_FILE, ChartMetadata, ChartRefused, Files
from headrace.source.helm.entry import Dependency, text
from headrace.source.helm.errors import ChartError, Reason, RepositoryError
from headrace.source.helm.index import ReadYaml
from headrace.source.helm.values import to_yaml
from headrace.source.helm.versions import NoSuchVersion
from headrace.source.values import Values, merged_values
from headrace.source.versions import MatchVersions

_CHARTS = "charts/"

FetchDependency = Callable[[Dependency, Path], Awaitable[Path]]
"""Puts the archive of a dependency into a directory. Raises RepositoryError, NoSuchVersion, ValueError."""


@dataclass(frozen=True, slots=True)
class ValuesSpec:
    """Which files make the default values: of the chart itself, or of the tree at `root`."""

    files: tuple[str, ...] = ()
    ignore_missing: bool = False
    root: Path | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """None when it is just the chart's own values.yaml (SRC-HCH-04)."""
        if len(self.files) == 1 and posixpath.normpath(self.files[0]) == VALUES_FILE:
            return ()
        return self.files


@dataclass(slots=True)
class Assembly:
    """A chart about to be written."""

    metadata: ChartMetadata
    files: Files
    replaced: dict[str, bytes] = field(default_factory=dict)
    values_files: tuple[str, ...] = ()
    dependencies: int = 0

    def write(self, directory: Path) -> None:
        """Blocking. Raises ChartError, OSError."""
        try:
            chart.write(directory, self.metadata.name, self.files, self.replaced, CHART_TOTAL_BYTES)
        except ChartRefused as error:
            raise ChartError(Reason.PACKAGE, str(error)) from error


class ChartBuilder:
    """Makes packages. `scratch` is for what is unpacked meanwhile."""

    def __init__(self, read_yaml: ReadYaml, match: MatchVersions, scratch: Path, *, limits: HelmLimits = HELM) -> None:
        self._read_yaml = read_yaml
        self._match = match
        self._scratch = scratch
        self.limits = limits

    async def metadata(self, files: Mapping[str, Path]) -> ChartMetadata:
        """What a chart says of itself. Raises ChartRefused, OSError."""
        return await chart.read_metadata(files, self._read_yaml)

    def set_version(self, assembly: Assembly, version: str) -> None:
        """Give the chart another version."""
        if version != assembly.metadata.version:
            assembly.replaced[CHART_FILE] = to_yaml(assembly.metadata.content | {"version": version})

    async def set_values(self, assembly: Assembly, values: ValuesSpec) -> None:
        """Replace the default values by those of the values files (SRC-HCH-03). Raises ChartError, OSError."""
        if not values.wanted:
            return
        try:
            content, assembly.values_files = await self._merged(assembly.files, values)
        except ChartRefused as error:
            raise ChartError(Reason.VALUES, str(error)) from error
        if VALUES_FILE not in assembly.files:
            raise ChartError(Reason.VALUES, f"failed to locate values file: {VALUES_FILE}")
        assembly.replaced[VALUES_FILE] = to_yaml(content)

    async def _merged(self, files: Files, values: ValuesSpec) -> tuple[Values, tuple[str, ...]]:
        content: Values = {}
        used: list[str] = []
        for name in values.files:
            found = await asyncio.to_thread(_values_file, files, values, name)
            if found is None:
                continue
            content = merged_values(content, await chart.read_map(found, name, self._read_yaml))
            used.append(name)
        return content, tuple(used)

    # -- dependencies --------------------------------------------------------------------------------------------

    async def add_dependencies(
        self, assembly: Assembly, root: Path, path: str, fetch: FetchDependency, folder: Path
    ) -> None:
        """Put the dependencies into the chart at `path` of the tree `root` that it does not bring (SRC-HCH-14..16).

        `folder` holds what is fetched until the chart is written. Raises ChartError(DependencyBuildError), OSError.
        """
        try:
            wanted = await chart.required(assembly.files, assembly.metadata, self._read_yaml)
            missing = _missing(await self._brought(assembly.files), wanted)
        except ChartRefused as error:
            raise ChartError(Reason.PACKAGE, str(error)) from error
        for dependency in missing:
            repository = text(dependency.repository)
            local = repository == "" or repository.startswith("file://")
            name = chart.dependency_name(dependency)
            try:
                if local:
                    await self._add_local(assembly, root, path, dependency)
                else:
                    await self._add_remote(assembly, dependency, fetch, folder)
            except (ChartRefused, RepositoryError, NoSuchVersion, ValueError) as error:
                where = "local" if local else "remote"
                raise ChartError(Reason.DEPENDENCIES, f"failed to add {where} dependency '{name}': {error}") from error
        assembly.dependencies = len(missing)

    async def _brought(self, files: Files) -> list[str]:
        """The names of the charts below charts/."""
        names: list[str] = []
        inner: dict[str, Files] = {}
        for path, file in files.items():
            name, _, rest = path.removeprefix(_CHARTS).partition("/")
            if not path.startswith(_CHARTS) or name[:1] in ("_", "."):
                continue
            if rest:
                inner.setdefault(name, {})[rest] = file
            elif name.endswith(".tgz"):
                names.append((await self._archived(file)).name)
        return names + [(await self.metadata(found)).name for found in inner.values() if CHART_FILE in found]

    async def _archived(self, archive: Path) -> ChartMetadata:
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            opened = await asyncio.to_thread(chart.open_archive, archive, Path(folder), self.limits)
            files = await asyncio.to_thread(chart.all_files, Path(folder), opened, self.limits)
            return await self.metadata(files)

    async def _add_local(self, assembly: Assembly, root: Path, path: str, dependency: Dependency) -> None:
        where = _local_path(path, dependency)
        try:
            found = await asyncio.to_thread(chart.locate, root, where)
        except ChartRefused:
            reference = text(dependency.repository)
            raise ChartRefused(f"no chart found at '/{chart.clamped(where)}' (reference '{reference}')") from None
        if found.is_dir():
            files = await asyncio.to_thread(chart.list_files, root, found, self.limits)
            metadata = await self.metadata(files)
            await self._check_version(metadata, dependency)
            assembly.files |= {f"{_CHARTS}{metadata.name}/{name}": file for name, file in files.items()}
            return
        metadata = await self._archived(found)
        await self._check_version(metadata, dependency)
        assembly.files[f"{_CHARTS}{metadata.name}-{metadata.version}.tgz"] = found

    async def _check_version(self, metadata: ChartMetadata, dependency: Dependency) -> None:
        wanted = text(dependency.version)
        if not await self._match(wanted, [str(semver.parse(metadata.version))]):
            raise ChartRefused(f"can't get a valid version for constraint '{wanted}'")

    async def _add_remote(
        self, assembly: Assembly, dependency: Dependency, fetch: FetchDependency, folder: Path
    ) -> None:
        _check_address(text(dependency.repository))
        archive = await fetch(dependency, folder)
        metadata = await self._archived(archive)
        assembly.files[f"{_CHARTS}{metadata.name}-{metadata.version}.tgz"] = archive


def values_files(files: Files, values: ValuesSpec) -> tuple[str, ...]:
    """Those of the values files that there are. Blocking. Raises ChartRefused for one that may not be missing."""
    return tuple(name for name in values.files if _values_file(files, values, name) is not None)


def _values_file(files: Files, values: ValuesSpec, name: str) -> Path | None:
    """Where a values file is; None for one that may be missing. Blocking. Raises ChartRefused."""
    if values.root is None:
        found = files.get(posixpath.normpath(name))
        if found is None and not values.ignore_missing:
            raise ChartRefused(f"no values file found at path '{name}'")
        return found
    try:
        path = chart.locate(values.root, name)
    except ChartRefused:
        if values.ignore_missing:
            return None
        raise ChartRefused(f"no values file found at path '/{chart.clamped(name)}' (reference '{name}')") from None
    if not path.is_file():
        raise ChartRefused(f"no values file found at path '/{chart.clamped(name)}' (reference '{name}')")
    return path


def _missing(brought: Sequence[str], wanted: Sequence[Dependency]) -> list[Dependency]:
    if len(brought) == len(wanted):
        return []
    return [one for one in wanted if chart.dependency_name(one) not in brought]


def _local_path(path: str, dependency: Dependency) -> str:
    """The path of a dependency in the tree. Raises ValueError for an address that is none."""
    repository = text(dependency.repository)
    if not repository:
        return posixpath.join(path, _CHARTS, text(dependency.name))
    address = urlsplit(repository)
    return posixpath.join(path, address.netloc, address.path.lstrip("/"))


def _check_address(repository: str) -> None:
    """Raises ChartRefused for what is no repository that can be asked (SRC-HCH-16)."""
    if repository.startswith("@"):
        raise ChartRefused(f"aliased repository dependency is not supported: {repository}")
    if not repository.startswith(("oci://", "https://", "http://")):
        raise ChartRefused(f"invalid dependency repository URL: {repository}")
