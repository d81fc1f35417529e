"""Label selectors in their string form, evaluated here for objects that did not come through a watch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_EQUALITY = re.compile(r"([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)")

_Requirement = Callable[[Mapping[str, str]], bool]


class LabelSelector:
    """`a=b,c!=d,e,!f,g in (h,i),j notin (k)`. Raises ValueError on what is no selector."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._requirements = [_requirement(part) for part in _split(text)]

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether an object with these labels is selected; the empty selector selects all."""
        labels = labels or {}
        return all(requirement(labels) for requirement in self._requirements)


def _split(text: str) -> list[str]:
    """The requirements, split at commas outside of parentheses."""
    return [part for part in (raw.strip() for raw in re.split(r",(?![^(]*\))", text)) if part]


def _requirement(text: str) -> _Requirement:
    if found := _SET.fullmatch(text):
        key, values = found[1], {value.strip() for value in found[3].split(",")}
        if found[2] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUALITY.fullmatch(text):
        key, value = found[1], found[3]
        if found[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    key = text.removeprefix("!").strip()
    if not key or re.search(r"[\s=!()]", key):
        raise ValueError(f"invalid label selector '{text}'")
    if text.startswith("!"):
        return lambda labels: key not in labels
    return lambda labels: key in labels
