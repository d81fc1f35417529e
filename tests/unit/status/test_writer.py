"""The pure parts of the writer; what it writes is tested against a real API server in tests/cluster/status."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.status.writer import merge_patch


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        pytest.param({"a": 1}, {"a": 1}, {}, id="nothing"),
        pytest.param({"a": 1}, {"a": 2}, {"a": 2}, id="value"),
        pytest.param({}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="new object"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}, id="inner field removed"),
        pytest.param({"a": {"b": 1}}, {"a": None}, {"a": None}, id="field removed"),
        pytest.param({"a": None}, {"a": None}, {}, id="absent stays absent"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, {"a": [1]}, id="lists are replaced"),
        pytest.param({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}, {}, id="deeply the same"),
    ],
)
def test_a_merge_patch_holds_only_what_differs(before: Any, after: Any, patch: Any) -> None:
    assert merge_patch(before, after) == patch
