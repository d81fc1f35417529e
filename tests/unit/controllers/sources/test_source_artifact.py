"""Which artifact a Kustomization delivers, and what it asks of its dependencies."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from headrace.api.kinds import KUSTOMIZATION
from headrace.api.kustomization import Kustomization, KustomizationSpec, SourceReference
from headrace.api.meta import SOURCE_GROUP
from headrace.apply.applied import AppliedStore
from headrace.controllers.kustomize.dependencies import Dependencies
from headrace.controllers.kustomize.kustomization import KustomizationController, Trees
from headrace.controllers.sources.artifact import SourcePolicy, Sources
from headrace.kube.cluster import Clusters
from headrace.kube.errors import NoMatch
from headrace.kube.objects import decode_object
from headrace.model.artifact import Artifact
from headrace.model.errors import Stalled, StepError, Waiting
from headrace.model.objects import LiveObject
from headrace.model.read import Part
from headrace.model.reference import Reference
from headrace.render.kustomize import Builder
from headrace.toolbox import Toolbox
from tests.manual_clock import ManualClock
from tests.servers.sources import RecordedScope

FOUND = {"path": "p", "url": "http://x/p", "revision": "main@sha1:2", "digest": "sha256:1", "lastUpdateTime": "t"}
READY = {"type": "Ready", "status": "True", "reason": "x", "message": "", "lastTransitionTime": "t"}


def stored(kind: str, namespace: str, **content: Any) -> LiveObject:
    group = KUSTOMIZATION.group if kind == "Kustomization" else SOURCE_GROUP
    meta = {"name": "app", "namespace": namespace, "generation": 1}
    return decode_object(msgspec.json.encode({"apiVersion": f"{group}/v1", "kind": kind, "metadata": meta} | content))


def scope_with(*objects: LiveObject) -> RecordedScope:
    myself = stored("Kustomization", "default")
    return RecordedScope(myself, objects={live.reference: live for live in objects})


async def artifact(scope: RecordedScope, kind: str, namespace: str = "", **policy: Any) -> Artifact:
    sources = Sources(SourcePolicy(**policy))
    return await sources.artifact(SourceReference(kind, "app", namespace), "default", 600.0, scope)


async def refusal(scope: RecordedScope, kind: str, namespace: str = "", **policy: Any) -> StepError:
    with pytest.raises(StepError) as caught:
        await artifact(scope, kind, namespace, **policy)
    return caught.value


@pytest.mark.spec("KS-SRC-01")
@pytest.mark.parametrize("kind", ["GitRepository", "OCIRepository", "Bucket", "ExternalArtifact"])
async def test_every_kind_of_source_serves_its_artifact(kind: str) -> None:
    scope = scope_with(stored(kind, "default", status={"artifact": FOUND}))
    assert (await artifact(scope, kind, external_artifacts=True)).revision == "main@sha1:2"


@pytest.mark.spec("KS-SRC-01")
async def test_an_external_artifact_is_denied_unless_the_gate_is_open() -> None:
    error = await refusal(scope_with(stored("ExternalArtifact", "default", status={"artifact": FOUND})),
                          "ExternalArtifact")
    assert isinstance(error, Stalled)
    assert error.reason == "AccessDenied"


class WithoutKinds(RecordedScope):
    """A cluster in which no definition of a source is installed."""

    async def read(self, reference: Reference, part: Part, *, version: str = "") -> LiveObject | None:
        raise NoMatch(reference.group, reference.kind)


async def test_a_source_of_a_kind_that_is_not_installed_is_waited_for() -> None:
    error = await refusal(WithoutKinds(stored("Kustomization", "default")), "Bucket")
    assert isinstance(error, Waiting)
    assert error.objects == (Reference(SOURCE_GROUP, "Bucket", "", ""),)
    assert error.message.startswith("unable to get source 'default/app': no matches for kind")


@pytest.mark.spec("KS-SRC-02")
async def test_a_source_in_another_namespace_is_used() -> None:
    scope = scope_with(stored("GitRepository", "other", status={"artifact": FOUND}))
    assert (await artifact(scope, "GitRepository", "other")).revision == "main@sha1:2"


@pytest.mark.spec("KS-SRC-03")
async def test_a_source_in_another_namespace_is_denied_where_operators_say_so() -> None:
    scope = scope_with(stored("GitRepository", "other", status={"artifact": FOUND}))
    error = await refusal(scope, "GitRepository", "other", no_cross_namespace_refs=True)
    assert isinstance(error, Stalled)
    assert error.reason == "AccessDenied"
    assert error.message == "can't access 'GitRepository/other/app', cross-namespace references have been blocked"
    assert not scope.reads
    own = scope_with(stored("GitRepository", "default", status={"artifact": FOUND}))
    assert await artifact(own, "GitRepository", "default", no_cross_namespace_refs=True)


@pytest.mark.spec("KS-SRC-05")
async def test_without_an_artifact_the_source_is_waited_for_and_the_timer_is_the_fallback() -> None:
    source = stored("GitRepository", "default")
    error = await refusal(scope_with(source), "GitRepository")
    assert isinstance(error, Waiting)
    assert (error.reason, error.after, error.objects) == ("ArtifactFailed", 30.0, (source.reference,))
    assert error.message == "Source artifact not found, retrying in 30s"


@pytest.mark.spec("KS-SRC-07")
async def test_a_source_that_fails_or_is_suspended_still_serves_what_it_has() -> None:
    failing = READY | {"status": "False"}
    source = stored("GitRepository", "default", spec={"suspend": True, "interval": "1m", "url": "http://x"},
                    status={"artifact": FOUND, "conditions": [failing]})
    assert (await artifact(scope_with(source), "GitRepository")).revision == "main@sha1:2"


# -- dependencies ------------------------------------------------------------------------------------------------------


def dependency(namespace: str, source: str, revision: str, /, **other: str) -> LiveObject:
    reference = {"kind": "GitRepository", "name": source} | other
    spec = {"interval": "1m", "prune": True, "sourceRef": reference}
    status = {"observedGeneration": 1, "conditions": [READY], "lastAppliedRevision": revision}
    return stored("Kustomization", namespace, spec=spec, status=status)


async def problem(depends_on: dict[str, str], scope: RecordedScope) -> str:
    """Why the dependency of a Kustomization of source `one` at revision main@sha1:2 is not met."""
    spec = {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "one"},
            "dependsOn": [depends_on]}
    ks = stored("Kustomization", "default", spec=spec).decode(Kustomization)
    try:
        await Dependencies(Toolbox()).require(ks, msgspec.convert(FOUND, Artifact), scope)
    except Waiting as error:
        return error.message
    return ""


@pytest.mark.spec("KS-DEP-03", "KS-DEP-04")
@pytest.mark.parametrize(("source", "met"), [("one", False), ("two", True)])
async def test_the_revision_of_a_dependency_counts_only_where_the_source_is_shared(source: str, met: bool) -> None:
    scope = scope_with(dependency("default", source, "main@sha1:1"))
    said = await problem({"name": "app"}, scope)
    assert said == ("" if met else "dependency 'default/app' revision is not up to date")
    assert [read.part for read in scope.reads] == ["readiness", *([] if met else ["readiness at revision"])]


@pytest.mark.spec("KS-DEP-03", "KS-DEP-04")
@pytest.mark.parametrize(("other", "met"), [
    ({"namespace": "default"}, False), ({"namespace": "other"}, True), ({"kind": "OCIRepository"}, True),
])
async def test_a_source_is_shared_with_its_kind_and_namespace_only(other: dict[str, str], met: bool) -> None:
    said = await problem({"name": "app"}, scope_with(dependency("default", "one", "main@sha1:1", **other)))
    assert said == ("" if met else "dependency 'default/app' revision is not up to date")


@pytest.mark.spec("KS-DEP-02")
async def test_a_dependency_that_is_missing_is_waited_for_with_the_timer_as_fallback() -> None:
    spec = {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "one"},
            "dependsOn": [{"name": "absent"}, {"name": "never-looked-at"}]}
    ks = stored("Kustomization", "default", spec=spec).decode(Kustomization)
    for dependencies, after in ((Dependencies(Toolbox()), 30.0), (Dependencies(Toolbox(), 7.0), 7.0)):
        with pytest.raises(Waiting) as waiting:
            await dependencies.require(ks, msgspec.convert(FOUND, Artifact), scope_with())
        assert (waiting.value.reason, waiting.value.after) == ("DependencyNotReady", after)
        assert waiting.value.objects == (KUSTOMIZATION.reference("default", "absent"),)


@pytest.mark.spec("KS-DEP-08")
async def test_a_dependency_may_be_in_another_namespace() -> None:
    there = scope_with(dependency("other", "two", "r"))
    assert await problem({"name": "app", "namespace": "other"}, there) == ""
    assert "dependency 'default/app' not found" in await problem({"name": "app"}, there)
    assert [read.reference.namespace for read in there.reads] == ["other", "default"]


# -- timers ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("KS-SPEC-06")
@pytest.mark.parametrize(("stated", "seconds"), [("", 600.0), ("90s", 90.0)])
def test_a_failed_run_is_repeated_after_the_interval_unless_stated(stated: str, seconds: float) -> None:
    spec = KustomizationSpec(SourceReference("GitRepository", "app"), "10m", prune=True, retry_interval=stated)
    controller = KustomizationController(
        clusters=cast(Clusters, None), toolbox=cast(Builder, None), trees=cast(Trees, None),
        store=cast(AppliedStore, None), clock=ManualClock())
    ks = msgspec.structs.replace(stored("Kustomization", "default", spec={
        "interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "one"}}).decode(Kustomization),
        spec=spec)
    assert controller.retry_interval(ks) == seconds
