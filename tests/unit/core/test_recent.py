"""The map that forgets."""

from __future__ import annotations

from headrace.core.recent import Recent


def test_what_was_not_used_for_the_longest_time_gives_way() -> None:
    known: Recent[str, int] = Recent(2)
    known.put("a", 1)
    known.put("b", 2)
    assert known.get("a") == 1
    known.put("c", 3)
    assert [known.get(key) for key in "abc"] == [1, None, 3]
    known.put("a", 4)
    known.put("d", 5)
    assert [known.get(key) for key in "acd"] == [4, None, 5]
    assert len(known) == 2


def test_keys_are_dropped_alone_and_together() -> None:
    known: Recent[str, bool] = Recent(10)
    for key in ("a1", "a2", "b1"):
        known.put(key, False)
    known.drop("missing")
    known.drop("a1")
    known.drop_where(lambda key: key.startswith("b"))
    assert [known.get(key) for key in ("a1", "a2", "b1")] == [None, False, None]
