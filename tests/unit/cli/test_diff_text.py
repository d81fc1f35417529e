from typing import Any

import pytest

from headrace.cli.diff_text import ABSENT, FieldChange, encode, field_changes, masked, report

CONTAINERS = [{"name": "main", "image": "a:1"}, {"name": "side", "image": "b:1"}]

CHANGES: list[Any] = [
    pytest.param({"a": 1}, {"a": 1}, [], id="nothing"),
    pytest.param({"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}, [("spec.replicas", 1, 2)], id="a value"),
    pytest.param({"a": 1}, {"a": True}, [("a", 1, True)], id="a value of another type that compares equal"),
    pytest.param({}, {"data": {"k": "v"}}, [("data", ABSENT, {"k": "v"})], id="a field comes"),
    pytest.param({"m": {"x/y.z": "1"}}, {"m": {}}, [("m.[x/y.z]", "1", ABSENT)], id="a field with dots goes"),
    pytest.param(
        {"c": CONTAINERS}, {"c": [CONTAINERS[1], CONTAINERS[0] | {"image": "a:2"}]},
        [("c.main.image", "a:1", "a:2")], id="entries with names, in any order"),
    pytest.param({"c": CONTAINERS}, {"c": CONTAINERS[:1]}, [("c", CONTAINERS[1], ABSENT)], id="an entry goes"),
    pytest.param(
        {"p": [{"port": 80}]}, {"p": [{"port": 81}]}, [("p.0.port", 80, 81)], id="entries without names, by place"),
    pytest.param(
        {"args": ["a", "b"]}, {"args": ["b", "c"]}, [("args", "a", ABSENT), ("args", ABSENT, "c")], id="plain entries"),
    pytest.param({"args": ["a", "b"]}, {"args": ["b", "a"]}, [("args", ["a", "b"], ["b", "a"])], id="another order"),
]


@pytest.mark.parametrize(("before", "after", "changes"), CHANGES)
def test_fields_that_differ_are_told_with_their_paths(before: Any, after: Any, changes: list[Any]) -> None:
    assert [(c.path, c.before, c.after) for c in field_changes(before, after)] == changes


def test_the_report_shows_values_and_groups_what_comes_and_goes() -> None:
    before = {"spec": {"replicas": 1, "old": "x", "text": "a\nb\n"}, "data": {}}
    after = {"spec": {"replicas": 2, "text": "a\nc\n"}, "data": {"k.yaml": "1", "l": "2"}}
    assert report(field_changes(before, after)).split("\n") == [
        "", "spec.replicas", "  ± value change", "    - 1", "    + 2",
        "", "spec", "  - one map entry removed:", "    old: x",
        "", "spec.text", "  ± value change in multiline text", "    @@ -1,2 +1,2 @@", "     a", "    -b", "    +c",
        "", "data", "  + two map entries added:", "    k.yaml: '1'", "    l: '2'", "",
    ]


def test_the_report_of_no_change_is_empty() -> None:
    assert report([]) == ""


def test_list_entries_and_types_are_named() -> None:
    text = report(field_changes({"a": ["x"], "t": 1}, {"a": [], "t": "1"}))
    assert "a\n  - one list entry removed:\n    - x\n" in text
    assert "  ± type change from int to string" in text


def test_a_change_as_data_has_no_value_where_the_field_is_not_there() -> None:
    assert encode(FieldChange("a", after=1)) == {"path": "a", "after": 1}
    assert encode(FieldChange("a", None, 1)) == {"path": "a", "before": None, "after": 1}


def test_a_mask_reaches_every_text_of_a_change() -> None:
    change = masked(FieldChange("a", {"k": ["s3cret", 1]}, "has s3cret in it"), lambda t: t.replace("s3cret", "***"))
    assert change == FieldChange("a", {"k": ["***", 1]}, "has *** in it")
