from __future__ import annotations

import pytest

from headrace.engine.selector import Selector

LABELS = {"sharding.fluxcd.io/key": "one", "tier": "gold"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", True, id="empty"),
        pytest.param("sharding.fluxcd.io/key=one", True, id="equal"),
        pytest.param("sharding.fluxcd.io/key==one", True, id="double equal"),
        pytest.param("sharding.fluxcd.io/key=two", False, id="other value"),
        pytest.param("sharding.fluxcd.io/key!=two", True, id="not equal"),
        pytest.param("missing!=two", True, id="not equal of absent key"),
        pytest.param("sharding.fluxcd.io/key", True, id="exists"),
        pytest.param("!sharding.fluxcd.io/key", False, id="exists not"),
        pytest.param("!missing", True, id="absent"),
        pytest.param("sharding.fluxcd.io/key in (one, two), tier=gold", True, id="in and equal"),
        pytest.param("sharding.fluxcd.io/key notin (one,two)", False, id="not in"),
        pytest.param("missing notin (one)", True, id="not in of absent key"),
        pytest.param("tier=gold,missing", False, id="all must hold"),
    ],
)
def test_selectors_select_as_kubectl_does(text: str, expected: bool) -> None:
    assert Selector(text).matches(LABELS) is expected


@pytest.mark.parametrize("text", ["a b", "=x", "a in", "a in (x", "a>1", ","])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid label selector"):
        Selector(text)


def test_objects_without_labels_match_what_asks_for_none() -> None:
    assert Selector("!shard").matches(None)
