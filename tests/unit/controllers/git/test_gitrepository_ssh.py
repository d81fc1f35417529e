"""GitRepository over ssh against a real server: keys, host keys, and what a poll costs."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from headrace.api.gitrepository import GitRepository
from headrace.model.errors import Retry
from headrace.source.git.ssh_algorithms import SshAlgorithms
from tests.servers.git_ssh import SshServer
from tests.servers.sources import INTERVAL, REQUESTED, Sources, sources

CLIENT = asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        yield made


@pytest.fixture
async def server(world: Sources) -> AsyncIterator[SshServer]:
    made = SshServer(world.directory / "git", [CLIENT])
    await made.start()
    world.secret("key", made.secret(CLIENT))
    yield made
    await made.stop()


def repository(world: Sources, server: SshServer, **spec: object) -> GitRepository:
    return world.object(**{"url": server.url("app.git"), "secretRef": {"name": "key"}, **spec})


@pytest.mark.spec("SRC-GIT-22")
@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521", "ssh-rsa"])
async def test_a_key_of_every_usual_sort_opens_the_repository(
    world: Sources, server: SshServer, algorithm: str
) -> None:
    commit = world.repo.commit({"a": "1"})
    client = asyncssh.generate_private_key(algorithm)
    server.clients.append(client)
    world.secret("key", server.secret(client))
    obj, _ = await world.run(repository(world, server))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"main@sha1:{commit}"
    assert world.files(obj.status.artifact) == {"a": b"1"}


@pytest.mark.spec("SRC-GIT-22")
@pytest.mark.parametrize("missing", ["identity", "known_hosts"])
async def test_ssh_needs_a_key_and_the_host_keys(world: Sources, server: SshServer, missing: str) -> None:
    for value in ({}, {missing: b" \n"}):
        data = server.secret(CLIENT)
        del data[missing]
        world.secret("key", data | value)
        error = await world.failure(repository(world, server))
        assert isinstance(error, Retry)
        assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")
        assert error.message.endswith(f"invalid 'ssh' auth option: '{missing}' is required")
    assert server.accepted == 0


async def test_ssh_needs_a_secret(world: Sources, server: SshServer) -> None:
    error = await world.failure(repository(world, server, secretRef=None))
    assert (error.reason, error.condition) == ("AuthenticationFailed", "FetchFailed")
    assert "'identity' is required" in error.message


@pytest.mark.spec("SRC-GIT-23", "SEC-32")
@pytest.mark.parametrize("case", ["unknown host", "another port", "changed key", "comment only", "revoked"])
async def test_a_server_that_is_not_in_known_hosts_is_not_talked_to(
    world: Sources, server: SshServer, case: str
) -> None:
    world.repo.commit({"a": "1"})
    own = server.known_hosts()
    other = asyncssh.generate_private_key("ssh-ed25519")
    known = {
        "unknown host": own.replace(b"127.0.0.1", b"git.example.com"),
        "another port": own.replace(f"[127.0.0.1]:{server.port}".encode(), b"127.0.0.1"),
        "changed key": server.known_hosts(other),
        "comment only": b"# " + own,
        "revoked": own + b"@revoked " + own,
    }[case]
    world.secret("key", server.secret(CLIENT, known_hosts=known))
    error = await world.failure(repository(world, server))
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    assert "host key verification failed: " in error.message
    assert server.commands == []


@pytest.mark.spec("SRC-GIT-23")
async def test_a_host_key_that_changes_later_stops_the_next_connection(world: Sources, server: SshServer) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(repository(world, server))
    port = server.port
    await server.stop()
    server.host_key = asyncssh.generate_private_key("ssh-ed25519")
    await server.start(port)
    server.commands.clear()
    error = await world.failure(obj, REQUESTED)
    assert "host key verification failed: " in error.message
    assert server.commands == []


@pytest.mark.spec("SRC-GIT-24")
async def test_an_encrypted_key_needs_its_password(world: Sources, server: SshServer) -> None:
    world.repo.commit({"a": "1"})
    for form in ("openssh", "pkcs8-pem"):
        encrypted = CLIENT.export_private_key(form, passphrase="canary-phrase")
        world.secret("key", server.secret(CLIENT, identity=encrypted))
        error = await world.failure(repository(world, server), REQUESTED)
        assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
        assert "unable to read 'identity': " in error.message
        world.secret("key", server.secret(CLIENT, identity=encrypted, password=b"canary-wrong"))
        error = await world.failure(repository(world, server), REQUESTED)
        assert "unable to read 'identity': " in error.message
        assert "canary" not in error.message
        world.secret("key", server.secret(CLIENT, identity=encrypted, password=b"canary-phrase"))
        obj, _ = await world.run(repository(world, server), REQUESTED)
        assert obj.status.artifact is not None


async def test_the_user_is_that_of_the_url_or_git(world: Sources, server: SshServer) -> None:
    world.repo.commit({"a": "1"})
    server.user = "deploy"
    error = await world.failure(repository(world, server))
    assert error.message.endswith("authentication failed: the server does not accept the key")
    obj, _ = await world.run(repository(world, server, url=server.url("app.git", "deploy")))
    assert obj.status.artifact is not None


async def test_a_repository_that_is_not_there_is_told_in_the_words_of_the_server(
    world: Sources, server: SshServer
) -> None:
    error = await world.failure(repository(world, server, url=server.url("it's!.git")))
    assert error.reason == "GitOperationFailed"
    assert error.message.endswith(": ERROR: Repository not found.")
    assert server.commands == ["git-upload-pack '/it'\\''s'\\!'.git'"]


async def test_polls_of_many_repositories_on_a_server_share_one_connection(world: Sources, server: SshServer) -> None:
    world.repo.commit({"a": "1"})
    subprocess.run(["git", "clone", "-q", "--bare", world.repo.bare, world.directory / "git" / "other.git"], check=True)
    objects = [repository(world, server), repository(world, server, url=server.url("other.git"))]
    for _ in range(3):
        objects = [(await world.run(obj, REQUESTED))[0] for obj in objects]
    assert server.accepted == 1
    assert len(server.commands) == 2 + 2 * 3


async def test_a_connection_that_the_server_has_dropped_is_made_anew(world: Sources, server: SshServer) -> None:
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(repository(world, server))
    await server.disconnect()
    commit = world.repo.commit({"a": "2"})
    obj, _ = await world.run(obj, REQUESTED)
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"main@sha1:{commit}"
    assert server.accepted == 2


@pytest.mark.parametrize("newest", [0, 2])
@pytest.mark.parametrize("ref", [{"tag": "v1"}, {"semver": ">=0"}, {"name": "refs/heads/main"}, {"commit": "HEAD"}])
async def test_every_sort_of_ref_comes_over_ssh_from_servers_of_every_protocol(
    world: Sources, server: SshServer, newest: int, ref: dict[str, str]
) -> None:
    server.newest_protocol = newest
    commit = world.repo.commit({"a": "1" * 100_000, "b/c": "x"})
    world.repo.tag("v1", annotated=True)
    world.repo.tag("1.0.0")
    if "commit" in ref:
        ref = {"commit": commit}
    obj, _ = await world.run(repository(world, server, ref=ref))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision.endswith(commit)
    assert world.files(obj.status.artifact) == {"a": b"1" * 100_000, "b/c": b"x"}


async def test_a_server_that_is_down_is_named(world: Sources, server: SshServer) -> None:
    obj = repository(world, server)
    await server.stop()
    error = await world.failure(obj)
    assert error.reason == "GitOperationFailed"
    assert "unable to list remote for 'ssh://127.0.0.1:" in error.message
    assert "cannot connect: " in error.message
    await server.start()


async def test_an_idle_poll_is_one_command_and_keys_are_in_no_file(
    world: Sources, server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = world.directory / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    world.repo.commit({"a": "1"})
    obj, _ = await world.run(repository(world, server))
    secret = CLIENT.export_private_key().splitlines()[2]
    before = len(server.commands)
    for _ in range(3):
        obj, _ = await world.run(obj, REQUESTED)
    assert len(server.commands) == before + 3
    written = [path.read_bytes() for path in world.directory.rglob("*") if path.is_file()]
    assert not any(secret in content for content in written)
    await asyncio.sleep(0)


async def test_the_address_of_an_ssh_server_is_checked_too(tmp_path: Path) -> None:
    from headrace.core.egress import EgressPolicy

    async with sources(tmp_path, policy=EgressPolicy()) as closed:
        server = SshServer(tmp_path / "git", [CLIENT])
        await server.start()
        closed.secret("key", server.secret(CLIENT))
        error = await closed.failure(repository(closed, server), INTERVAL)
        assert "is a loopback address" in error.message
        assert server.accepted == 0
        await server.stop()


@pytest.mark.parametrize(
    ("chosen", "works"),
    [
        pytest.param(SshAlgorithms(key_exchange=("curve25519-sha256",)), True, id="key exchange of both"),
        pytest.param(SshAlgorithms(host_key=("rsa-sha2-512",)), False, id="host key of another sort"),
        pytest.param(SshAlgorithms(key_exchange=("diffie-hellman-group1-sha1",)), False, id="old key exchange"),
    ],
)
async def test_only_the_algorithms_that_operators_name_are_used(
    world: Sources, server: SshServer, chosen: SshAlgorithms, works: bool
) -> None:
    world.repo.commit({"a": "1"})
    world.remotes._ssh_algorithms = chosen  # the set-up of all tests has none
    if works:
        obj, _ = await world.run(repository(world, server))
        assert obj.status.artifact is not None
    else:
        error = await world.failure(repository(world, server))
        assert error.reason == "GitOperationFailed"
