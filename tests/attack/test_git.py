"""SEC-07 to SEC-10: git URLs, refs and trees that would run, escape or exhaust."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.api.gitrepository import GitRepositoryRef
from headrace.core.egress import UrlRefused, parse_url
from headrace.core.limits import UnpackLimits
from headrace.core.paths import PathRefused, safe_segments
from headrace.model.errors import Stalled
from headrace.source.git.program import git
from headrace.source.git.refs import wanted
from tests.servers.sources import Sources, sources


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Sources]:
    async with sources(tmp_path) as made:
        yield made


@pytest.mark.spec("SEC-07")
@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/x", "ext::sh", "file:///etc/passwd", "/etc/passwd", "../x", "ssh://-oProxyCommand=x/y",
        "ssh://-x@host/y", "--upload-pack=x", "-u", "http://host/x\n--upload-pack=y", "http://host/ x",
        "http://host\\x",
        "git://host/x", "http:host", "http://", "http:///x", "http://[::1/x", "http://host:99999/x", "http://a b/x",
        "user@host:repo", "http://host?x", "http://-x/y", "javascript:x", "", "fd::0", "http://ho\0st/x",
    ],
)  # fmt: skip
def test_a_url_that_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused, match="^URL is refused: "):
        parse_url(url, ("http", "https", "ssh"))


def test_a_refused_url_is_not_repeated_with_its_password() -> None:
    with pytest.raises(UrlRefused) as caught:
        parse_url("http://user:canary@ho st/x")
    assert "canary" not in str(caught.value)
    accepted = parse_url("https://user:canary@host/x")
    assert "canary" not in repr(accepted) + accepted.text


@pytest.mark.spec("SEC-07", "SEC-09")
@pytest.mark.parametrize(
    "name",
    [
        "--upload-pack=x", "-x", "refs/heads/../../x", "a..b", "x.lock", "a/x.lock/b", "a b", "a\nb", "a~1", "a^",
        "a:b",
        "a?", "a*", "a[", "a\\b", "a//b", "/a", "a/", "a.", ".a", "a/.b", "a@{1}", "a\x7f",
    ],
)  # fmt: skip
async def test_a_ref_that_git_would_not_accept_stalls_before_anything_is_asked(world: Sources, name: str) -> None:
    for field in ("branch", "tag", "name"):
        with pytest.raises(ValueError, match="is not a valid name"):
            wanted(GitRepositoryRef(**{field: name}))
    error = await world.failure(world.object(ref={"branch": name}))
    assert isinstance(error, Stalled)
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    assert "is not a valid name" in error.message
    assert world.server.requests == []


@pytest.mark.spec("SEC-07")
@pytest.mark.parametrize("commit", ["main", "--all", "abc", "g" * 40, "a" * 41])
def test_a_commit_is_a_full_hash(commit: str) -> None:
    with pytest.raises(ValueError, match="is not a full commit hash"):
        wanted(GitRepositoryRef(commit=commit))


@pytest.mark.spec("SEC-07")
@pytest.mark.parametrize("url", ["ext::sh -c 'touch canary'", "file:///", "ssh://host/x", "git://host/x"])
async def test_the_git_program_speaks_http_only(tmp_path: Path, url: str) -> None:
    completed = await git("ls-remote", "--", url, cwd=tmp_path, timeout=10)
    assert completed.code != 0
    assert "not allowed" in completed.errors
    assert not (tmp_path / "canary").exists()


@pytest.mark.spec("SEC-07")
async def test_the_git_program_reads_no_configuration_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[alias]\n\tcanary = !touch canary\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'alias.canary=!touch canary'")
    completed = await git("canary", cwd=tmp_path, timeout=10)
    assert "is not a git command" in completed.errors


def raw_tree(world: Sources, path: str, content: str = "bad") -> None:
    """Commit a file under a name that git itself would not let anybody add."""
    tree, kind = _blob(world, content), "100644 blob"
    for name in reversed(path.split("/")):
        done = subprocess.run(["git", "mktree"], cwd=world.repo.work, input=f"{kind} {tree}\t{name}\n",
                              capture_output=True, text=True, check=True)  # fmt: skip
        tree, kind = done.stdout.strip(), "040000 tree"
    commit = world.repo.git("commit-tree", "-m", "bad", tree)
    world.repo.git("push", "-q", "--force", "origin", f"{commit}:refs/heads/main")


def _blob(world: Sources, content: str) -> str:
    done = subprocess.run(["git", "hash-object", "-w", "--stdin"], cwd=world.repo.work, input=content,
                          capture_output=True, text=True, check=True)  # fmt: skip
    return done.stdout.strip()


@pytest.mark.spec("SEC-08")
@pytest.mark.parametrize(
    "path", [".git/hooks/post-checkout", "a/.GIT/config", "git~1/config", ".git./x", ".g\u200cit/config", ".git::x/y"]
)
@pytest.mark.parametrize("rule", [None, "nothing"], ids=["defaults", "own rules"])
async def test_a_tree_that_pretends_to_be_a_repository_is_refused(world: Sources, path: str, rule: str | None) -> None:
    world.repo.commit({"a": "1"})
    raw_tree(world, path)
    if path.startswith(".git/"):
        obj, _ = await world.run(world.object(ignore=rule))
        assert obj.status.artifact is not None
        assert world.files(obj.status.artifact) == {}
        return
    error = await world.failure(world.object(ignore=rule))
    assert (error.reason, error.condition) == ("GitOperationFailed", "FetchFailed")
    assert "is refused: it stands for .git" in error.message
    assert list(world.store.scratch.iterdir()) == []
    assert not (world.store.root / "gitrepository").exists()


@pytest.mark.spec("SEC-08")
def test_ordinary_names_are_not_taken_for_git() -> None:
    for name in ("github", ".gitlab", "git", "a.git", ".gitignore", "x~1"):
        assert safe_segments(name) == (name,)
    with pytest.raises(PathRefused):
        safe_segments(".git")


@pytest.mark.spec("SEC-08", "SEC-11")
@pytest.mark.parametrize("name", ["back\\slash", "new\nline", "C:x"])
async def test_a_tree_with_names_that_others_read_differently_is_refused(world: Sources, name: str) -> None:
    world.repo.commit({"a": "1"})
    world.repo.commit({name: "bad"})
    error = await world.failure(world.object())
    assert "is refused: it " in error.message


@pytest.mark.spec("SEC-08")
async def test_filters_attributes_and_hooks_of_a_repository_have_no_effect(world: Sources, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"
    world.repo.commit({
        ".gitattributes": "*.bin filter=lfs\n*.txt text eol=crlf export-ignore\n*.id export-subst ident\n",
        "a.bin": pointer, "b.txt": "one\n", "c.id": "$Id$ $Format:%H$\n",
    })  # fmt: skip
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {
        "a.bin": pointer.encode(), "b.txt": b"one\n", "c.id": b"$Id$ $Format:%H$\n",
    }  # fmt: skip


@pytest.mark.spec("SEC-08")
async def test_a_submodule_is_an_empty_directory(world: Sources) -> None:
    world.repo.commit({"a": "1", ".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = file:///etc\n'})
    world.repo.git("update-index", "--add", "--cacheinfo", f"160000,{world.repo.head()},x")
    world.repo.git("commit", "-q", "-m", "submodule")
    world.repo.push()
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    assert world.files(obj.status.artifact) == {"a": b"1"}
    async with world.trees.open(obj.status.artifact) as tree:
        assert list((tree.directory / "x").iterdir()) == []


@pytest.mark.spec("SEC-04", "SEC-10")
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (UnpackLimits(total_bytes=1000), "more than 1000 bytes"),
        (UnpackLimits(file_bytes=1000), "'zeros' is larger than 1000 bytes"),
        (UnpackLimits(files=3), "more than 3 files"),
        (UnpackLimits(depth=2), "it is deeper than 2 directories"),
    ],
)
async def test_a_tree_that_is_too_large_is_refused(world: Sources, limits: UnpackLimits, message: str) -> None:
    world.repo.commit({"zeros": bytes(2000), "a/b/c": "1", "d": "2"})
    world.remotes._limits = limits
    error = await world.failure(world.object())
    assert error.reason == "GitOperationFailed"
    assert message in error.message
    assert list(world.store.scratch.iterdir()) == []


@pytest.mark.spec("SEC-10")
async def test_a_pack_that_is_damaged_fails_its_own_object_and_leaves_a_clean_mirror(world: Sources) -> None:
    commit = world.repo.commit({"a": os.urandom(5000)})
    oid = world.repo.git("rev-parse", "HEAD:a")
    packed = world.repo.bare / "objects" / oid[:2] / oid[2:]
    packed.chmod(0o600)
    good = packed.read_bytes()
    packed.write_bytes(good[:-20])
    error = await world.failure(world.object())
    assert error.reason == "GitOperationFailed"
    packed.write_bytes(good)
    obj, _ = await world.run(world.object())
    assert obj.status.artifact is not None
    assert obj.status.artifact.revision.endswith(commit)


@pytest.mark.spec("SEC-10", "SEC-05")
async def test_a_list_of_refs_without_end_is_not_read_to_its_end(
    world: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    import headrace.source.git.http

    world.repo.commit({"a": "1"})
    for number in range(20):
        world.repo.git("push", "-q", "origin", f"HEAD:refs/heads/main-{number}")
    monkeypatch.setattr(headrace.source.git.http, "_REFS_BYTES", 500)
    error = await world.failure(world.object())
    assert "is larger than 500 bytes" in error.message
