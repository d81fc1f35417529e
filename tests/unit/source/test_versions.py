"""Semver tags, by the library that Flux uses."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headrace.source.git.refs import RefKind, RefTarget, WantedRef, resolve
from headrace.source.git.versions import toolbox_versions
from headrace.source.helm.calls import version_matcher
from headrace.source.oci.errors import OciError
from headrace.source.oci.versions import toolbox_tags
from headrace.toolbox import Toolbox
from headrace.toolbox.binary import ToolboxMissing, find_toolbox


@pytest.fixture
async def toolbox() -> AsyncIterator[Toolbox]:
    try:
        binary = find_toolbox()
    except ToolboxMissing as missing:
        pytest.skip(str(missing))
    async with Toolbox(binary, size=1) as pool:
        yield pool


async def chosen(toolbox: Toolbox, wanted: str, *tags: str) -> list[str]:
    """The revisions that are found among tags."""
    refs = {f"refs/tags/{tag}": RefTarget("a" * 40) for tag in tags}
    found = await resolve(WantedRef(RefKind.SEMVER, wanted), refs, toolbox_versions(toolbox))
    return [one.revision.partition("@")[0] for one in found]


@pytest.mark.spec("SRC-GIT-04", "SRC-GIT-06")
async def test_the_highest_version_of_three_parts_is_taken(toolbox: Toolbox) -> None:
    assert await chosen(toolbox, ">=1.0.0", "v1.9.0", "v1.10.0", "2.0", "v3", "latest", "1.10.0-rc.1") == ["v1.10.0"]


@pytest.mark.spec("SRC-GIT-05")
async def test_a_prerelease_needs_a_range_that_names_one(toolbox: Toolbox) -> None:
    assert await chosen(toolbox, ">=1.0.0", "1.0.0", "1.1.0-rc.1") == ["1.0.0"]
    assert await chosen(toolbox, ">=1.0.0-0", "1.0.0", "1.1.0-rc.1") == ["1.1.0-rc.1"]


@pytest.mark.spec("SRC-GIT-07")
async def test_versions_that_differ_in_build_metadata_are_equal(toolbox: Toolbox) -> None:
    assert sorted(await chosen(toolbox, "1.x", "1.0.0+a", "v1.0.0+b", "0.9.0")) == ["1.0.0+a", "v1.0.0+b"]


async def test_a_range_that_is_none_is_said_to_be_none(toolbox: Toolbox) -> None:
    with pytest.raises(ValueError, match="semver"):
        await chosen(toolbox, "not a range", "1.0.0")


async def test_each_kind_says_in_its_own_words_that_a_range_is_none(toolbox: Toolbox) -> None:
    with pytest.raises(ValueError, match="constraint") as of_charts:
        await version_matcher(toolbox)("not a range", ["1.0.0"])
    with pytest.raises(ValueError, match="semver parse error: ") as of_git:
        await toolbox_versions(toolbox)("not a range", ["1.0.0"])
    with pytest.raises(OciError) as of_registries:
        await toolbox_tags(toolbox)("not a range", ["1.0.0"], "")

    assert str(of_git.value) == f"semver parse error: {of_charts.value}"
    assert str(of_registries.value) == str(of_charts.value)


async def test_only_charts_and_git_leave_out_versions_of_less_than_three_parts(toolbox: Toolbox) -> None:
    tags = ["1.0.0", "2.0", "1.5.0"]

    assert await version_matcher(toolbox)(">=1", tags) == ["1.5.0", "1.0.0"]
    assert await toolbox_versions(toolbox)(">=1", tags) == ["1.5.0", "1.0.0"]
    assert list(await toolbox_tags(toolbox)(">=1", tags, "")) == ["2.0", "1.5.0", "1.0.0"]
