"""settled: when `up --once` has come to its end."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.api.meta import SOURCE_GROUP, StatusCondition
from headrace.cli.root import GIT_REPOSITORY_REFERENCE, KUSTOMIZATION_REFERENCE
from headrace.cli.settled import Goal, Standing, overall, standing
from headrace.cli.view import AliasedReference, FluxInventory, FluxObject, FluxSpec, FluxStatus, NamedReference
from headrace.controllers.generate.sources import sources_digest
from headrace.model.artifact import Artifact
from headrace.model.objects import Metadata
from headrace.model.plan import InventoryEntry
from headrace.model.reference import Reference

OLD, NEW = "main@sha1:old", "main@sha1:new"


def condition(kind: str, status: str, reason: str) -> StatusCondition:
    return StatusCondition(type=kind, status=status, reason=reason, message="", last_transition_time="",
                           observed_generation=1)  # fmt: skip


READY = condition("Ready", "True", "ReconciliationSucceeded")


def metadata(reference: Reference, generation: int = 1) -> Metadata:
    return Metadata(name=reference.name, namespace=reference.namespace, generation=generation)


def repository(revision: str = NEW, handled: str = "token", *conditions: StatusCondition) -> FluxObject:
    artifact = Artifact(path="p", url="u", revision=revision)
    status = FluxStatus(conditions=conditions or (READY,), artifact=artifact, last_handled_reconcile_at=handled)
    return FluxObject(
        metadata(GIT_REPOSITORY_REFERENCE), "GitRepository", "source.toolkit.fluxcd.io/v1", FluxSpec(), status
    )


def kustomization(name: str = "flux-system", revision: str = NEW, *conditions: StatusCondition,
                  inventory: tuple[str, ...] = (), suspend: bool = False, generation: int = 1) -> FluxObject:
    reference = Reference(KUSTOMIZATION_REFERENCE.group, "Kustomization", "flux-system", name)
    entries = FluxInventory(tuple(InventoryEntry(id, "v1") for id in inventory))
    spec = FluxSpec(suspend=suspend, source_ref=NamedReference("flux-system", "GitRepository"))
    status = FluxStatus(conditions=conditions or (READY,), last_applied_revision=revision, inventory=entries)
    return FluxObject(metadata(reference, generation), "Kustomization", "kustomize.toolkit.fluxcd.io/v1", spec, status)


def seen(*objects: FluxObject, goal: Goal = Goal(request="token", revision=NEW)) -> Standing:  # noqa: B008
    return overall({obj.reference: obj for obj in objects}, goal)


def other(kind: str, *conditions: StatusCondition, spec: FluxSpec = FluxSpec(), **status: Any) -> FluxObject:  # noqa: B008
    """A source of another kind, named `app`."""
    reference = Reference(SOURCE_GROUP, kind, "flux-system", "app")
    found = FluxStatus(conditions=conditions, **status)
    return FluxObject(metadata(reference), kind, f"{SOURCE_GROUP}/v1", spec, found)


def chart(observed: str) -> FluxObject:
    """A chart that has been packaged from the revision `observed` of the repository."""
    spec = FluxSpec(source_ref=NamedReference("flux-system", "GitRepository"))
    artifact = Artifact(path="p", url="u", revision="1.2.3")
    return other("HelmChart", READY, spec=spec, artifact=artifact, observed_source_artifact_revision=observed)


CHILD = "flux-system_app_kustomize.toolkit.fluxcd.io_Kustomization"
FAILED = condition("Ready", "False", "BuildFailed")
WAITS = condition("Ready", "False", "DependencyNotReady")


def test_all_ready_at_the_revision_that_was_asked_for_is_the_end() -> None:
    assert seen(repository(), kustomization(inventory=(CHILD,)), kustomization("app")) is Standing.READY


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param((), id="nothing seen yet"),
        pytest.param((repository(),), id="the root not seen yet"),
        pytest.param((repository(handled="earlier"), kustomization()), id="the request not handled"),
        pytest.param((repository(OLD), kustomization(revision=OLD)), id="an older revision"),
        pytest.param((repository(), kustomization(revision=OLD)), id="the root behind its source"),
        pytest.param((repository(), kustomization(), kustomization("app", OLD)), id="a child behind its source"),
        pytest.param((repository(), kustomization(inventory=(CHILD,))), id="a child not seen yet"),
        pytest.param((repository(), kustomization(generation=2)), id="a spec not observed"),
        pytest.param((repository(), kustomization(), chart(OLD)), id="a chart of the revision before"),
        pytest.param((repository(), kustomization(), other("ExternalArtifact")), id="nothing offered yet"),
        pytest.param(
            (repository(), kustomization("flux-system", NEW, condition("Ready", "Unknown", "Progressing"))),
            id="running",
        ),
        pytest.param((repository(), kustomization(), kustomization("app", NEW, FAILED), kustomization("b", OLD)),
                     id="a failure while another moves"),
    ],
)  # fmt: skip
def test_what_may_still_change_is_not_the_end(objects: tuple[FluxObject, ...]) -> None:
    assert seen(*objects) is Standing.MOVING


def test_a_failure_with_the_rest_at_rest_is_the_end() -> None:
    assert seen(repository(), kustomization(), kustomization("a", OLD, FAILED), kustomization("b", "", WAITS)) is (
        Standing.FAILED
    )


def test_a_suspended_object_is_not_waited_for() -> None:
    assert seen(repository(), kustomization(), kustomization("app", OLD, suspend=True)) is Standing.READY


def test_an_older_generation_of_the_root_is_from_before() -> None:
    goal = Goal(request="token", revision=NEW, generations={KUSTOMIZATION_REFERENCE: 2})
    assert seen(repository(), kustomization(), goal=goal) is Standing.MOVING


def test_stalled_is_failed_at_once() -> None:
    assert standing(kustomization("a", OLD, FAILED, condition("Stalled", "True", "X"))) is Standing.FAILED


def test_a_chart_has_the_revision_of_its_own_and_that_of_its_source() -> None:
    assert seen(repository(), kustomization(), chart(NEW)) is Standing.READY


def test_a_generator_has_to_deal_with_what_its_sources_are_at() -> None:
    spec = FluxSpec(sources=(AliasedReference("flux-system", "GitRepository", alias="repo"),))
    artifact = repository().status.artifact
    assert artifact is not None
    now = other("ArtifactGenerator", READY, spec=spec, observed_sources_digest=sources_digest({"repo": artifact}))
    before = other("ArtifactGenerator", READY, spec=spec, observed_sources_digest="sha256:0")
    assert seen(repository(), kustomization(), now) is Standing.READY
    assert seen(repository(), kustomization(), before) is Standing.MOVING


def test_a_registry_of_charts_has_no_status_to_wait_for() -> None:
    assert standing(other("HelmRepository", spec=FluxSpec(type="oci"))) is Standing.READY
    assert standing(other("HelmRepository")) is Standing.MOVING


def test_an_artifact_of_somebody_else_counts_without_conditions() -> None:
    artifact = Artifact(path="p", url="u", revision="v1")
    assert standing(other("ExternalArtifact", artifact=artifact)) is Standing.READY
    assert standing(other("ExternalArtifact", FAILED, artifact=artifact)) is Standing.FAILED
