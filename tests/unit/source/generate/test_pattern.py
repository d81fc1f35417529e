"""What directories of a real tree become outputs, under which names, labels and paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.api.artifactgenerator import CopyOperation, OutputArtifact
from headrace.source.generate.errors import PatternRefused
from headrace.source.generate.pattern import Output, expand
from tests.unit.source.generate.trees import write_tree


def artifact(name: str, from_: str = "@git/apps/{app}/**", to: str = "@artifact/{app}/") -> OutputArtifact:
    return OutputArtifact(name=name, copy=(CopyOperation(from_=from_, to=to),))


def expanded(tmp_path: Path, pattern: str, *artifacts: OutputArtifact, paths: tuple[str, ...]) -> list[Output]:
    write_tree(tmp_path, {f"{path}/file": "x" for path in paths})
    return expand(f"@git/{pattern}", artifacts, tmp_path)


@pytest.mark.spec("SRC-AGN-20")
def test_each_directory_becomes_an_output_with_labels_in_lower_case(tmp_path: Path) -> None:
    found = expanded(tmp_path, "apps/{app}", artifact("{app}-bundle"), paths=("apps/Web", "apps/api", "other/x"))
    assert [(one.artifact.name, one.labels) for one in found] == [
        ("web-bundle", {"app": "web"}), ("api-bundle", {"app": "api"}),
    ]  # fmt: skip
    assert found[0].artifact.copy[0] == CopyOperation(from_="@git/apps/Web/**", to="@artifact/Web/")


@pytest.mark.spec("SRC-AGN-20")
def test_all_artifacts_are_rendered_for_each_directory(tmp_path: Path) -> None:
    artifacts = (artifact("{app}-{env}", to="@artifact/"), artifact("{env}.{app}", to="@artifact/"))
    found = expanded(tmp_path, "apps/{app}/envs/{env}", *artifacts, paths=("apps/a/envs/dev", "apps/a/envs/prod"))
    assert [one.artifact.name for one in found] == ["a-dev", "dev.a", "a-prod", "prod.a"]


@pytest.mark.spec("SRC-AGN-20")
def test_a_capture_is_one_segment_or_a_part_of_it_and_takes_what_it_can(tmp_path: Path) -> None:
    found = expanded(
        tmp_path, "x/{app}-v{n}", artifact("{app}.{n}", "@git/x/", "@artifact/"), paths=("x/a-vb-v2/deep", "x/plain")
    )
    assert [one.artifact.name for one in found] == ["a-vb.2"]


def test_a_pattern_that_matches_nothing_gives_no_outputs(tmp_path: Path) -> None:
    assert expanded(tmp_path, "none/{app}", artifact("{app}"), paths=("apps/a",)) == []
    assert expanded(tmp_path, "apps/{app}/", artifact("{app}"), paths=("apps/a",)) == []


def test_a_pattern_of_many_captures_costs_no_more_than_its_length(tmp_path: Path) -> None:
    captures = "".join(f"{{c{n}}}" for n in range(120))
    assert expanded(tmp_path, captures + "!", artifact("{c0}"), paths=("a" * 250,)) == []


@pytest.mark.spec("SRC-AGN-21")
@pytest.mark.parametrize(
    ("pattern", "name", "paths", "message"),
    [
        pytest.param("{app}", "same", ("a", "b"), "both resolve to artifact name 'same'", id="two of a name"),
        pytest.param("{app}", "{app}", ("App", "app"), "'App' and 'app' both resolve", id="equal in lower case"),
        pytest.param("{app}", "{app}", ("a b",), "not a valid Kubernetes label value", id="label value"),
        pytest.param("{app}", "{app}", ("a" * 64,), "not a valid Kubernetes label value", id="label too long"),
        pytest.param("{_app}", "x", ("a",), "not a valid Kubernetes label key", id="label key"),
        pytest.param("{app}", "{app}_", ("a",), "not a valid Kubernetes object name", id="object name"),
        pytest.param("{app}", "{other}", ("a",), "not defined by pathPattern", id="unknown capture"),
        pytest.param("{app}/{app}", "x", ("a/b",), "duplicate capture variable 'app'", id="captured twice"),
        pytest.param("{app", "x", ("a",), "missing its counterpart", id="brace left open"),
        pytest.param("app}", "x", ("a",), "missing its counterpart", id="brace never opened"),
        pytest.param("{}", "x", ("a",), "empty capture variable", id="empty capture"),
        pytest.param("{a-b}", "x", ("a",), "must be a valid capture name", id="no identifier"),
    ],
)
def test_what_cannot_become_names_and_labels_is_refused(
    tmp_path: Path, pattern: str, name: str, paths: tuple[str, ...], message: str
) -> None:
    with pytest.raises(PatternRefused, match=message):
        expanded(tmp_path, pattern, artifact(name, "@git/", "@artifact/"), paths=paths)
