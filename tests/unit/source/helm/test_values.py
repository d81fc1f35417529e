"""Values of charts: merged as Helm does, and written so that every reader of YAML understands the same."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from headrace.source.helm.values import to_yaml
from headrace.source.values import merged_values


def test_maps_are_merged_and_everything_else_is_replaced() -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"d": 1}}
    above = {"a": {"y": [3], "z": None}, "b": {"e": 1}, "c": None}
    assert merged_values(below, above) == {"a": {"x": 1, "y": [3], "z": None}, "b": {"e": 1}, "c": None}
    assert below["a"] == {"x": 1, "y": [1, 2]}


@pytest.mark.parametrize(
    "values",
    [
        {"text": "yes", "number": 1, "float": 1.5, "none": None, "bool": True, "date": "2020-01-01", "octal": "0o7"},
        {"y": 1, "no": 2, "null": 3, "12": 4, "a b": 5, "": 6, "a: b": 7, "#": 8},
        {"list": [1, "a", [], {}, [1, [2]], {"a": {"b": [1]}, "c": "d"}], "empty": {}, "none": []},
        {"odd": "a\u0085b\u2028c\x7f\"\\ \n\ttab", "emoji": "\U0001f600", "colon": "a: b # c"},
        {"large": 12345678901234567890, "exponent": "1e3"},
    ],
)
def test_what_is_written_is_read_as_the_same(values: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml(values)) == values


def test_nothing_is_an_empty_file() -> None:
    assert to_yaml({}) == b""
