"""HelmChart: a chart of a repository, or one made of the files of another source, offered as an artifact (sources.md
2.4).

A chart subscribes to its source, so that it runs when the source has something new. What is in storage already, by
name and version, is neither fetched nor made again unless the object was changed.
"""

from __future__ import annotations

import dataclasses
import re

import msgspec

from headrace.api.helmchart import HelmChart
from headrace.api.kinds import HELM_CHART
from headrace.api.meta import FINALIZER
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.helm.access import CREDENTIALS
from headrace.controllers.helm.failures import VERIFIED, told_by_chart
from headrace.controllers.helm.local import LocalCharts
from headrace.controllers.helm.plan import Built, Plan
from headrace.controllers.helm.remote import RemoteCharts
from headrace.controllers.helm.sources import REPOSITORY, ChartSource, ChartSources
from headrace.controllers.sources.artifact import ARTIFACT
from headrace.controllers.sources.secrets import TLS
from headrace.controllers.sources.storage import (
    LATEST,
    SourceStorage,
    announce,
    stored,
    told_by_storage,
    withdrawn_unless,
)
from headrace.core.duration import parse_duration
from headrace.model.artifact import Artifact
from headrace.model.outcome import Outcome
from headrace.model.read import Part
from headrace.model.scope import Scope

PULLED, PACKAGED = "ChartPullSucceeded", "ChartPackageSucceeded"
_SAFE = re.compile(r"[^A-Za-z0-9._+-]")


class HelmChartController:
    """Reconciles HelmChart objects; see `engine.controller` for the contract."""

    kind = HELM_CHART
    finalizer = FINALIZER
    parts: tuple[Part, ...] = (CREDENTIALS, TLS, ARTIFACT, REPOSITORY)

    def __init__(
        self, sources: ChartSources, remote: RemoteCharts, local: LocalCharts, store: Store, trees: Trees
    ) -> None:
        self._sources = sources
        self._remote = remote
        self._local = local
        self._storage = SourceStorage("helmchart", store, trees)

    def timeout(self, chart: HelmChart) -> float:
        """A chart and its dependencies, each with the timeout of its repository: the last resort."""
        return 900.0

    def suspended(self, chart: HelmChart) -> bool:
        return chart.spec.suspend

    def retry_interval(self, chart: HelmChart) -> float | None:
        """Exponential backoff."""
        return None

    async def reconcile(self, chart: HelmChart, scope: Scope) -> Outcome:
        """Find the version that is wanted, and make the chart unless it is in storage.

        Reasons: see `helm_failures` and `helm_sources`; ArchiveOperationFailed (StorageOperationFailed).
        """
        held = await self._storage.held(chart.status.artifact, scope)
        with withdrawn_unless(held, chart.status.artifact):
            source = await self._sources.read(chart, scope)
            with told_by_chart(source.revision):
                return await self._build(chart, source, held, scope)

    async def finalize(self, chart: HelmChart, scope: Scope) -> None:
        """Delete the stored charts (SRC-COM-02)."""
        await self._storage.remove(chart.metadata)

    async def _build(self, chart: HelmChart, source: ChartSource, held: Artifact | None, scope: Scope) -> Outcome:
        charts = self._local if source.repository is None else self._remote
        with told_by_storage():
            plan = await charts.plan(chart, source, scope)
            if held is not None and _is_current(chart, held, plan.built):
                scope.note(f"artifact up-to-date with remote revision: '{held.revision}'")
                artifact = await self._storage.keep(chart.metadata, held)
                outcome = self._stored(chart, source, artifact, _as_observed(chart, plan.built), scope)
                return _with_proof(chart, outcome, plan)
            await announce("NewChart", f"new {plan.built.described}", scope)
            with scope.step("build"):
                built = await plan.make(scope)
            return _with_proof(chart, await self._publish(chart, source, built, scope), plan)

    async def _publish(self, chart: HelmChart, source: ChartSource, built: Built, scope: Scope) -> Outcome:
        assert built.packed is not None
        if built.dependencies:
            scope.note(f"resolved {built.dependencies} chart dependencies")
        name = _SAFE.sub("-", built.name.rpartition("/")[2])
        with scope.step("store"):
            artifact = await self._storage.publish(
                chart.metadata, f"{name}-{_SAFE.sub('-', built.version)}.tgz", built.packed, built.version,
                before=chart.status.artifact, alias=LATEST,
            )  # fmt: skip
        return self._stored(chart, source, artifact, built, scope)

    def _stored(self, chart: HelmChart, source: ChartSource, artifact: Artifact, built: Built, scope: Scope) -> Outcome:
        reason = PACKAGED if built.packaged else PULLED
        observed = list(built.values_files) if chart.spec.ignore_missing_values_files else None
        return stored(
            artifact,
            scope,
            before=chart.status.artifact,
            message=built.summary,
            interval=parse_duration(chart.spec.interval),
            event=built.summary,
            unchanged=reason,
            reason=reason,
            new_reason=reason,
            status={
                "url": self._storage.alias_url(chart.metadata, LATEST),
                "observedSourceArtifactRevision": source.revision or None,
                "observedChartName": built.name,
                "observedValuesFiles": observed,
            },
        )


def _is_current(chart: HelmChart, held: Artifact, built: Built) -> bool:
    """Whether the chart in storage is the one that is wanted (SRC-HCH-07, SRC-HCH-08)."""
    status = chart.status
    return (
        status.observed_generation == chart.metadata.generation
        and status.observed_chart_name == built.name
        and held.revision == built.version
    )


def _as_observed(chart: HelmChart, built: Built) -> Built:
    """A chart in storage: which of its values files there were is known only from when it was made."""
    if not chart.spec.ignore_missing_values_files:
        return built
    return dataclasses.replace(built, values_files=chart.status.observed_values_files)


def _with_proof(chart: HelmChart, outcome: Outcome, plan: Plan) -> Outcome:
    """What was verified, or that nothing is to be."""
    if chart.spec.verify is None:
        return msgspec.structs.replace(outcome, remove=(VERIFIED,))
    return msgspec.structs.replace(outcome, conditions=(*outcome.conditions, *plan.proof))
