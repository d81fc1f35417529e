"""What servers say about their refs, well-formed and not."""

from __future__ import annotations

import pytest

from headrace.source.git.errors import GitError
from headrace.source.git.pktline import ls_refs_request, packet, parse_advertisement, parse_ls_refs
from headrace.source.git.refs import RefTarget, canonical_revision, revision

A, B, C = "a" * 40, "b" * 40, "c" * 40


def test_a_version_2_server_names_its_capabilities() -> None:
    answer = packet("# service=git-upload-pack") + b"0000" + packet("version 2") + packet("ls-refs=unborn")
    parsed = parse_advertisement(answer + packet("object-format=sha256") + b"0000")
    assert (parsed.version, parsed.object_format, parsed.refs) == (2, "sha256", {})


def test_an_older_server_lists_all_refs_at_once() -> None:
    answer = packet(f"{A} HEAD\0multi_ack symref=HEAD:refs/heads/main") + packet(f"{A} refs/heads/main")
    answer += packet(f"{B} refs/tags/v1") + packet(f"{C} refs/tags/v1^{{}}") + b"0000"
    parsed = parse_advertisement(packet("# service=git-upload-pack") + b"0000" + answer)
    assert parsed.refs == {
        "HEAD": RefTarget(A), "refs/heads/main": RefTarget(A), "refs/tags/v1": RefTarget(B, C),
    }  # fmt: skip


def test_an_empty_repository_of_an_older_server_has_no_refs() -> None:
    assert parse_advertisement(packet(f"{'0' * 40} capabilities^{{}}\0agent=git") + b"0000").refs == {}


def test_an_answer_to_ls_refs_holds_tags_and_their_commits() -> None:
    answer = packet(f"{A} refs/heads/main") + packet(f"{B} refs/tags/v1 peeled:{C}") + packet("unborn HEAD x") + b"0000"
    assert parse_ls_refs(answer) == {"refs/heads/main": RefTarget(A), "refs/tags/v1": RefTarget(B, C)}


def test_a_request_asks_for_prefixes_only() -> None:
    request = ls_refs_request(["refs/heads/main"], "sha1", "x")
    assert request.startswith(b"0014command=ls-refs\n")
    assert b"ref-prefix refs/heads/main\n" in request
    assert request.endswith(b"0000")


@pytest.mark.spec("SEC-10")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>", "ends too early"),
        (b"zzzz0000", "no git protocol"),
        (b"00ff short0000", "ends too early"),
        (packet("ERR access denied") + b"0000", "remote: access denied"),
        (packet(f"{A} refs/heads/main"), "ends too early"),
        (packet("../../x refs/heads/main") + b"0000", "invalid object id"),
        (packet(f"{A} refs/tags/v1 peeled:--upload-pack=x") + b"0000", "invalid object id"),
        (b"0004" + b"0000", "ends too early"),
    ],
)
def test_an_answer_that_is_not_understood_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GitError, match=message):
        parse_ls_refs(data)


@pytest.mark.spec("SRC-GIT-13")
def test_revisions_of_old_forms_are_rewritten() -> None:
    assert canonical_revision(f"main/{A}") == f"main@sha1:{A}"
    assert canonical_revision(f"feature/x/{A}") == f"feature/x@sha1:{A}"
    assert canonical_revision(A) == f"sha1:{A}"
    for text in (f"main@sha1:{A}", "latest@sha256:abc", "1.0.0"):
        assert canonical_revision(text) == text
    assert revision("main", "d" * 64) == f"main@sha256:{'d' * 64}"
