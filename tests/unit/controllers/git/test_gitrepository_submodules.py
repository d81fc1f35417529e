"""Submodules of a GitRepository: only when asked for, from real servers, under the rules of every other URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import msgspec
import pytest

from headrace.core.egress import parse_url
from headrace.source.git.credentials import Credentials, SshIdentity, http_credentials
from headrace.source.git.errors import GitError
from headrace.source.git.submodules import Submodule, locate
from tests.servers.git_http import GitServer, Repository
from tests.servers.git_ssh import SshServer
from tests.servers.sources import INTERVAL, REQUESTED, Sources, sources


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        yield made


def embed(holder: Repository, path: str, url: str, commit: str) -> str:
    """Commit a submodule as `git submodule add` does, without fetching it."""
    (holder.work / path).mkdir(parents=True, exist_ok=True)
    holder.git("config", "-f", ".gitmodules", f"submodule.{path}.path", path)
    holder.git("config", "-f", ".gitmodules", f"submodule.{path}.url", url)
    holder.git("add", ".gitmodules")
    holder.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    holder.git("commit", "-q", "-m", f"Add submodule {path}")
    holder.push()
    return holder.head()


def other(world: Sources, name: str, files: dict[str, str | bytes | None]) -> tuple[Repository, str]:
    repository = Repository(world.directory / "git", name)
    return repository, repository.commit(files)


@pytest.mark.spec("SRC-GIT-29")
async def test_submodules_come_only_when_they_are_wanted_and_bring_their_own(world: Sources) -> None:
    world.repo.commit({"app.yaml": "app"})
    _, deepest = other(world, "deepest.git", {"z": "z", "logo.png": "p"})
    middle, _ = other(world, "middle.git", {"m": "m"})
    pinned = embed(middle, "sub", world.server.url("deepest.git"), deepest)
    middle.commit({"m": "newer"})
    embed(world.repo, "lib/middle", "../middle.git", pinned)
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"app.yaml": b"app"}
    wanting = world.with_status(world.object(recurseSubmodules=True), _status(obj))
    wanting, outcome = await world.run(wanting, INTERVAL)
    assert wanting.status.artifact is not None
    assert world.files(wanting.status.artifact) == {
        "app.yaml": b"app", "lib/middle/m": b"m", "lib/middle/sub/z": b"z",
    }  # fmt: skip
    assert wanting.status.observed_recurse_submodules
    assert outcome.event_reason == "NewArtifact"
    requests = len(world.server.requests)
    again, _ = await world.run(wanting, REQUESTED)
    assert again.status.artifact == wanting.status.artifact
    assert len(world.server.requests) == requests + 1
    plain, _ = await world.run(world.with_status(world.object(), _status(again)), INTERVAL)
    assert plain.status.artifact is not None
    assert world.files(plain.status.artifact) == {"app.yaml": b"app"}
    assert not plain.status.observed_recurse_submodules


def _status(obj: object) -> dict[str, object]:
    status = msgspec.to_builtins(obj)["status"]
    assert isinstance(status, dict)
    return status


@pytest.mark.spec("SRC-GIT-29", "SRC-GIT-30")
async def test_a_submodule_that_the_sparse_checkout_leaves_out_is_not_fetched(world: Sources) -> None:
    world.repo.commit({"app/x": "x"})
    _, commit = other(world, "lib.git", {"y": "y"})
    embed(world.repo, "lib", world.server.url("lib.git"), commit)
    obj, _ = await world.run(world.object(recurseSubmodules=True, sparseCheckout=["app"]))
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"app/x": b"x"}
    assert not any("lib.git" in request.path for request in world.server.requests)


@pytest.mark.spec("SEC-30", "SEC-49")
async def test_credentials_go_to_submodules_of_the_same_server_only(world: Sources) -> None:
    world.server.basic = ("user", "canary-password")
    world.repo.commit({"app": "app"})
    _, near = other(world, "near.git", {"near": "1"})
    elsewhere = GitServer(world.directory / "git")
    await elsewhere.start()
    embed(world.repo, "near", "../near.git", near)
    embed(world.repo, "far", elsewhere.url("near.git"), near)
    world.secret("creds", {"username": b"user", "password": b"canary-password"})
    obj, _ = await world.run(world.object(recurseSubmodules=True, secretRef={"name": "creds"}))
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"app": b"app", "near/near": b"1", "far/near": b"1"}
    assert elsewhere.requests != []
    assert not any("Authorization" in request.headers for request in elsewhere.requests)
    await elsewhere.stop()


@pytest.mark.spec("SEC-08", "SEC-07")
@pytest.mark.parametrize(
    "url", ["file:///etc", "ext::sh -c x", "/etc", "-x", "git://host/x", "../../../../x", "ssh://-o@h/x"]
)
async def test_a_submodule_url_that_is_no_plain_address_is_refused(world: Sources, url: str) -> None:
    world.repo.commit({"app": "app"})
    embed(world.repo, "lib", url, "a" * 40)
    error = await world.failure(world.object(recurseSubmodules=True))
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    assert "submodule 'lib': " in error.message
    assert "URL is refused" in error.message
    assert {request.path.split("/")[1] for request in world.server.requests} == {"app.git"}


@pytest.mark.spec("SEC-08", "SEC-29")
async def test_a_submodule_may_not_lead_to_closed_addresses(world: Sources) -> None:
    world.repo.commit({"app": "app"})
    embed(world.repo, "lib", "http://169.254.169.254/latest", "a" * 40)
    error = await world.failure(world.object(recurseSubmodules=True))
    assert error.reason == "GitOperationFailed"
    assert "is a cloud metadata address" in error.message


@pytest.mark.spec("SEC-08")
async def test_files_of_a_submodule_are_written_by_the_same_rules(world: Sources) -> None:
    world.repo.commit({"app": "app"})
    lib, _ = other(world, "lib.git", {"ok": "1", ".gitattributes": "* filter=x\n"})
    (lib.work / "link").symlink_to("/etc/passwd")
    commit = lib.commit({})
    embed(world.repo, "lib", "../lib.git", commit)
    obj, _ = await world.run(world.object(recurseSubmodules=True))
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"app": b"app", "lib/ok": b"1"}


async def test_a_submodule_comes_over_ssh_with_the_same_key(world: Sources) -> None:
    client = asyncssh.generate_private_key("ssh-ed25519")
    server = SshServer(world.directory / "git", [client])
    await server.start()
    world.secret("key", server.secret(client))
    world.repo.commit({"app": "app"})
    _, commit = other(world, "lib.git", {"y": "y"})
    embed(world.repo, "lib", server.url("lib.git", "git"), commit)
    obj, _ = await world.run(
        world.object(url=server.url("app.git"), secretRef={"name": "key"}, recurseSubmodules=True)
    )
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"app": b"app", "lib/y": b"y"}
    assert server.accepted == 1
    await server.stop()


def test_the_short_form_of_ssh_is_understood_and_the_key_stays_with_its_server() -> None:
    parent = parse_url("ssh://git.example.com/org/app", ("ssh",))
    identity = Credentials(ssh=SshIdentity(user="git", key=b"x", known_hosts="x"))
    url, used = locate(Submodule("lib", "git@git.example.com:org/lib.git", "a"), parent, identity)
    assert (url.text, used) == ("ssh://git.example.com/org/lib.git", identity)
    url, used = locate(Submodule("lib", "https://git.example.com/org/lib", "a"), parent, identity)
    assert used == Credentials()
    with pytest.raises(GitError, match="the key is for 'git.example.com' only, and the submodule is on 'other.com'"):
        locate(Submodule("lib", "git@other.com:org/lib.git", "a"), parent, identity)
    parent = parse_url("https://git.example.com/org/app/")
    basic = http_credentials({"username": b"u", "password": b"p"}, parent)
    assert locate(Submodule("lib", "./../lib", "a"), parent, basic)[0].text == "https://git.example.com/org/lib"
    assert locate(Submodule("lib", "http://git.example.com/org/lib", "a"), parent, basic)[1] == Credentials()
