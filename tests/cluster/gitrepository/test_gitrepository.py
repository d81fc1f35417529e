"""GitRepository as users see it: a real engine, a real control plane, a real git server."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.api.kinds import GIT_REPOSITORY
from headrace.engine.trace import ObjectState
from headrace.kube.resource import Resource
from headrace.model.reference import Reference
from tests.cluster.kustomization.conftest import engine, world
from tests.cluster.kustomization.world import Json, RunningEngine, World, condition

__all__ = ["engine", "world"]

SECRETS = Resource("", "v1", "Secret", "secrets", namespaced=True)


def reference(world: World, name: str = "app") -> Reference:
    return GIT_REPOSITORY.reference(world.namespace, name)


def revision(content: Json) -> str:
    found: str = content.get("status", {}).get("artifact", {}).get("revision", "")
    return found


async def ready(world: World, name: str = "app", at: str = "") -> Json:
    """Wait until the GitRepository is Ready, at a revision if one is given."""
    return await world.until(
        GIT_REPOSITORY, name,
        lambda o: condition(o, "Ready").get("status") == "True" and (not at or revision(o) == at),
    )


async def failing(world: World, name: str = "app") -> Json:
    return await world.until(GIT_REPOSITORY, name, lambda o: condition(o, "Ready").get("status") == "False")


def spent(engine: RunningEngine, before: dict[str, int]) -> dict[str, int]:
    now = engine.writes()
    return {name: now[name] - before.get(name, 0) for name in sorted(now) if now[name] != before.get(name, 0)}


async def secret(world: World, name: str, **data: str) -> None:
    body = {"metadata": {"name": name}, "stringData": data, "apiVersion": "v1", "kind": "Secret"}
    await world.client.apply(SECRETS, world.namespace, name, msgspec.json.encode(body), field_manager="tests")


@pytest.mark.spec("SRC-COM-01", "SRC-COM-14", "SRC-COM-15", "SRC-COM-24", "SRC-GIT-02")
async def test_a_repository_becomes_ready_as_in_flux(world: World, engine: RunningEngine) -> None:
    at = world.commit({"a.yaml": "a: 1"})
    before = engine.writes()
    await world.source()
    found = await ready(world)
    message = f"stored artifact for revision '{at}'"
    assert found["metadata"]["finalizers"] == ["finalizers.fluxcd.io"]
    told = {c["type"]: (c["status"], c["reason"], c["message"]) for c in found["status"]["conditions"]}
    assert told == {
        "Ready": ("True", "Succeeded", message), "ArtifactInStorage": ("True", "Succeeded", message),
    }  # fmt: skip
    assert found["status"]["observedGeneration"] == 1
    artifact = found["status"]["artifact"]
    assert set(artifact) == {"digest", "lastUpdateTime", "path", "revision", "size", "url"}
    event = await world.until_event("stored artifact for commit 'change'", kind="GitRepository")
    assert (event["type"], event["reason"]) == ("Normal", "NewArtifact")
    annotations = event["metadata"]["annotations"]
    assert annotations["source.toolkit.fluxcd.io/revision"] == at
    assert annotations["source.toolkit.fluxcd.io/digest"] == artifact["digest"]
    await engine.until_trace(reference(world), lambda trace: trace.result == "succeeded")
    assert spent(engine, before) == {
        "create events": 1, "patch gitrepositories": 1, "patch gitrepositories/status": 1,
    }  # fmt: skip


@pytest.mark.spec("SRC-GIT-12", "SRC-COM-26")
async def test_a_poll_by_timer_that_finds_nothing_writes_nothing(world: World, engine: RunningEngine) -> None:
    world.commit({"a": "1"})
    await world.source(interval="1s")
    await ready(world)
    await until_looked_at(world, engine)
    before = engine.writes()
    world.git.requests.clear()
    seen = len(engine.traces(reference(world)))
    async with asyncio.timeout(30):
        while len(world.git.requests) < 2:
            await asyncio.sleep(0.02)
    await until_looked_at(world, engine)
    assert set(world.git.counts) == {"ls-refs"}
    assert spent(engine, before) == {}
    assert len(engine.traces(reference(world))) == seen
    await ready(world, at=world.commit({"a": "2"}))


async def until_looked_at(world: World, engine: RunningEngine) -> None:
    """Wait for the end of an interval at which the source is seen not to have moved."""
    async with asyncio.timeout(30):
        before = now = state_of(world, engine).looked
        while now == before:
            await asyncio.sleep(0.02)
            now = state_of(world, engine).looked


def state_of(world: World, engine: RunningEngine) -> ObjectState:
    state = engine.engine.state(reference(world))
    assert state is not None
    return state


async def test_a_commit_that_one_object_finds_wakes_all_of_the_repository(world: World, engine: RunningEngine) -> None:
    world.commit({"a": "1"})
    names = [f"app-{n}" for n in range(10)]
    await asyncio.gather(*(world.source(name) for name in names))
    for name in names:
        await ready(world, name)
    world.git.requests.clear()
    at = world.commit({"a": "2"})
    await world.request(GIT_REPOSITORY, "app-0")
    for name in names:
        await ready(world, name, at)
    assert world.git.counts["ls-refs"] == 1
    assert world.git.counts["fetch"] == 1
    trace = await engine.until_trace(reference(world, "app-7"), lambda t: at in t.message)
    (cause,) = trace.causes
    assert (cause.what, cause.part) == ("changed", "refs/heads/main")


async def test_many_new_objects_of_one_repository_share_poll_and_fetch(
    world: World, engine: RunningEngine, tmp_path: Path
) -> None:
    world.commit({"a": "1"})
    names = [f"app-{n}" for n in range(30)]
    await asyncio.gather(*(world.source(name) for name in names))
    for name in names:
        await ready(world, name)
    assert world.git.counts["fetch"] == 1
    assert world.git.counts["ls-refs"] <= 3, "those created within the same moments share a poll"
    stored = (tmp_path / "state" / "storage" / "gitrepository" / world.namespace).rglob("*.tar.gz")
    assert len({path.stat().st_ino for path in stored}) == 1


@pytest.mark.spec("SRC-COM-04")
async def test_a_request_polls_at_once_and_is_answered_when_it_fails_too(world: World, engine: RunningEngine) -> None:
    world.commit({"a": "1"})
    await world.source()
    await ready(world)
    token = await world.request(GIT_REPOSITORY, "app")
    await world.until(GIT_REPOSITORY, "app", lambda o: o["status"].get("lastHandledReconcileAt") == token)
    await world.git.stop()
    token = await world.request(GIT_REPOSITORY, "app")
    found = await world.until(GIT_REPOSITORY, "app", lambda o: o["status"].get("lastHandledReconcileAt") == token)
    assert condition(found, "Ready")["reason"] == "GitOperationFailed"
    assert condition(found, "FetchFailed")["status"] == "True"
    assert condition(found, "ArtifactInStorage")["status"] == "True"
    assert revision(found) != ""
    await world.git.start()


@pytest.mark.spec("SRC-COM-13", "SRC-COM-09")
async def test_wrong_credentials_are_told_and_the_right_ones_wake_it(world: World, engine: RunningEngine) -> None:
    world.commit({"a": "1"})
    world.git.basic = ("user", "the-right-password")
    await secret(world, "creds", username="user", password="canary-password")
    await world.source(secretRef={"name": "creds"}, interval="1h")
    found = await failing(world)
    failed = condition(found, "FetchFailed")
    assert (failed["status"], failed["reason"]) == ("True", "GitOperationFailed")
    assert failed["message"].endswith(": authentication required")
    assert condition(found, "Reconciling")["reason"] == "ProgressingWithRetry"
    assert found["status"]["observedGeneration"] == -1
    event = await world.until_event("authentication required", kind="GitRepository")
    assert (event["type"], event["reason"]) == ("Warning", "GitOperationFailed")
    await secret(world, "creds", username="user", password="the-right-password")
    found = await ready(world)
    assert condition(found, "FetchFailed") == {}
    events = await world.events(kind="GitRepository")
    for password in ("canary-password", "the-right-password", _encoded("user:canary-password")):
        assert password not in str(found) + str(events) + str(engine.traces(reference(world)))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_a_secret_that_comes_later_wakes_who_named_it(world: World, engine: RunningEngine) -> None:
    world.commit({"a": "1"})
    world.git.bearer = "the-token"
    await world.source(secretRef={"name": "later"})
    found = await failing(world)
    assert condition(found, "Ready")["reason"] == "AuthenticationFailed"
    await secret(world, "later", bearerToken="the-token")
    await ready(world)


@pytest.mark.spec("SRC-COM-08", "SEC-07")
@pytest.mark.parametrize("spec", [{"ref": {"branch": "--upload-pack=touch"}}, {"url": "ssh://-oProxyCommand=x/y"}])
async def test_what_only_a_person_can_correct_stalls(world: World, engine: RunningEngine, spec: dict[str, Any]) -> None:
    await world.source(**spec)
    found = await world.until(GIT_REPOSITORY, "app", lambda o: condition(o, "Stalled"))
    assert condition(found, "Ready")["status"] == "False"
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    world.commit({"a": "1"})
    await world.patch(GIT_REPOSITORY, "app", {"spec": {"url": world.git.url("app.git"), "ref": {"branch": "main"}}})
    found = await ready(world)
    assert condition(found, "Stalled") == {}


@pytest.mark.spec("SRC-GIT-18", "SEC-07")
@pytest.mark.parametrize("url", ["ext::sh -c touch% /tmp/x", "git@host:repo", "-u", "file:///etc"])
async def test_a_url_of_another_kind_is_not_admitted(world: World, url: str) -> None:
    with pytest.raises(Exception, match="spec.url"):
        await world.source(url=url)


@pytest.mark.spec("SRC-COM-02")
async def test_a_deleted_repository_takes_its_files_along(world: World, engine: RunningEngine, tmp_path: Path) -> None:
    world.commit({"a": "1"})
    await world.source()
    found = await ready(world)
    stored = tmp_path / "state" / "storage" / found["status"]["artifact"]["path"]
    assert stored.is_file()
    await world.delete(GIT_REPOSITORY, "app")
    await world.until_gone(GIT_REPOSITORY, "app")
    assert not stored.exists()


@pytest.mark.spec("SRC-COM-03")
async def test_a_suspended_repository_is_left_alone_and_answers_requests(world: World, engine: RunningEngine) -> None:
    world.commit({"a": "1"})
    await world.source(suspend=True)
    token = await world.request(GIT_REPOSITORY, "app")
    await world.until(GIT_REPOSITORY, "app", lambda o: o["status"].get("lastHandledReconcileAt") == token)
    assert world.git.requests == []


@pytest.mark.spec("SRC-COM-05")
async def test_a_label_of_somebody_else_wakes_nobody(world: World, engine: RunningEngine) -> None:
    world.commit({"a": "1"})
    await world.source()
    await ready(world)
    await engine.until_trace(reference(world), lambda trace: trace.result == "succeeded")
    await world.patch(GIT_REPOSITORY, "app", {"metadata": {"labels": {"x": "y"}, "annotations": {"x": "y"}}})
    token = await world.request(GIT_REPOSITORY, "app")
    await world.until(GIT_REPOSITORY, "app", lambda o: o["status"].get("lastHandledReconcileAt") == token)
    await engine.until_caused(reference(world), "requested")
    assert [str(c) for t in engine.traces(reference(world)) for c in t.causes] == ["requested", "created"]


@pytest.mark.spec("SRC-GIT-33", "SRC-GIT-34")
async def test_an_include_is_woken_by_what_it_waits_for(world: World, engine: RunningEngine) -> None:
    world.commit({"a.yaml": "a: 1"})
    await world.source("holder", include=[{"repository": {"name": "late"}}])
    found = await failing(world, "holder")
    assert condition(found, "IncludeUnavailable")["reason"] == "NotFound"
    assert condition(found, "Ready")["reason"] == "NotFound"
    await world.source("late")
    found = await ready(world, "holder")
    late = await ready(world, "late")
    [included] = found["status"]["includedArtifacts"]
    assert included["digest"] == late["status"]["artifact"]["digest"]
    assert not any(c["type"] == "IncludeUnavailable" for c in found["status"]["conditions"])
    assert found["status"]["observedInclude"] == [{"repository": {"name": "late"}}]


@pytest.mark.spec("SRC-COM-10")
async def test_a_new_generation_is_told_while_its_run_lasts(world: World, engine: RunningEngine) -> None:
    world.commit({"a": "1"})
    await world.source()
    await ready(world)
    callers: list[asyncio.StreamWriter] = []

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    await world.patch(GIT_REPOSITORY, "app", {"spec": {"url": f"http://127.0.0.1:{port}/x.git", "timeout": "45s"}})
    found = await world.until(GIT_REPOSITORY, "app", lambda o: condition(o, "Reconciling"))
    told = condition(found, "Reconciling")
    assert (told["status"], told["reason"]) == ("True", "Progressing")
    assert told["message"] == "processing object: new generation 1 -> 2"
    assert found["status"]["observedGeneration"] == 1
    assert condition(found, "Ready")["status"] == "True", "nothing is known to be new"
    silent.close()
    for caller in callers:
        caller.close()
        await caller.wait_closed()


@pytest.mark.spec("SRC-COM-25")
async def test_a_recovery_with_the_same_content_is_an_event_of_its_own(world: World, engine: RunningEngine) -> None:
    at = world.commit({"a": "1"})
    await world.source()
    first = await ready(world)
    await world.patch(GIT_REPOSITORY, "app", {"spec": {"secretRef": {"name": "missing"}}})
    await failing(world)
    await world.patch(GIT_REPOSITORY, "app", {"spec": {"secretRef": None}})
    again = await ready(world)
    assert again["status"]["artifact"] == first["status"]["artifact"]
    event = await world.until_event(f"stored artifact for revision '{at}'", kind="GitRepository")
    assert (event["type"], event["reason"]) == ("Normal", "Succeeded")


@pytest.mark.spec("SRC-OPS-05")
async def test_an_engine_of_one_namespace_watches_and_serves_no_other(world: World, engine: RunningEngine) -> None:
    other = f"{world.namespace}-other"
    namespaces = await world.resource("v1", "Namespace")
    await world.client.create(namespaces, "", msgspec.json.encode(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}))  # fmt: skip
    world.commit({"a": "1"})
    spec = {"interval": "1h", "url": world.git.url(world.repository.name), "ref": {"branch": "main"}}
    body = {"apiVersion": GIT_REPOSITORY.api_version, "kind": "GitRepository", "metadata": {"name": "app"},
            "spec": spec}  # fmt: skip
    resource = await world.resource(GIT_REPOSITORY.api_version, "GitRepository")
    await world.client.create(resource, other, msgspec.json.encode(body))
    await world.source()
    await ready(world)
    watched = engine.clusters.management.informers.all()
    assert watched
    assert {each.selection.namespace for each in watched if each.resource.namespaced} == {world.namespace}
    untouched = await world.get(GIT_REPOSITORY.api_version, "GitRepository", "app", other)
    assert untouched is not None
    assert untouched["status"] == {"observedGeneration": -1}
    assert "finalizers" not in untouched["metadata"]
    await world.client.delete(namespaces, "", other)
