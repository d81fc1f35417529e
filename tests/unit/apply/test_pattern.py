import re

import pytest

from headrace.apply.pattern import Pattern

TEXTS = ["", "a", "aa", "ab", "abc", "frontend", "frontend-1", "my-frontend", "a.b", "a-b", "x1", "b\n"]
PATTERNS = ["", "a", "a*", "a+b?", "(a|b)*c", "front.*", ".*end", ".*-frontend|a", "[a-c]+", "[^a]*", r"\w+-\d",
            r"a\.b", "(?:ab)+c", "^a$", "a.b", "((a*)*)*b", "(front|back)end(-[0-9])?", "[]a]", r"[\w-]+", "a+?b", "()",
            "|a"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_what_it_means_elsewhere_and_is_anchored(pattern: str) -> None:
    expected = [text for text in TEXTS if re.fullmatch(pattern, text, re.ASCII)]
    assert [text for text in TEXTS if Pattern(pattern).matches(text)] == expected


@pytest.mark.parametrize("pattern", ["(", ")", "[a", "*a", "a**", "a{2}", r"\b", "\\", "(?i)a", "[[:alpha:]]", "a^",
                                     "(" * 20 + ")" * 20, "a" * 600, "[b-a]"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "(.*a)*b", "((a*)*)*b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """With an engine that tracks back, these would not end before the suite is stopped."""
    assert not Pattern(pattern).matches("a" * 253)
