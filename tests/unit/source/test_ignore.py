"""The subset of .gitignore that decides what is in an artifact."""

from __future__ import annotations

import time

import pytest

from headrace.source.ignore import Glob, Ignore


def excluded(path: str, custom: str | None = None, files: dict[str, str] | None = None) -> bool:
    """Whether `path` (with a slash at its end: a directory) is left out; `files` are ignore files by directory."""
    parsed = [(tuple(part for part in folder.split("/") if part), text) for folder, text in (files or {}).items()]
    segments = tuple(part for part in path.split("/") if part)
    return Ignore(parsed, custom).excludes(segments, path.endswith("/"))


@pytest.mark.spec("SRC-IGN-01")
@pytest.mark.parametrize(
    "path",
    [
        ".git/", ".gitignore", "a/.gitmodules", ".gitattributes", "a/b.jpg", "x.jpeg", "x.gif", "x.png", "x.wmv",
        "x.flv", "x.tar.gz", "x.zip", ".github/", ".github/workflows/x.yml", ".circleci/", ".travis.yml",
        ".gitlab-ci.yml", "appveyor.yml", ".drone.yml", "cloudbuild.yaml", "codeship-services.yml",
        "codeship-steps.yml", ".goreleaser.yml", "a/b/.sops.yaml", "a/.flux.yaml",
    ],
)  # fmt: skip
def test_without_rules_the_defaults_apply(path: str) -> None:
    assert excluded(path)
    assert not excluded("deploy/app.yaml")


@pytest.mark.spec("SRC-IGN-02", "SRC-IGN-03")
@pytest.mark.parametrize("rules", [{"files": {"": "x"}}, {"custom": "x"}], ids=[".sourceignore", "spec.ignore"])
def test_one_rule_replaces_all_defaults_but_those_of_version_control(rules: dict[str, object]) -> None:
    assert not excluded("a.png", **rules)  # type: ignore[arg-type]
    assert not excluded(".github/y", **rules)  # type: ignore[arg-type]
    assert excluded(".gitignore", **rules)  # type: ignore[arg-type]
    assert excluded("x", **rules)  # type: ignore[arg-type]


@pytest.mark.spec("SRC-IGN-04")
@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "  \n#x\n"])
def test_an_ignore_without_rules_keeps_the_defaults(text: str) -> None:
    assert excluded("a.png", text)
    assert excluded("a.png", None, {"": text})


@pytest.mark.spec("SRC-IGN-05")
def test_the_spec_has_the_last_word() -> None:
    assert not excluded("a.txt", "!a.txt", {"": "*.txt"})
    assert excluded("a.txt", "*.txt", {"": "!a.txt"})


@pytest.mark.spec("SRC-IGN-06")
def test_a_nested_ignore_file_speaks_for_its_directory_only() -> None:
    files = {"x/y": "a\n/b\n"}
    assert excluded("x/y/a", files=files)
    assert excluded("x/y/z/a", files=files)
    assert excluded("x/y/b", files=files)
    assert not excluded("x/y/z/b", files=files)
    assert not excluded("a", files=files)
    assert not excluded("x/a", files=files)


@pytest.mark.spec("SRC-IGN-07")
def test_everything_but_one_tree_can_be_left_out() -> None:
    rules = "/*\n!/deploy\n"
    for path in ("deploy/", "deploy/a.yaml", "deploy/x/b.yaml"):
        assert not excluded(path, rules)
    for path in ("other/", "a.yaml"):
        assert excluded(path, rules)


def test_a_file_below_an_excluded_directory_can_be_taken_in_again() -> None:
    assert not excluded("a/b/c", "a/\n!a/b/c")
    assert excluded("a/b/d", "a/\n!a/b/c")


@pytest.mark.spec("SRC-IGN-08")
def test_a_pattern_without_a_slash_matches_at_any_depth() -> None:
    for path in ("x", "a/x", "a/b/x", "x/deep/inside"):
        assert excluded(path, "x")
    assert not excluded("xx", "x")


@pytest.mark.spec("SRC-IGN-09")
def test_a_pattern_for_directories_spares_a_file_of_that_name() -> None:
    for rule in ("build/", "/a/build/"):
        assert excluded("a/build/", rule)
        assert not excluded("a/build", rule)
    assert excluded("a/build/x", "build/")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("a/b", "a/b", True), ("a/b", "x/a/b", False), ("a/b", "a/b/c", True), ("**/b", "a/x/b", True),
        ("**/b", "b", True), ("a/**/b", "a/x/y/b", True), ("a/**/b", "a/b", True), ("a/**", "a/x", True),
        ("a**/b", "ax/b", False), ("*.txt", "a.txt", True), ("a?c", "abc", True), ("a?c", "ac", False),
        ("[a-c]x", "bx", True), ("[^a-c]x", "bx", False), ("[!a]", "!", True), (r"\!x", "!x", True),
        ("a/*/c", "a/b/c", True), ("a/*/c", "a/b/b/c", False), ("/x", "x", True), ("/x", "a/x", False),
        ("x  ", "x", True), ("[", "[", False),
    ],
)  # fmt: skip
def test_patterns_match_as_in_flux(pattern: str, path: str, matches: bool) -> None:
    assert excluded(path, pattern) is matches


def test_a_pattern_made_to_be_slow_is_not() -> None:
    started = time.process_time()
    assert not Glob("*a" * 100 + "b").matches("a" * 255)
    assert not Glob("*a*" * 80 + "b").matches("a" * 255)
    assert time.process_time() - started < 5, "exponential time would not end at all"
