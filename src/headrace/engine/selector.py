"""Label selectors in the form of kubectl and of Flux's `--watch-label-selector`, evaluated here.

Shards are told apart by them. Own kinds are watched unselected all the same: an object of another shard may be a
dependency, and one that moves to another shard must be seen to leave.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Labels = Mapping[str, str]
Requirement = Callable[[Labels], bool]

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_EQUALS = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_COMMA = re.compile(r",(?![^(]*\))")


class Selector:
    """A parsed selector; empty selects everything. Raises ValueError on what is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._requirements = tuple(_requirement(part.strip()) for part in _COMMA.split(text)) if text.strip() else ()

    def matches(self, labels: Labels | None) -> bool:
        """Whether an object with these labels is selected."""
        return all(requirement(labels or {}) for requirement in self._requirements)


def _requirement(text: str) -> Requirement:
    if match := _SET.fullmatch(text):
        key, operator, values = match.groups()
        wanted = {value.strip() for value in values.split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: labels.get(key) not in wanted
    if match := _EQUALS.fullmatch(text):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.fullmatch(text):
        absent, key = match.groups()
        return lambda labels: (key not in labels) if absent else (key in labels)
    raise ValueError(f"invalid label selector '{text}'")
