"""Charts of GitRepositories and Buckets: packaged from a directory with their dependencies, or taken as packaged
(SRC-HCH-06, SRC-HCH-14..18)."""

from __future__ import annotations

import asyncio
import posixpath
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from headrace.api.helmchart import REVISION, HelmChart
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.helm.dependencies import ChartDependencies
from headrace.controllers.helm.plan import Built, Plan
from headrace.controllers.helm.remote import open_packaged
from headrace.controllers.helm.sources import ChartSource
from headrace.model.artifact import Artifact
from headrace.model.scope import Scope
from headrace.source.helm import chart as charts
from headrace.source.helm import semver
from headrace.source.helm.build import Assembly, ChartBuilder, ValuesSpec, values_files
from headrace.source.helm.chart import CHART_FILE, ChartMetadata, ChartRefused, Files
from headrace.source.helm.errors import ChartError, Reason

_SHORT = 12
"""Characters of a hash in a version: labels hold no more than 63 in all."""


class LocalCharts:
    """Finds and makes charts of the files of other sources."""

    def __init__(self, trees: Trees, store: Store, builder: ChartBuilder, dependencies: ChartDependencies) -> None:
        self._trees = trees
        self._store = store
        self._builder = builder
        self._dependencies = dependencies

    async def plan(self, chart: HelmChart, source: ChartSource, scope: Scope) -> Plan:
        """What the chart says of itself. Raises ChartError, Retry(ArtifactFailed), OSError."""
        artifact = source.artifact
        assert artifact is not None
        spec = chart.spec
        values = ValuesSpec(spec.all_values_files, spec.ignore_missing_values_files)
        async with self._trees.open(artifact) as tree:
            metadata, is_directory = await self._metadata(tree.directory, spec.chart)
        suffix = version_metadata(chart, artifact, bool(values.wanted))
        version = _with_metadata(metadata.version, suffix) if suffix else metadata.version
        packaged = is_directory or bool(suffix) or bool(values.wanted)
        built = Built(metadata.name, version, packaged, values.wanted)

        async def make(scope: Scope) -> Built:
            return await self._make(chart, artifact, built, values, scope)

        return Plan(built, make)

    async def _metadata(self, root: Path, path: str) -> tuple[ChartMetadata, bool]:
        """What the chart at a path says, and whether it is a directory. Raises ChartError(InvalidChartReference)."""
        if not path:
            raise ChartError(Reason.REFERENCE, "no path set for local chart reference")
        try:
            found = await asyncio.to_thread(charts.locate, root, path)
            if found.is_dir():
                return await self._builder.metadata(await asyncio.to_thread(_described, root, path)), True
            with tempfile.TemporaryDirectory(dir=self._store.scratch) as folder:
                return (await open_packaged(self._builder, found, Path(folder))).metadata, False
        except ChartRefused as error:
            raise ChartError(Reason.REFERENCE, str(error)) from error

    async def _make(
        self, chart: HelmChart, artifact: Artifact, built: Built, values: ValuesSpec, scope: Scope
    ) -> Built:
        key = f"chart {artifact.digest} {chart.metadata.uid} {chart.metadata.generation} {chart.spec.chart}"
        if not built.packaged:

            async def fetch(file: BinaryIO) -> None:
                await self._copy(artifact, chart.spec.chart, file)

            return Built(built.name, built.version, False, packed=await self._store.blob(key, fetch))
        assembled: list[Assembly] = []

        async def produce(directory: Path) -> None:
            assembled.append(await self._package(chart, artifact, built, values, directory, scope))

        packed = await self._store.content(f"{key} {built.version} {values}", produce, wait=scope.wait)
        used = assembled[0].values_files if assembled else await self._used(artifact, values)
        resolved = assembled[0].dependencies if assembled else 0
        return Built(built.name, built.version, True, used, packed, resolved)

    async def _used(self, artifact: Artifact, values: ValuesSpec) -> tuple[str, ...]:
        """The values files of a chart that was made before of the same files."""
        if not values.wanted:
            return ()
        async with self._trees.open(artifact) as tree:
            within = ValuesSpec(values.files, values.ignore_missing, tree.directory)
            return await asyncio.to_thread(values_files, {}, within)

    async def _copy(self, artifact: Artifact, path: str, file: BinaryIO) -> None:
        async with self._trees.open(artifact) as tree:
            found = await asyncio.to_thread(charts.locate, tree.directory, path)
            with found.open("rb") as content:
                await asyncio.to_thread(shutil.copyfileobj, content, file)

    async def _package(
        self, chart: HelmChart, artifact: Artifact, built: Built, values: ValuesSpec, directory: Path, scope: Scope
    ) -> Assembly:
        path = chart.spec.chart
        with tempfile.TemporaryDirectory(dir=self._store.scratch) as made:
            folder = Path(made)
            async with self._trees.open(artifact) as tree:
                root = tree.directory
                assembly, is_directory = await self._assembly(root, path, folder)
                self._builder.set_version(assembly, built.version)
                within = ValuesSpec(values.files, values.ignore_missing, root)
                await self._builder.set_values(assembly, within)
                if is_directory:
                    fetch = self._dependencies.fetcher(chart.metadata.namespace, scope)
                    await self._builder.add_dependencies(assembly, root, path, fetch, folder)
                await asyncio.to_thread(assembly.write, directory)
        return assembly

    async def _assembly(self, root: Path, path: str, folder: Path) -> tuple[Assembly, bool]:
        """The files of the chart. Raises ChartError(ChartPackageError), OSError."""
        try:
            found = await asyncio.to_thread(charts.locate, root, path)
            if not found.is_dir():
                return await open_packaged(self._builder, found, folder), False
            files = await asyncio.to_thread(charts.list_files, root, found, self._builder.limits)
            return Assembly(await self._builder.metadata(files), files), True
        except ChartRefused as error:
            raise ChartError(Reason.PACKAGE, f"failed to load chart from '{path}': {error}") from error


def _described(root: Path, path: str) -> Files:
    """The files that say what the chart is. Blocking."""
    files: Files = {}
    for name in (CHART_FILE, "requirements.yaml"):
        try:
            files[name] = charts.locate(root, posixpath.join(path, name))
        except ChartRefused:
            if name == CHART_FILE:
                raise
    return files


def version_metadata(chart: HelmChart, artifact: Artifact, has_values: bool) -> str:
    """What the version says besides itself: the revision of the source, and the generation that chose the values
    (SRC-HCH-03, SRC-HCH-06)."""
    parts: list[str] = []
    if chart.spec.reconcile_strategy == REVISION:
        parts.append(artifact.revision.rpartition(":")[2].rpartition("/")[2][:_SHORT])
    if has_values:
        parts.append(str(chart.metadata.generation))
    return ".".join(parts)


def _with_metadata(version: str, metadata: str) -> str:
    try:
        return semver.with_metadata(version, metadata)
    except ValueError as error:
        text = f"failed to set SemVer metadata on chart version: {error}"
        raise ChartError(Reason.METADATA, text) from error
