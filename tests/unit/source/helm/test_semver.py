"""Versions of charts: what is one, their order, and metadata put on them."""

from __future__ import annotations

import itertools

import pytest

from headrace.source.helm import semver

SORTED = ("0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
          "1.0.0", "v1.0.1", "1.1", "2")  # fmt: skip


@pytest.mark.spec("SEC-45")
def test_the_order_is_total_and_that_of_the_specification() -> None:
    for (i, left), (j, right) in itertools.product(enumerate(SORTED), repeat=2):
        a, b = semver.parse(left).order, semver.parse(right).order
        assert (a < b, a == b, a > b) == (i < j, i == j, i > j), (left, right)


@pytest.mark.spec("SEC-45")
@pytest.mark.parametrize(("left", "right"), [("1.0.0+a", "1.0.0+b"), ("v1.0.0", "1.0.0"), ("1", "1.0.0")])
def test_metadata_prefix_and_missing_parts_make_no_difference(left: str, right: str) -> None:
    assert semver.parse(left).order == semver.parse(right).order


@pytest.mark.spec("SEC-45")
@pytest.mark.parametrize("text", ["", "a", "1.2.3.4", "1.0.0-01", "1.0.0+", "1.0.0-", "9" * 30, "1.0.0-" + "a" * 300])
def test_what_is_no_version_is_refused(text: str) -> None:
    assert not semver.is_valid(text)


@pytest.mark.parametrize(
    ("text", "metadata", "made"),
    [("1.0.0", "3", "1.0.0+3"), ("v1.2", "abc.4", "1.2.0+abc.4"), ("1.0.0-rc.1+old", "new", "1.0.0-rc.1+new")],
)
def test_metadata_replaces_what_was_there(text: str, metadata: str, made: str) -> None:
    assert semver.with_metadata(text, metadata) == made


@pytest.mark.parametrize(("text", "exact"), [("1.2.3", True), ("v1.2.3-rc.1+x", True), ("1.2", False), ("1.x", False)])
def test_an_exact_version_has_three_parts(text: str, exact: bool) -> None:
    assert semver.is_exact(text) is exact
