"""Verification of commits and tags: OpenPGP signatures by sequoia, SSH signatures by git and ssh-keygen themselves."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import pysequoia
import pytest

from headrace.api.gitrepository import GitRepository
from headrace.model.errors import Retry, Stalled
from headrace.model.outcome import Condition
from tests.servers.git_http import Repository
from tests.servers.sources import REQUESTED, Sources, sources

ALICE = pysequoia.Tsk.generate("Alice <alice@example.com>")
MALLORY = pysequoia.Tsk.generate("Mallory <mallory@example.com>")
KEY = asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        made.repo.commit({"a": "1"})
        made.secret("keys", {"alice.asc": public(ALICE)})
        yield made


def public(key: pysequoia.Tsk) -> bytes:
    return str(key.extract_certificate()).encode()


def key_id(key: pysequoia.Tsk) -> str:
    return key.extract_certificate().fingerprint[-16:].upper()


def pgp(key: pysequoia.Tsk, payload: bytes) -> bytes:
    return bytes(pysequoia.sign(key.signer(), payload, mode=pysequoia.SignatureMode.DETACHED)).strip()


def write(repo: Repository, kind: str, raw: bytes, ref: str) -> str:
    """Store an object as it is, valid or not, and push it as `ref`."""
    command = ["git", "hash-object", "--literally", "-t", kind, "-w", "--stdin"]
    oid = subprocess.run(command, cwd=repo.work, input=raw, capture_output=True, check=True).stdout.decode().strip()
    repo.git("push", "-q", "--force", "origin", f"{oid}:{ref}")
    return oid


def raw_commit(repo: Repository) -> bytes:
    command = ["git", "cat-file", "commit", "HEAD"]
    return subprocess.run(command, cwd=repo.work, capture_output=True, check=True).stdout


def signed_commit(repo: Repository, key: pysequoia.Tsk, *, payload: bytes = b"") -> str:
    raw = payload or raw_commit(repo)
    head, _, body = raw.partition(b"\n\n")
    header = b"gpgsig " + pgp(key, raw).replace(b"\n", b"\n ")
    return write(repo, "commit", head + b"\n" + header + b"\n\n" + body, "refs/heads/main")


def signed_tag(repo: Repository, key: pysequoia.Tsk, commit: str, name: str = "v1.0.0", ref: str = "") -> str:
    text = f"object {commit}\ntype commit\ntag {name}\ntagger T <t@example.com> 1700000000 +0000\n\nRelease\n"
    return write(repo, "tag", text.encode() + pgp(key, text.encode()) + b"\n", f"refs/tags/{ref or name}")


def verifying(world: Sources, mode: str = "HEAD", **spec: Any) -> GitRepository:
    return world.object(verify={"mode": mode, "secretRef": {"name": "keys"}}, **spec)


def verdict(conditions: tuple[Condition, ...]) -> list[Condition]:
    return [condition for condition in conditions if condition.type == "SourceVerified"]


TAGGED = {"ref": {"tag": "v1.0.0"}}


@pytest.mark.spec("SRC-GIT-37")
@pytest.mark.parametrize("mode", ["HEAD", "head"])
async def test_a_commit_that_is_signed_by_a_trusted_key_is_published(world: Sources, mode: str) -> None:
    commit = signed_commit(world.repo, ALICE)
    obj, outcome = await world.run(verifying(world, mode))
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision == f"main@sha1:{commit}"
    assert obj.status.source_verification_mode == "HEAD"
    message = f"verified signature of\n\t- commit '{commit}' with key '{key_id(ALICE)}'"
    assert verdict(outcome.conditions) == [Condition("SourceVerified", "True", "Succeeded", message)]


@pytest.mark.spec("SRC-GIT-37", "SEC-34")
async def test_a_commit_without_a_trusted_signature_is_never_published(world: Sources) -> None:
    unsigned = world.repo.head()
    other = signed_commit(world.repo, MALLORY)
    world.repo.git("push", "-q", "--force", "origin", f"{unsigned}:refs/heads/main")
    for commit in (unsigned, other):
        world.repo.git("push", "-q", "--force", "origin", f"{commit}:refs/heads/main")
        error = await world.failure(verifying(world), REQUESTED)
        assert isinstance(error, Retry)
        assert (error.reason, error.condition) == ("InvalidCommitSignature", "SourceVerified")
        assert error.message.startswith(f"signature verification of commit '{commit}' failed: ")
    assert not (world.store.root / "gitrepository").exists()


@pytest.mark.spec("SEC-34")
async def test_an_artifact_that_was_verified_stays_when_the_next_commit_is_not(world: Sources) -> None:
    signed_commit(world.repo, ALICE)
    obj, _ = await world.run(verifying(world))
    world.repo.commit({"a": "evil"})
    error = await world.failure(obj, REQUESTED)
    assert error.reason == "InvalidCommitSignature"
    assert "artifact" not in error.status
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"a": b"1"}


@pytest.mark.spec("SEC-34")
async def test_what_was_signed_is_every_byte_of_the_commit(world: Sources) -> None:
    signed = signed_commit(world.repo, ALICE)
    raw = subprocess.run(["git", "cat-file", "commit", signed], cwd=world.repo.work, capture_output=True).stdout
    changed = raw.replace(b"\n\nchange", b"\n\nanother")
    tree = raw.partition(b"\n")[0]
    assert changed != raw
    for forged in (changed, raw.replace(tree, tree + b"\n" + tree, 1), raw + b"x"):
        write(world.repo, "commit", forged, "refs/heads/main")
        error = await world.failure(verifying(world), REQUESTED)
        # A server or git itself may refuse what is malformed before we do.
        assert error.reason in {"InvalidCommitSignature", "GitOperationFailed"}
    write(world.repo, "commit", changed, "refs/heads/main")
    error = await world.failure(verifying(world), REQUESTED)
    assert error.reason == "InvalidCommitSignature"


@pytest.mark.spec("SRC-GIT-38")
@pytest.mark.parametrize("mode", ["Tag", "TagAndHEAD"])
async def test_tags_can_be_verified_only_where_a_tag_is_wanted(world: Sources, mode: str) -> None:
    signed_commit(world.repo, ALICE)
    error = await world.failure(verifying(world, mode))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("InvalidVerificationMode", "SourceVerified")


@pytest.mark.spec("SRC-GIT-39")
@pytest.mark.parametrize("annotated", [True, False])
async def test_a_tag_that_is_not_signed_is_refused(world: Sources, annotated: bool) -> None:
    world.repo.tag("v1.0.0", annotated=annotated)
    error = await world.failure(verifying(world, "Tag", **TAGGED))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("InvalidGitObject", "SourceVerified")
    assert error.message.startswith("cannot verify signature of tag 'v1.0.0@")


@pytest.mark.spec("SRC-GIT-40")
async def test_tag_and_head_needs_both_signatures(world: Sources) -> None:
    plain = world.repo.head()
    signed_tag(world.repo, ALICE, plain)
    obj, outcome = await world.run(verifying(world, "Tag", **TAGGED))
    assert obj.status.source_verification_mode == "Tag"
    error = await world.failure(verifying(world, "TagAndHEAD", **TAGGED), REQUESTED)
    assert error.reason == "InvalidCommitSignature"
    commit = signed_commit(world.repo, ALICE)
    signed_tag(world.repo, MALLORY, commit)
    error = await world.failure(verifying(world, "TagAndHEAD", **TAGGED), REQUESTED)
    assert error.reason == "InvalidTagSignature"
    tag = signed_tag(world.repo, ALICE, commit)
    obj, outcome = await world.run(verifying(world, "TagAndHEAD", **TAGGED), REQUESTED)
    assert obj.status.source_verification_mode == "TagAndHEAD"
    [told] = verdict(outcome.conditions)
    assert told.message == (
        f"verified signature of\n\t- tag 'v1.0.0@{tag}' with key '{key_id(ALICE)}'"
        f"\n\t- commit '{commit}' with key '{key_id(ALICE)}'"
    )


@pytest.mark.spec("SEC-34")
async def test_a_signed_tag_does_not_serve_under_another_name(world: Sources) -> None:
    signed_tag(world.repo, ALICE, world.repo.head(), name="v0.9.0", ref="v1.0.0")
    error = await world.failure(verifying(world, "Tag", **TAGGED))
    assert error.reason == "InvalidTagSignature"
    assert error.message.endswith("the signed tag has another name")


def by_ssh(world: Sources, *arguments: str) -> None:
    """Let git sign by ssh-keygen."""
    path = world.directory / "key"
    if not path.exists():
        path.touch(0o600)
        path.write_bytes(KEY.export_private_key())
    world.repo.git("-c", "gpg.format=ssh", "-c", f"user.signingkey={path}", *arguments)


@pytest.mark.spec("SRC-GIT-41")
async def test_ssh_signatures_are_verified_by_keys_named_sshpub(world: Sources) -> None:
    by_ssh(world, "commit", "-q", "-S", "--allow-empty", "-m", "signed")
    by_ssh(world, "tag", "-s", "-m", "release", "v1.0.0")
    world.repo.push()
    world.repo.git("push", "-q", "origin", "v1.0.0")
    lines = b"# people\n" + KEY.export_public_key()
    world.secret("keys", {"people.sshpub": lines})
    obj, outcome = await world.run(verifying(world, "TagAndHEAD", **TAGGED))
    assert obj.status.artifact is not None
    [told] = verdict(outcome.conditions)
    assert told.message.count(f"with key '{KEY.get_fingerprint()}'") == 2
    assert KEY.get_fingerprint().startswith("SHA256:")
    other = asyncssh.generate_private_key("ssh-ed25519")
    world.secret("keys", {"people.sshpub": other.export_public_key()})
    error = await world.failure(verifying(world), REQUESTED)
    assert error.reason == "InvalidCommitSignature"
    assert error.message.endswith("unable to verify payload with any of the given SSH keys")


@pytest.mark.spec("SRC-GIT-41")
async def test_an_ssh_signature_for_something_else_does_not_count(world: Sources) -> None:
    by_ssh(world, "tag", "-s", "-m", "x", "other")
    payload = raw_commit(world.repo)
    file = world.directory / "payload"
    file.write_bytes(payload)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(world.directory / "key"), "-n", "file", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    signature = Path(f"{file}.sig").read_bytes().strip()
    head, _, body = payload.partition(b"\n\n")
    header = b"gpgsig " + signature.replace(b"\n", b"\n ")
    write(world.repo, "commit", head + b"\n" + header + b"\n\n" + body, "refs/heads/main")
    world.secret("keys", {"k.sshpub": KEY.export_public_key()})
    error = await world.failure(verifying(world))
    assert error.reason == "InvalidCommitSignature"
    assert error.message.endswith("the SSH signature is not for git")


@pytest.mark.spec("SRC-GIT-42")
async def test_the_type_of_the_signature_decides_which_keys_count(world: Sources) -> None:
    signed_commit(world.repo, ALICE)
    world.secret("keys", {"k.sshpub": KEY.export_public_key()})
    error = await world.failure(verifying(world))
    assert error.message.endswith("the signature is of OpenPGP, and there are no OpenPGP keys in the secret")
    by_ssh(world, "commit", "-q", "-S", "--allow-empty", "-m", "signed")
    world.repo.push()
    world.secret("keys", {"alice": public(ALICE)})
    error = await world.failure(verifying(world), REQUESTED)
    assert error.message.endswith("the signature is of SSH, and there are no '*.sshpub' keys in the secret")


@pytest.mark.spec("SRC-GIT-43")
async def test_a_wider_mode_verifies_the_same_commit_again_and_a_narrower_one_does_not(world: Sources) -> None:
    signed_tag(world.repo, ALICE, world.repo.head())
    obj, _ = await world.run(verifying(world, "Tag", **TAGGED))
    both = world.with_status(verifying(world, "TagAndHEAD", **TAGGED), status_of(obj))
    error = await world.failure(both, REQUESTED)
    assert error.reason == "InvalidCommitSignature"
    commit = signed_commit(world.repo, ALICE)
    signed_tag(world.repo, ALICE, commit)
    obj, _ = await world.run(world.with_status(both, status_of(obj)), REQUESTED)
    assert obj.status.source_verification_mode == "TagAndHEAD"
    world.secret("keys", {})
    narrower = world.with_status(verifying(world, "HEAD", **TAGGED), status_of(obj))
    obj, outcome = await world.run(narrower, REQUESTED)
    assert (obj.status.source_verification_mode, outcome.event_reason) == ("TagAndHEAD", "GitOperationSucceeded")


@pytest.mark.spec("SRC-GIT-44")
async def test_without_verify_the_mode_goes_with_the_next_full_checkout(world: Sources) -> None:
    signed_commit(world.repo, ALICE)
    obj, _ = await world.run(verifying(world))
    plain, outcome = await world.run(world.with_status(world.object(), status_of(obj)), REQUESTED)
    assert (plain.status.source_verification_mode, outcome.remove) == ("HEAD", ())
    world.repo.commit({"a": "2"})
    plain, outcome = await world.run(plain, REQUESTED)
    assert (plain.status.source_verification_mode, outcome.remove) == (None, ("SourceVerified",))


@pytest.mark.parametrize("data", [None, {"alice.asc": b"no key"}, {"k.sshpub": b"no key"}])
async def test_keys_that_are_missing_or_unreadable_are_told(world: Sources, data: dict[str, bytes] | None) -> None:
    signed_commit(world.repo, ALICE)
    world.objects.clear()
    if data is not None:
        world.secret("keys", data)
    error = await world.failure(verifying(world))
    assert isinstance(error, Retry)
    assert (error.reason, error.condition) == ("VerificationError", "SourceVerified")


async def test_a_revision_that_is_back_after_a_bad_one_is_verified_again(world: Sources) -> None:
    commit = signed_commit(world.repo, ALICE)
    obj, _ = await world.run(verifying(world))
    failed = {"type": "SourceVerified", "status": "False", "reason": "InvalidCommitSignature", "message": "x",
              "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    obj = world.with_status(obj, {"conditions": [failed]})
    obj, outcome = await world.run(obj, REQUESTED)
    [told] = verdict(outcome.conditions)
    assert (told.status, told.message.count(commit)) == ("True", 1)
    plain = world.with_status(world.object(), {**status_of(obj), "conditions": [failed]})
    _, outcome = await world.run(plain, REQUESTED)
    assert outcome.remove == ("SourceVerified",)


def status_of(obj: GitRepository) -> dict[str, object]:
    status = msgspec.to_builtins(obj)["status"]
    assert isinstance(status, dict)
    return status
