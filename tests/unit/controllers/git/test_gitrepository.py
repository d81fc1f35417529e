"""GitRepository against a real git server: revisions, files, conditions and what a run costs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.artifact.store import Integrity
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry, Stalled
from headrace.model.outcome import Condition
from headrace.model.read import ABSENT
from headrace.model.reference import REMOTE
from headrace.model.trace import Cause
from tests.manual_clock import ManualClock
from tests.servers.git_http import Fault
from tests.servers.sources import INTERVAL, REQUESTED, Sources, sources


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        yield made


# -- which commit -----------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-GIT-02", "SRC-COM-15", "SRC-COM-24")
async def test_a_branch_is_stored_under_its_name_slashes_kept(world: Sources) -> None:
    commit = world.repo.commit({"a.yaml": "a: 1"}, "Add a\n\nbody", branch="feature/x")
    obj, outcome = await world.run(world.object(ref={"branch": "feature/x"}))
    revision = f"feature/x@sha1:{commit}"
    artifact = obj.status.artifact
    assert artifact is not None
    assert (artifact.revision, artifact.path) == (revision, f"gitrepository/default/app/{commit}.tar.gz")
    assert artifact.url == f"http://source.example:9090/{artifact.path}"
    assert world.files(artifact) == {"a.yaml": b"a: 1"}
    message = f"stored artifact for revision '{revision}'"
    assert (outcome.reason, outcome.message) == ("Succeeded", message)
    assert outcome.conditions == (Condition("ArtifactInStorage", "True", "Succeeded", message),)
    assert (outcome.event_reason, outcome.event) == ("NewArtifact", "stored artifact for commit 'Add a'")
    assert outcome.event_annotations == {
        "source.toolkit.fluxcd.io/revision": revision,
        "source.toolkit.fluxcd.io/digest": artifact.digest,
    }
    assert (outcome.after, outcome.jitter) == (60.0, True)


@pytest.mark.spec("SRC-GIT-01")
async def test_without_a_ref_it_is_master(world: Sources) -> None:
    commit = world.repo.commit({"a": "1"}, branch="master")
    obj, _ = await world.run(world.object(ref=None))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"master@sha1:{commit}"


@pytest.mark.spec("SRC-GIT-03")
@pytest.mark.parametrize("annotated", [True, False])
async def test_a_tag_names_its_commit(world: Sources, annotated: bool) -> None:
    commit = world.repo.commit({"a": "1"})
    world.repo.tag("v1.0.0", annotated=annotated)
    world.repo.commit({"a": "2"})
    obj, _ = await world.run(world.object(ref={"tag": "v1.0.0"}))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"v1.0.0@sha1:{commit}"
    assert world.files(obj.status.artifact) == {"a": b"1"}


@pytest.mark.spec("SRC-GIT-04", "SRC-GIT-06")
async def test_the_highest_version_is_taken_and_tags_of_two_parts_are_none(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    world.repo.tag("v1.9.0")
    wanted = world.repo.commit({"a": "2"})
    world.repo.tag("v1.10.0", annotated=True)
    world.repo.commit({"a": "3"})
    world.repo.tag("v2.0")
    world.repo.tag("latest")
    obj, _ = await world.run(world.object(ref={"semver": ">=1.0.0"}))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"v1.10.0@sha1:{wanted}"


@pytest.mark.spec("SRC-GIT-07")
async def test_among_equal_versions_the_newest_commit_is_taken(world: Sources) -> None:
    for build, year in (("1.0.0+a", 2021), ("1.0.0+c", 2023), ("1.0.0+b", 2022)):
        world.repo.commit({"a": build}, date=f"{year}-01-01T00:00:00Z")
        world.repo.tag(build)
    obj, _ = await world.run(world.object(ref={"semver": "1.x"}))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision.startswith("1.0.0+c@sha1:")


@pytest.mark.spec("SRC-GIT-08")
async def test_a_full_name_is_kept_in_the_revision(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    commit = world.repo.commit({"a": "2"}, branch="topic")
    world.repo.git("push", "-q", "origin", "HEAD:refs/pull/420/head")
    for name in ("refs/pull/420/head", "refs/heads/topic"):
        obj, _ = await world.run(world.object(ref={"name": name}))
        assert obj.status.artifact is not None
        assert obj.status.artifact.revision == f"{name}@sha1:{commit}"


@pytest.mark.spec("SRC-GIT-09")
async def test_a_commit_is_taken_alone_or_on_its_branch(world: Sources) -> None:
    old = world.repo.commit({"a": "1"})
    world.repo.commit({"a": "2"})
    for ref, revision in (({"commit": old}, f"sha1:{old}"), ({"commit": old, "branch": "main"}, f"main@sha1:{old}")):
        obj, _ = await world.run(world.object(ref=ref))
        assert obj.status.artifact is not None
        assert obj.status.artifact.revision == revision
        assert world.files(obj.status.artifact) == {"a": b"1"}


@pytest.mark.spec("SRC-GIT-09")
async def test_a_commit_that_is_not_on_the_branch_is_not_found(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    elsewhere = world.repo.commit({"a": "2"}, branch="elsewhere")
    error = await world.failure(world.object(ref={"commit": elsewhere, "branch": "main"}))
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    assert f"unable to resolve commit object for '{elsewhere}'" in error.message


@pytest.mark.spec("SRC-GIT-09")
async def test_a_commit_that_no_branch_or_tag_reaches_is_not_taken(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    dangling = world.repo.commit({"a": "2"}, branch="temporary")
    world.repo.git("push", "-q", "origin", "--delete", "temporary")
    error = await world.failure(world.object(ref={"commit": dangling}))
    assert error.reason == "GitOperationFailed"


@pytest.mark.spec("SRC-GIT-10", "SRC-GIT-11")
async def test_commit_wins_over_name_over_tag_over_semver_over_branch(world: Sources) -> None:
    by_commit = world.repo.commit({"a": "commit"})
    world.repo.commit({"a": "name"}, branch="named")
    world.repo.commit({"a": "tag"}, branch="main")
    world.repo.tag("1.0.0")
    world.repo.commit({"a": "semver"})
    world.repo.tag("2.0.0")
    world.repo.commit({"a": "branch"})
    ref = {"branch": "main", "semver": ">=1.0.0", "tag": "1.0.0", "name": "refs/heads/named", "commit": by_commit}
    for field in ("commit", "name", "tag", "semver", "branch"):
        obj, _ = await world.run(world.object(ref=ref))
        assert obj.status.artifact is not None
        assert world.files(obj.status.artifact) == {"a": field.encode()}
        del ref[field]


@pytest.mark.spec("SRC-GIT-16")
async def test_a_ref_that_is_not_there_is_waited_for(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    error = await world.failure(world.object(ref={"branch": "missing"}))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    expected = "failed to checkout and determine revision: couldn't find remote ref 'refs/heads/missing'"
    assert error.message == expected
    assert world.scope is not None
    assert [(read.part, read.digest) for read in world.scope.reads] == [("refs/heads/missing", ABSENT)]


@pytest.mark.spec("SRC-GIT-17")
async def test_an_empty_repository_is_said_to_be_empty(world: Sources) -> None:
    error = await world.failure(world.object())
    assert (error.reason, error.message) == ("EmptyGitRepository", "git repository is empty")
    error = await world.failure(world.object(ref={"tag": "v1"}))
    assert error.reason == "GitOperationFailed"


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-GIT-16")
async def test_a_server_that_cannot_be_reached_is_named_with_the_reason(world: Sources) -> None:
    error = await world.failure(world.object(url="http://127.0.0.1:1/app.git"))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    assert "unable to list remote for 'http://127.0.0.1:1/app.git': cannot connect: " in error.message
    assert "onnect" in error.message.rpartition(": ")[2] or "refused" in error.message


@pytest.mark.spec("SRC-GIT-16")
async def test_a_host_that_does_not_exist_is_named(world: Sources) -> None:
    error = await world.failure(world.object(url="http://no-such-host.invalid/app.git"))
    assert error.reason == "GitOperationFailed"
    assert "unable to list remote for 'http://no-such-host.invalid/app.git': cannot connect" in error.message


@pytest.mark.spec("SRC-GIT-16")
async def test_a_repository_that_is_not_there_is_not_found(world: Sources) -> None:
    error = await world.failure(world.object(url=world.server.url("other.git")))
    assert error.reason == "GitOperationFailed"
    assert error.message.endswith("repository not found")


@pytest.mark.spec("SRC-GIT-16", "REL-27")
async def test_a_server_that_stalls_costs_the_timeout_and_no_more(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    for what in ("info", "ls-refs", "fetch"):
        world.server.fault = Fault("stall", what, after=20)
        error = await world.failure(world.object(timeout="500ms"), REQUESTED)
        assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    world.server.fault = None
    await world.run(world.object(), REQUESTED)


@pytest.mark.spec("REL-27")
async def test_a_server_that_drips_is_given_up_and_others_are_not_held_up(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    world.server.fault = Fault("drip", "fetch", after=10)
    slow = asyncio.create_task(world.failure(world.object(timeout="2s")))
    while not world.server.counts["fetch"]:
        await asyncio.sleep(0.01)
    world.server.fault = None
    other = world.object("other", url=world.server.url("app.git") + "/")
    world.secret("token", {"username": b"somebody", "password": b"else"})
    await world.run(msgspec.structs.replace(other, spec=world.object(secretRef={"name": "token"}).spec))
    assert not slow.done()
    assert (await slow).reason == "GitOperationFailed"


@pytest.mark.parametrize("what", ["info", "ls-refs", "fetch"])
async def test_an_answer_that_ends_early_is_a_failure_and_the_next_run_is_clean(world: Sources, what: str) -> None:
    world.repo.commit({"a": "1"})
    world.server.fault = Fault("truncate", what, after=30)
    assert (await world.failure(world.object())).reason == "GitOperationFailed"
    world.server.fault = None
    obj, _ = await world.run(world.object(), REQUESTED)
    assert obj.status.artifact is not None


@pytest.mark.spec("SRC-COM-08")
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ext::sh -c touch% /tmp/x", "URL is refused: it contains white space, control characters or a backslash"),
        ("ext::sh", "URL is refused: scheme 'ext' is none of http://, https://, ssh://"),
        ("--upload-pack=touch", "URL is refused: it begins with '-'"),
    ],
)
async def test_a_url_that_would_run_a_command_stalls(world: Sources, url: str, message: str) -> None:
    error = await world.failure(world.object(url=url))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition, error.message) == ("URLInvalid", "FetchFailed", message)


# -- credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-GIT-19")
async def test_basic_auth_opens_the_repository(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    world.server.basic = ("user", "canary-password")
    world.secret("creds", {"username": b"user", "password": b"canary-password", "unrelated": b"x"})
    obj, _ = await world.run(world.object(secretRef={"name": "creds"}))
    assert obj.status.artifact is not None


async def test_wrong_credentials_are_told_without_showing_them(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    world.server.basic = ("user", "right")
    world.secret("creds", {"username": b"user", "password": b"canary-password"})
    error = await world.failure(world.object(secretRef={"name": "creds"}))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    assert error.message.endswith(": authentication required")
    assert "canary" not in str(error) + repr(error.__cause__)


@pytest.mark.spec("SRC-GIT-19")
@pytest.mark.parametrize(("key", "missing"), [("password", "username"), ("username", "password")])
async def test_half_of_basic_auth_fails(world: Sources, key: str, missing: str) -> None:
    world.secret("creds", {key: b"x"})
    error = await world.failure(world.object(secretRef={"name": "creds"}))
    assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")
    assert f"'{missing}' is missing for basic auth" in error.message


@pytest.mark.spec("SRC-GIT-20")
async def test_a_bearer_token_opens_the_repository_and_fits_no_userinfo(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    world.server.bearer = "canary-token"
    world.secret("creds", {"bearerToken": b"canary-token"})
    obj, _ = await world.run(world.object(secretRef={"name": "creds"}))
    assert obj.status.artifact is not None
    url = world.server.url("app.git").replace("://", "://user:canary-password@")
    error = await world.failure(world.object(url=url, secretRef={"name": "creds"}))
    assert error.reason == "AuthenticationFailed"
    assert "bearerToken cannot be used together" in error.message
    assert "canary" not in error.message


async def test_userinfo_of_the_url_is_used_and_never_shown(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    world.server.basic = ("user", "p@ss")
    url = world.server.url("app.git").replace("://", "://user:p%40ss@")
    obj, _ = await world.run(world.object(url=url))
    assert obj.status.artifact is not None
    world.server.basic = ("user", "another")
    error = await world.failure(world.object(url=url), REQUESTED)
    assert "p%40ss" not in error.message
    assert "p@ss" not in error.message


async def test_a_secret_that_is_missing_is_waited_for(world: Sources) -> None:
    error = await world.failure(world.object(secretRef={"name": "creds"}))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")
    assert error.message == "failed to get secret 'default/creds': secrets \"creds\" not found"
    assert world.scope is not None
    assert [(read.reference.kind, read.digest) for read in world.scope.reads] == [("Secret", ABSENT)]


async def test_a_part_of_the_secret_that_is_not_used_does_not_count(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    digests = []
    for data in ({"unrelated": b"1"}, {"unrelated": b"2"}, {"username": b"u", "password": b"p"}):
        world.secret("creds", dict(data))
        await world.run(world.object(secretRef={"name": "creds"}))
        assert world.scope is not None
        digests += [read.digest for read in world.scope.reads if read.reference.kind == "Secret"]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.spec("SRC-GIT-26")
async def test_github_app_data_needs_the_provider(world: Sources) -> None:
    world.secret("creds", {"githubAppID": b"1"})
    error = await world.failure(world.object(secretRef={"name": "creds"}))
    assert isinstance(error, Retry)
    assert error.reason == "InvalidProviderConfiguration"


# -- what a run costs -------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-GIT-12", "SRC-GIT-15", "SRC-COM-26", "SRC-COM-11")
async def test_a_poll_that_finds_nothing_new_is_one_request_and_changes_nothing(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, first = await world.run(world.object())
    world.server.requests.clear()
    again, outcome = await world.run(obj, REQUESTED)
    assert world.server.counts == {"ls-refs": 1}
    assert msgspec.to_builtins(again.status) == msgspec.to_builtins(obj.status)
    assert (outcome.reason, outcome.message, outcome.conditions) == (first.reason, first.message, first.conditions)
    assert outcome.event == "no changes since last reconciliation"
    _, by_timer = await world.run(obj, INTERVAL)
    assert by_timer.event == ""
    assert world.scope is not None
    assert world.scope.said == []


@pytest.fixture
async def later(tmp_path: Path) -> AsyncIterator[tuple[Sources, ManualClock]]:
    """A world, and the clock by which its answers become too old."""
    clock = ManualClock()
    async with sources(tmp_path, clock=clock) as made:
        yield made, clock


async def test_at_the_interval_one_request_shows_that_no_run_is_needed(later: tuple[Sources, ManualClock]) -> None:
    world, clock = later
    world.repo.commit({"a": "1"})
    _, outcome = await world.run(world.object())
    assert outcome.look is not None
    world.server.requests.clear()
    clock.time += 60
    assert await outcome.look()
    assert world.server.counts == {"ls-refs": 1}


@pytest.mark.parametrize("trouble", ["commit", "server", "file", "another file"])
async def test_at_the_interval_a_run_follows_when_something_is_different(
    later: tuple[Sources, ManualClock], trouble: str
) -> None:
    world, clock = later
    world.repo.commit({"a": "1"})
    obj, outcome = await world.run(world.object())
    assert obj.status.artifact is not None
    assert outcome.look is not None
    stored = world.store.root / obj.status.artifact.path
    match trouble:
        case "commit":
            world.repo.commit({"a": "2"})
        case "server":
            world.server.fault = Fault("status", "ls-refs", status=503)
        case "file":
            stored.unlink()
        case "another file":
            stored.unlink()
            stored.write_bytes(b"tampered with")
    clock.time += 60
    assert not await outcome.look()


async def test_a_fixed_commit_is_not_asked_for_at_the_interval(later: tuple[Sources, ManualClock]) -> None:
    world, clock = later
    commit = world.repo.commit({"a": "1"})
    _, outcome = await world.run(world.object(ref={"commit": commit}))
    assert outcome.look is not None
    world.server.requests.clear()
    clock.time += 60
    assert await outcome.look()
    assert world.server.counts == {}


@pytest.mark.spec("SRC-GIT-15")
async def test_a_commit_or_a_version_is_fetched_once(world: Sources) -> None:
    commit = world.repo.commit({"a": "1"})
    world.repo.tag("1.0.0")
    for ref in ({"commit": commit}, {"semver": "1.x"}):
        obj, _ = await world.run(world.object(ref=ref))
        world.server.requests.clear()
        await world.run(obj, REQUESTED)
        assert world.server.counts["fetch"] == 0


@pytest.mark.spec("SRC-GIT-13")
async def test_a_revision_of_the_old_form_is_the_same_revision(world: Sources) -> None:
    commit = world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    old = msgspec.structs.replace(obj.status.artifact, revision=f"main/{commit}")
    obj = msgspec.structs.replace(obj, status=msgspec.structs.replace(obj.status, artifact=old))
    world.server.requests.clear()
    _, outcome = await world.run(obj, REQUESTED)
    assert world.server.counts["fetch"] == 0
    assert outcome.message == f"stored artifact for revision 'main@sha1:{commit}'"


@pytest.mark.spec("SRC-GIT-14")
async def test_another_ignore_at_the_same_commit_is_another_artifact(world: Sources) -> None:
    world.repo.commit({"a": "1", "b": "2"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    obj = msgspec.structs.replace(obj, spec=world.object(ignore="b").spec)
    world.server.requests.clear()
    changed, outcome = await world.run(obj, (Cause("spec"),))
    assert changed.status.artifact is not None
    assert world.files(changed.status.artifact) == {"a": b"1"}
    assert changed.status.artifact.digest != obj.status.artifact.digest
    assert (outcome.event_reason, changed.status.observed_ignore) == ("NewArtifact", "b")
    assert world.server.counts["fetch"] == 0


async def test_another_ignore_that_leaves_the_same_files_is_no_new_artifact(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    changed, outcome = await world.run(
        msgspec.structs.replace(obj, spec=world.object(ignore="zzz").spec), (Cause("spec"),)
    )
    assert changed.status.artifact == obj.status.artifact
    assert outcome.event == ""


async def test_something_new_is_announced_and_delivered(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    commit = world.repo.commit({"a": "2"}, "x" * 60)
    world.server.requests.clear()
    obj, outcome = await world.run(obj, REQUESTED)
    news = f"new upstream revision 'main@sha1:{commit}'"
    assert world.scope is not None
    assert world.scope.said == [
        ("Progressing", f"building artifact: {news}", (Condition("ArtifactOutdated", "True", "NewRevision", news),))
    ]
    assert outcome.event == f"stored artifact for commit '{'x' * 50}...'"
    assert world.server.counts["fetch"] == 1


async def test_a_hundred_objects_of_one_repository_cost_one_poll_one_fetch_and_one_packing(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    objects = [world.object(f"app-{n}", namespace=f"team-{n % 7}") for n in range(100)]
    made = await asyncio.gather(*(world.run(obj) for obj in objects))
    assert world.server.counts == {"info": 2, "ls-refs": 1, "fetch": 1}, "git asks for info itself, once"
    paths = [world.store.root / obj.status.artifact.path for obj, _ in made if obj.status.artifact is not None]
    assert len({path.stat().st_ino for path in paths}) == 1
    assert len(paths) == 100


async def test_a_ref_that_moved_is_told_to_all_who_read_it(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    made = [await world.run(world.object(f"app-{n}")) for n in range(3)]
    assert world.scope is not None
    (read,) = [read for read in world.scope.reads if read.part == "refs/heads/main"]
    assert read.reference.cluster == REMOTE
    commit = world.repo.commit({"a": "2"})
    await world.run(made[0][0], REQUESTED)
    async with asyncio.timeout(5):
        while not world.changed:
            await asyncio.sleep(0.005)
    assert world.changed == [(read.reference, "refs/heads/main", commit)]
    world.server.requests.clear()
    obj, _ = await world.run(made[1][0], (Cause("changed", read.reference, "refs/heads/main"),))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"main@sha1:{commit}"
    assert world.server.counts == {}


async def test_a_person_gets_a_new_answer_however_fresh_the_last_one_is(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    commit = world.repo.commit({"a": "2"})
    obj, _ = await world.run(obj, REQUESTED)
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision.endswith(commit)


@pytest.mark.spec("SEC-49")
async def test_another_identity_never_sees_what_the_first_one_fetched(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    world.server.basic = ("user", "right")
    world.secret("right", {"username": b"user", "password": b"right"})
    world.secret("wrong", {"username": b"user", "password": b"wrong"}, "tenant")
    await world.run(world.object(secretRef={"name": "right"}))
    error = await world.failure(world.object(namespace="tenant", secretRef={"name": "wrong"}))
    assert error.message.endswith("authentication required")
    error = await world.failure(world.object(namespace="tenant"))
    assert error.message.endswith("authentication required")
    assert len(list(world.store.mirrors.iterdir())) == 1


@pytest.mark.spec("SEC-49")
async def test_equal_credentials_in_other_namespaces_share_one_poll(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    world.server.basic = ("user", "right")
    for namespace, name in (("one", "here"), ("two", "there")):
        world.secret(name, {"username": b"user", "password": b"right"}, namespace)
        await world.run(world.object(namespace=namespace, secretRef={"name": name}))
    assert world.server.counts["ls-refs"] == 1
    assert world.server.counts["fetch"] == 1


@pytest.mark.spec("SEC-46")
async def test_a_ref_that_moves_between_poll_and_fetch_changes_nothing(world: Sources) -> None:
    first = world.repo.commit({"a": "1"})
    obj = world.object()
    remote = world.remotes.remote(*_identity(world))
    await remote.refs("refs/heads/main", max_age=0, timeout=10)
    world.repo.commit({"a": "2"})
    obj, _ = await world.run(obj, (Cause("changed", remote.reference, "refs/heads/main"),))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"main@sha1:{first}"
    assert world.files(obj.status.artifact) == {"a": b"1"}


def _identity(world: Sources):  # type: ignore[no-untyped-def]
    from headrace.core.egress import parse_url
    from headrace.source.git.credentials import Credentials

    return parse_url(world.server.url("app.git")), Credentials()


@pytest.mark.parametrize("newest", [0, 1, 2])
async def test_servers_of_every_protocol_version_are_understood(world: Sources, newest: int) -> None:
    world.server.newest_protocol = newest
    world.repo.commit({"a": "1"})
    world.repo.tag("v1", annotated=True)
    obj, _ = await world.run(world.object())
    tagged, _ = await world.run(world.object("tagged", ref={"tag": "v1"}), REQUESTED)
    world.repo.commit({"a": "2"})
    obj, _ = await world.run(obj, REQUESTED)
    for one, content in ((obj, b"2"), (tagged, b"1")):
        assert one.status.artifact is not None
        assert world.files(one.status.artifact) == {"a": content}


# -- the storage ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-COM-20", "REL-17")
async def test_a_lost_file_is_made_again_as_the_same_artifact(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    (world.store.root / obj.status.artifact.path).unlink()
    again, outcome = await world.run(obj, INTERVAL)
    assert again.status.artifact == obj.status.artifact
    assert world.files(obj.status.artifact) == {"a": b"1"}
    assert world.scope is not None
    assert "disappeared from storage" in world.scope.notes[0]
    assert outcome.event == ""


@pytest.mark.spec("SEC-25")
async def test_a_status_that_names_the_file_of_another_object_neither_has_nor_deletes_it(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    theirs, _ = await world.run(world.object("theirs"))
    artifact = theirs.status.artifact
    assert artifact is not None
    for digest in (artifact.digest, "sha256:" + "0" * 64):
        forged = msgspec.to_builtins(artifact) | {"digest": digest}
        obj = world.with_status(world.object("ours"), {"artifact": forged})
        done, _ = await world.run(obj)
        assert done.status.artifact is not None
        assert done.status.artifact.path.startswith("gitrepository/default/ours/")
        assert await world.store.verify(artifact) is Integrity.SOUND


@pytest.mark.spec("SRC-COM-21", "REL-17")
async def test_a_damaged_file_is_made_again_for_all_who_share_it(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    made = [await world.run(world.object(f"app-{n}")) for n in range(2)]
    for obj, _ in made:
        assert obj.status.artifact is not None
        (world.store.root / obj.status.artifact.path).write_bytes(b"flipped")
    for obj, _ in made:
        assert obj.status.artifact is not None
        _, outcome = await world.run(obj, INTERVAL)
        assert world.files(obj.status.artifact) == {"a": b"1"}
        assert world.scope is not None
        [(reason, message, warning)] = world.scope.events
        assert (reason, warning) == ("ArtifactVerificationFailed", True)
        assert message.endswith("did not match its digest and was deleted")
        assert outcome.event == ""


@pytest.mark.spec("SRC-COM-22")
async def test_an_artifact_without_a_digest_counts_as_lost(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    bare = msgspec.structs.replace(obj.status.artifact, digest="")
    again, _ = await world.run(msgspec.structs.replace(obj, status=msgspec.structs.replace(obj.status, artifact=bare)))
    assert again.status.artifact is not None
    assert again.status.artifact.digest == obj.status.artifact.digest


@pytest.mark.spec("REL-17")
async def test_a_lost_artifact_that_cannot_be_made_again_leaves_the_status(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    (world.store.root / obj.status.artifact.path).unlink()
    world.server.fault = Fault("status", "ls-refs", status=503)
    error = await world.failure(obj, REQUESTED)
    assert error.status == {"artifact": None}


@pytest.mark.spec("REL-28")
async def test_a_source_that_is_down_keeps_its_last_artifact_and_recovers(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    for what in ("ls-refs", "info"):
        world.server.fault = Fault("status", what, status=503)
        error = await world.failure(obj, REQUESTED)
        assert error.status == {}
        assert world.files(obj.status.artifact) == {"a": b"1"}
    world.server.fault = None
    world.repo.commit({"a": "2"})
    obj, _ = await world.run(obj, REQUESTED)
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"a": b"2"}


@pytest.mark.spec("SRC-COM-23")
async def test_another_advertised_address_changes_the_url_only(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    world.store.address = "elsewhere:80"
    world.server.requests.clear()
    again, outcome = await world.run(obj, REQUESTED)
    assert obj.status.artifact is not None
    assert again.status.artifact == msgspec.structs.replace(
        obj.status.artifact, url=f"http://elsewhere:80/{obj.status.artifact.path}"
    )
    assert (outcome.event_reason, world.server.counts["fetch"]) == ("GitOperationSucceeded", 0)


@pytest.mark.spec("SRC-COM-02")
async def test_a_deleted_object_takes_its_files_along_and_no_others(world: Sources) -> None:
    world.repo.commit({"a": "1"})
    kept, _ = await world.run(world.object("kept"))
    gone, _ = await world.run(world.object("gone"))
    assert world.scope is not None
    await world.controller.finalize(gone, world.scope)
    assert not (world.store.root / "gitrepository/default/gone").exists()
    assert kept.status.artifact is not None
    assert world.files(kept.status.artifact) == {"a": b"1"}


# -- which files ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("SRC-ART-03")
async def test_symbolic_links_stay_out_and_modes_come_in(world: Sources) -> None:
    script = world.repo.work / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (world.repo.work / "link").symlink_to("/etc/passwd")
    (world.repo.work / "inside").symlink_to("run.sh")
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    assert set(world.files(obj.status.artifact)) == {"a", "run.sh"}
    async with world.trees.open(obj.status.artifact) as tree:
        assert (tree.directory / "run.sh").stat().st_mode & 0o111
        assert not (tree.directory / "a").stat().st_mode & 0o111


@pytest.mark.spec("SRC-IGN-01", "SRC-IGN-02", "SRC-IGN-05", "SRC-IGN-06")
async def test_ignore_files_and_spec_ignore_work_together(world: Sources) -> None:
    world.repo.commit({"a.png": "1", "x/a.txt": "2", "x/.sourceignore": "*.txt\n", "y/a.txt": "3", "b": "4"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    assert set(world.files(obj.status.artifact)) == {"a.png", "x/.sourceignore", "y/a.txt", "b"}
    obj, _ = await world.run(world.object("other", ignore="!x/a.txt\nb\n"))
    assert obj.status.artifact is not None
    assert set(world.files(obj.status.artifact)) == {"a.png", "x/.sourceignore", "x/a.txt", "y/a.txt"}


@pytest.mark.spec("SRC-GIT-30")
async def test_a_sparse_checkout_keeps_what_begins_with_its_paths(world: Sources) -> None:
    world.repo.commit({"app/a": "1", "apple/b": "2", "other/c": "3"})
    obj, _ = await world.run(world.object(sparseCheckout=["./app"]))
    assert obj.status.artifact is not None
    assert set(world.files(obj.status.artifact)) == {"app/a", "apple/b"}
    assert obj.status.observed_sparse_checkout == ("./app",)


@pytest.mark.spec("SRC-GIT-31", "SEC-11")
@pytest.mark.parametrize("path", ["missing", "../outside", "app/../../outside"])
async def test_a_sparse_path_that_is_not_there_fails(world: Sources, path: str) -> None:
    world.repo.commit({"app/a": "1"})
    error = await world.failure(world.object(sparseCheckout=[path]))
    assert error.reason == "GitOperationFailed"
    assert f"failed to sparse checkout path '{path}': no such file or directory" in error.message


# -- what a commit leaves as it was -----------------------------------------------------------------------------------


def inode(world: Sources, artifact: Artifact, path: str) -> int:
    """The file of an opened artifact, told from its copies."""
    return (world.store.tree_path(world.store.known_tar_digest(artifact.digest)) / path).stat().st_ino


async def test_files_that_a_commit_does_not_change_are_not_written_again(world: Sources) -> None:
    world.repo.commit({"a/same": "1", "a/other": "1", "gone": "1", "run.sh": "1"})
    obj, _ = await world.run(world.object())
    before = obj.status.artifact
    world.repo.commit({"a/other": "2", "gone": None, "new/file": "3"})
    obj, _ = await world.run(obj, REQUESTED)
    after = obj.status.artifact
    assert before is not None
    assert after is not None
    assert world.files(after) == {"a/same": b"1", "a/other": b"2", "new/file": b"3", "run.sh": b"1"}
    assert inode(world, after, "a/same") == inode(world, before, "a/same")
    assert world.files(before)["a/other"] == b"1"


async def test_what_another_ignore_takes_in_is_written_though_the_commit_did_not_change_it(world: Sources) -> None:
    world.repo.commit({".sourceignore": "/left", "left": "1", "kept": "1"})
    obj, _ = await world.run(world.object())
    world.repo.commit({".sourceignore": "/kept"})
    obj, _ = await world.run(obj, REQUESTED)
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {".sourceignore": b"/kept", "left": b"1"}


async def test_a_tree_that_is_not_open_any_more_is_no_base(world: Sources) -> None:
    world.repo.commit({"a": "1", "b": "1"})
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    shutil.rmtree(world.store.tree_path(world.store.known_tar_digest(obj.status.artifact.digest)))
    world.repo.commit({"b": "2"})
    obj, _ = await world.run(obj, REQUESTED)
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"a": b"1", "b": b"2"}
