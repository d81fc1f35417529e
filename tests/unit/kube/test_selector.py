from __future__ import annotations

import pytest

from headrace.kube.selector import LabelSelector

LABELS = {"app": "web", "tier": "front", "k.example.com/name": "x"}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app=db", False),
        ("app!=db,missing!=x", True),
        ("app!=web", False),
        ("k.example.com/name", True),
        ("missing", False),
        ("!missing", True),
        ("!app", False),
        ("app in (web, db),tier", True),
        ("app in (db)", False),
        ("app notin (db, cache)", True),
        ("missing notin (db)", True),
        ("tier notin (front)", False),
    ],
)
def test_a_selector_selects_as_the_api_server_does(selector: str, selected: bool) -> None:
    assert LabelSelector(selector).matches(LABELS) is selected


def test_an_object_without_labels_can_only_lack_some() -> None:
    assert not LabelSelector("app").matches(None)
    assert LabelSelector("!app").matches(None)


@pytest.mark.parametrize("text", ["a b", "a=b=c", "(", "!", "a in b"])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid label selector"):
        LabelSelector(text)
