"""The way back: what headrace has delivered is what Flux's controllers would find had they delivered it themselves.

What they rely on, from their documentation: server-side apply as `kustomize-controller`, the two owner labels, the ids
of the inventory, the finalizer, and their own status fields. Applying the same manifests as they would do is neither a
conflict nor a change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION, KindInfo
from headrace.model.manifests import Manifest
from headrace.toolbox import BuildRequest, BuildSpec, Toolbox
from tests.cluster.kustomization.test_takeover import objects
from tests.cluster.kustomization.world import World, running_engine
from tests.servers.control_plane import ControlPlane

Json = dict[str, Any]
OWNER = "kustomize.toolkit.fluxcd.io"

KUSTOMIZATION_STATUS = {
    "conditions", "history", "inventory", "lastAppliedOriginRevision", "lastAppliedRevision", "lastAttemptedRevision",
    "lastHandledReconcileAt", "observedGeneration",
}
GIT_REPOSITORY_STATUS = {
    "artifact", "conditions", "includedArtifacts", "lastHandledReconcileAt", "observedGeneration", "observedIgnore",
    "observedInclude", "observedRecurseSubmodules", "observedSparseCheckout", "sourceVerificationMode",
}
ARTIFACT = {"digest", "lastUpdateTime", "metadata", "path", "revision", "size", "url"}


async def delivered(world: World, cluster: ControlPlane, tmp_path: Path) -> str:
    """Deliver with an engine that is stopped then; the revision."""
    revision = world.commit(objects())
    async with running_engine(cluster.config, tmp_path / "state", world.namespace):
        await world.source()
        await world.kustomization(targetNamespace=world.namespace, wait=True)
        await world.ready(revision=revision)
    return revision


async def as_flux_builds(world: World) -> tuple[Manifest, ...]:
    labels = {f"{OWNER}/name": "app", f"{OWNER}/namespace": world.namespace}
    spec = BuildSpec(target_namespace=world.namespace)
    async with Toolbox(size=1) as toolbox:
        built = await toolbox.build(BuildRequest(root=str(world.repository.work), spec=spec, labels=labels))
    return built.manifests().items


async def own(world: World, kind: KindInfo[Any]) -> Json:
    content = await world.get(kind.api_version, kind.kind, "app")
    assert content is not None
    return content


async def test_applying_as_kustomize_controller_is_no_conflict_and_no_change(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    await delivered(world, cluster, tmp_path)
    for manifest in await as_flux_builds(world):
        name, resource = manifest.reference.name, await world.resource(manifest.api_version, manifest.reference.kind)
        live = await world.client.get(resource, world.namespace, name)
        for dry_run in (True, False):
            applied = await world.client.apply(
                resource, world.namespace, name, manifest.body, field_manager="kustomize-controller", force=False,
                dry_run=dry_run,
            )
            assert applied.live.content() == live.content(), manifest.reference


async def test_what_was_delivered_bears_the_marks_that_prune_and_takeover_look_at(
    world: World, cluster: ControlPlane, tmp_path: Path
) -> None:
    await delivered(world, cluster, tmp_path)
    manifests = await as_flux_builds(world)
    for manifest in manifests:
        content = await world.get(manifest.api_version, manifest.reference.kind, manifest.reference.name)
        assert content is not None
        metadata = content["metadata"]
        assert metadata["labels"] == {f"{OWNER}/name": "app", f"{OWNER}/namespace": world.namespace}
        assert not any("headrace" in key for key in metadata.get("annotations", {}))
        ours = [(f["operation"], f["apiVersion"], f.get("subresource", "")) for f in metadata["managedFields"]
                if f["manager"] == "kustomize-controller"]
        assert ours == [("Apply", manifest.api_version, "")]
        assert not any("headrace" in field["manager"] for field in metadata["managedFields"])
    entries = (await own(world, KUSTOMIZATION))["status"]["inventory"]["entries"]
    assert sorted((entry["id"], entry["v"]) for entry in entries) == sorted(
        (f"{world.namespace}_{m.reference.name}_{m.reference.group}_{m.reference.kind}", m.version) for m in manifests)


@pytest.mark.parametrize(("kind", "manager", "known"), [
    pytest.param(KUSTOMIZATION, "gotk-kustomize-controller", KUSTOMIZATION_STATUS, id="Kustomization"),
    pytest.param(GIT_REPOSITORY, "gotk-source-controller", GIT_REPOSITORY_STATUS, id="GitRepository"),
])
async def test_the_objects_themselves_are_as_their_controllers_leave_them(
    world: World, cluster: ControlPlane, tmp_path: Path, kind: KindInfo[Any], manager: str, known: set[str]
) -> None:
    revision = await delivered(world, cluster, tmp_path)
    content = await own(world, kind)
    metadata, status = content["metadata"], content["status"]
    assert metadata["finalizers"] == ["finalizers.fluxcd.io"]
    assert not any("headrace" in key for key in metadata.get("annotations", {}))
    assert {f["manager"] for f in metadata["managedFields"] if f.get("subresource") == "status"} == {manager}
    assert status.keys() <= known
    assert status["observedGeneration"] == metadata["generation"]
    ready = next(condition for condition in status["conditions"] if condition["type"] == "Ready")
    assert (ready["status"], ready["observedGeneration"]) == ("True", metadata["generation"])
    assert not any(condition["type"] in ("Reconciling", "Stalled") for condition in status["conditions"])
    if kind is KUSTOMIZATION:
        assert (status["lastAppliedRevision"], status["lastAttemptedRevision"]) == (revision, revision)
        assert status["history"][0]["lastReconciledStatus"] == "ReconciliationSucceeded"
    else:
        assert status["artifact"]["revision"] == revision
        assert status["artifact"].keys() <= ARTIFACT
