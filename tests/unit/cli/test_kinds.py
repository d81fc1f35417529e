"""kinds: the words by which commands name kinds."""

from __future__ import annotations

import pytest

from headrace.api.kinds import KINDS
from headrace.cli.exits import USAGE, CommandError
from headrace.cli.kinds import parse_target, parse_targets

ALL = [(info.kind, "") for info in KINDS.values()]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        pytest.param(["ks"], [("Kustomization", "")], id="short name"),
        pytest.param(["kustomizations"], [("Kustomization", "")], id="plural"),
        pytest.param(["Kustomization", "apps"], [("Kustomization", "apps")], id="kind and name"),
        pytest.param(["ks/apps"], [("Kustomization", "apps")], id="kind slash name"),
        pytest.param(["source", "git"], [("GitRepository", "")], id="source git"),
        pytest.param(["sources", "git", "flux-system"], [("GitRepository", "flux-system")], id="source git name"),
        pytest.param(["source", "git/a"], [("GitRepository", "a")], id="source git slash name"),
        pytest.param(["gitrepo", "ks"], [("GitRepository", ""), ("Kustomization", "")], id="two kinds"),
        pytest.param(["gitrepo", "a", "ks", "b"], [("GitRepository", "a"), ("Kustomization", "b")], id="two of each"),
        pytest.param(["ks", "a", "b"], [("Kustomization", "a"), ("Kustomization", "b")], id="two names"),
        pytest.param([], ALL, id="nothing is everything"),
        pytest.param(["all"], ALL, id="all"),
        pytest.param(
            ["kustomizations.kustomize.toolkit.fluxcd.io", "a"], [("Kustomization", "a")], id="plural with group"
        ),
    ],
)
def test_words_name_kinds_as_flux_does(words: list[str], wanted: list[tuple[str, str]]) -> None:
    assert [(target.info.kind, target.name) for target in parse_targets(words)] == wanted


@pytest.mark.parametrize("words", [["pods"], ["pods/a"], ["source", "svn"]])
def test_an_unknown_kind_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(CommandError) as raised:
        parse_targets(words)
    assert raised.value.code == USAGE


@pytest.mark.parametrize("words", [[], ["ks"], ["ks", "a", "b"], ["all"]])
def test_one_target_wants_exactly_one_name(words: list[str]) -> None:
    with pytest.raises(CommandError):
        parse_target(words)
