"""Commit coherence: dependencies count at the same or a newer revision, across sources of one repository too."""

from __future__ import annotations

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from headrace.api.meta import COHERENCE
from tests.cluster.kustomization.world import RunningEngine, World, config_map

SECOND = {"kind": "GitRepository", "name": "second"}


async def test_a_dependency_with_its_own_source_must_have_the_commit_too(world: World, engine: RunningEngine) -> None:
    world.commit({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b")})
    await world.source()
    await world.source("second", url=f"{world.git.url(world.repository.name)}/")
    await world.kustomization("one", path="one", targetNamespace=world.namespace, sourceRef=SECOND)
    await world.kustomization("two", path="two", targetNamespace=world.namespace, dependsOn=[{"name": "one"}])
    await world.patch(KUSTOMIZATION, "two", {"metadata": {"annotations": {COHERENCE: "true"}}})
    await world.ready("two")
    await world.patch(GIT_REPOSITORY, "second", {"spec": {"suspend": True}})

    revision = await world.push({"two/b.yaml": config_map("b", k="2")})

    await world.failed("two", reason="DependencyNotReady", text="which is not known to be newer than")
    found = await world.get("v1", "ConfigMap", "b")
    assert found is not None
    assert not found.get("data")
    await world.patch(GIT_REPOSITORY, "second", {"spec": {"suspend": False}})
    await world.ready("two", revision=revision)
    await engine.until_caused(
        world.reference("two"), f"Kustomization/{world.namespace}/one changed (readiness at revision)")


async def test_a_dependency_that_has_moved_on_past_the_revision_counts(world: World, engine: RunningEngine) -> None:
    first = world.commit({"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b")})
    await world.source()
    await world.source("second", url=f"{world.git.url(world.repository.name)}/")
    await world.kustomization("one", path="one", targetNamespace=world.namespace, sourceRef=SECOND)
    await world.ready("one")
    await world.until(GIT_REPOSITORY, "app", lambda o: "artifact" in o["status"])
    await world.patch(GIT_REPOSITORY, "app", {"spec": {"suspend": True}})
    newer = world.commit({"one/a.yaml": config_map("a", k="2")})
    await world.request(GIT_REPOSITORY, "second")
    await world.ready("one", revision=newer)

    two = {"interval": "1h", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "app"}, "path": "two",
           "targetNamespace": world.namespace, "dependsOn": [{"name": "one"}], "suspend": True}
    await world.create(KUSTOMIZATION, "two", two)
    await world.patch(KUSTOMIZATION, "two", {"metadata": {"annotations": {COHERENCE: "true"}},
                                             "spec": {"suspend": False}})
    await world.ready("two", revision=first)
