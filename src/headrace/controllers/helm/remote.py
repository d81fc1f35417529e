"""Charts of HelmRepositories: pulled as they are, or packaged anew with values files merged (SRC-HCH-01..05)."""

from __future__ import annotations

import asyncio
import posixpath
import re
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, Protocol

from headrace.api.helmchart import HelmChart
from headrace.api.helmrepository import HelmRepository
from headrace.artifact.pack import Packed
from headrace.artifact.store import Store
from headrace.controllers.helm.candidates import Candidate, HttpCandidates
from headrace.controllers.helm.plan import Built, Plan
from headrace.controllers.helm.sources import ChartSource
from headrace.model.outcome import Condition
from headrace.model.scope import Scope
from headrace.source.helm import chart as charts
from headrace.source.helm import semver
from headrace.source.helm.build import Assembly, ChartBuilder, ValuesSpec
from headrace.source.helm.chart import ChartRefused
from headrace.source.helm.errors import ChartError, Reason

_NAME = re.compile(r"([-a-z0-9]+/?\.?)+")
_NAME_LENGTH = 512


class OciCandidates(Protocol):
    """Charts of registries."""

    async def find(self, repo: HelmRepository, chart: str, version: str, scope: Scope) -> Candidate:
        """The version that is wanted; an exact one costs no request (SRC-HCH-12). Raises ChartError."""
        ...


class RemoteCharts:
    """Finds and makes charts of repositories."""

    def __init__(self, http: HttpCandidates, oci: OciCandidates, builder: ChartBuilder, store: Store) -> None:
        self._http = http
        self._oci = oci
        self._builder = builder
        self._store = store

    async def plan(self, chart: HelmChart, source: ChartSource, scope: Scope) -> Plan:
        """The version that is wanted. Raises ChartError, and what opening a repository raises."""
        assert source.repository is not None
        _check_name(chart.spec.chart)
        found = await self.find(source.repository, source, chart.spec.chart, chart.spec.version, scope)
        proof = await self._verified(chart, found, scope)
        values = ValuesSpec(chart.spec.all_values_files, chart.spec.ignore_missing_values_files)
        version = found.version
        if values.wanted:
            version = _with_metadata(version, str(chart.metadata.generation))
        built = Built(found.name, version, packaged=bool(values.wanted), values_files=values.wanted)

        async def make(scope: Scope) -> Built:
            return await self._make(found, built, values, scope)

        return Plan(built, make, proof)

    async def find(
        self, repo: HelmRepository, source: ChartSource | None, chart: str, version: str, scope: Scope
    ) -> Candidate:
        """The version of a chart in a repository of either type."""
        if repo.spec.is_oci:
            return await self._oci.find(repo, chart, version, scope)
        artifact = source.artifact if source is not None else None
        return await self._http.find(repo, artifact, chart, version, scope)

    async def _verified(self, chart: HelmChart, found: Candidate, scope: Scope) -> tuple[Condition, ...]:
        if chart.spec.verify is None:
            return ()
        if found.verify is None:
            raise ChartError(Reason.VERIFICATION, "charts of repositories with an index cannot be verified")
        return await found.verify(chart, scope)

    async def _make(self, found: Candidate, built: Built, values: ValuesSpec, scope: Scope) -> Built:
        key = await found.key(scope)
        if not values.wanted:

            async def fetch(file: BinaryIO) -> None:
                await self._pull(found, file, scope)

            packed = await self._store.blob(key, fetch, wait=scope.wait)
            return Built(built.name, built.version, built.packaged, packed=packed)
        used: tuple[str, ...] | None = None

        async def produce(directory: Path) -> None:
            nonlocal used
            used = await self._repackage(found, built.version, values, directory, scope)

        shaped = f"{key} {built.version} {values.files} {values.ignore_missing}"
        packed = await self._store.content(shaped, produce, wait=scope.wait)
        if used is None:
            used = await self._used(packed, values)
        return Built(built.name, built.version, built.packaged, used, packed)

    async def _used(self, packed: Packed, values: ValuesSpec) -> tuple[str, ...]:
        """The values files of a chart that was made before: it has them still. Raises OSError."""
        if not values.ignore_missing:
            return values.files
        names = await asyncio.to_thread(charts.names, self._store.content_file(packed))
        return tuple(name for name in values.files if posixpath.normpath(name) in names)

    async def _pull(self, found: Candidate, file: BinaryIO, scope: Scope) -> None:
        """The archive as it is, once it is seen to be a chart."""
        with tempfile.TemporaryDirectory(dir=self._store.scratch) as folder:
            archive = await download(found, Path(folder), scope)
            try:
                await self._opened(archive, Path(folder))
            except ChartRefused as error:
                message = f"failed to load chart metadata from written chart: {error}"
                raise ChartError(Reason.PULL, message) from error
            with archive.open("rb") as content:
                await asyncio.to_thread(shutil.copyfileobj, content, file)

    async def _repackage(
        self, found: Candidate, version: str, values: ValuesSpec, directory: Path, scope: Scope
    ) -> tuple[str, ...]:
        with tempfile.TemporaryDirectory(dir=self._store.scratch) as folder:
            archive = await download(found, Path(folder), scope)
            try:
                assembly = await self._opened(archive, Path(folder))
            except ChartRefused as error:
                raise ChartError(Reason.PACKAGE, f"failed to load downloaded chart: {error}") from error
            self._builder.set_version(assembly, version)
            await self._builder.set_values(assembly, values)
            await asyncio.to_thread(assembly.write, directory)
            return assembly.values_files

    async def _opened(self, archive: Path, folder: Path) -> Assembly:
        """An archive unpacked beside itself. Raises ChartRefused, OSError."""
        return await open_packaged(self._builder, archive, folder)


async def open_packaged(builder: ChartBuilder, archive: Path, folder: Path) -> Assembly:
    """A packaged chart unpacked into `folder`, its metadata read. Raises ChartRefused, OSError."""
    unpacked = folder / "unpacked"
    await asyncio.to_thread(unpacked.mkdir)
    opened = await asyncio.to_thread(charts.open_archive, archive, unpacked, builder.limits)
    files = await asyncio.to_thread(charts.all_files, unpacked, opened, builder.limits)
    return Assembly(await builder.metadata(files), files)


async def download(found: Candidate, folder: Path, scope: Scope) -> Path:
    """The archive of a candidate, in a file of its own. Raises ChartError, OSError."""
    descriptor, name = tempfile.mkstemp(dir=folder, suffix=".tgz")
    with open(descriptor, "wb") as file:  # noqa: ASYNC230 - written as it comes
        await found.fetch(file, scope)
    return Path(name)


def _check_name(name: str) -> None:
    if not name:
        raise ChartError(Reason.REFERENCE, "no name set for remote chart reference")
    if len(name) > _NAME_LENGTH or not _NAME.fullmatch(name):
        text = (
            f"invalid chart name '{name[:128]}': a valid name must be lower case letters and numbers and MAY be "
            "separated with dashes (-), slashes (/) or periods (.)"
        )
        raise ChartError(Reason.REFERENCE, text)


def _with_metadata(version: str, metadata: str) -> str:
    try:
        return semver.with_metadata(version, metadata)
    except ValueError as error:
        text = f"failed to parse version from chart metadata as SemVer: {error}"
        raise ChartError(Reason.METADATA, text) from error
