"""Anchored regular expressions in selectors of tenants, matched in a time that no expression can blow up. Pure.

Python's engine backtracks, so that `(a+)+b` over one long name would stop everybody's deliveries. Here an expression
maps a set of positions to a set of positions, each visited once for each part of it. The syntax is what RE2, which
upstream uses, and selectors have in common: literals, `.`, classes, groups, `|`, `*`, `+`, `?`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

LONGEST = 512
"""Characters of an expression; names of objects have 253 at most."""

DEEPEST = 16
"""Groups within groups."""

_Node = Callable[[str, set[int]], set[int]]
"""From the positions in a text where a part of the expression may begin to those where it may end."""


class Pattern:
    """An expression that must match a whole text. Raises ValueError on what is no expression or not supported."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > LONGEST:
            raise ValueError(f"a pattern may have {LONGEST} characters")
        parser = _Parser(text.removeprefix("^"))
        self._node = parser.whole()

    def matches(self, text: str) -> bool:
        """Whether the expression matches the whole text."""
        return len(text) in self._node(text, {0})


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> _Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise self._error("unexpected ')'")
        return node

    def _alternatives(self) -> _Node:
        options = [self._sequence()]
        while self._takes("|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else _any_of(options)

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            if self._takes("$"):
                parts.append(_at_end)
            else:
                parts.append(self._repeated(self._atom()))
        return _all_of(parts)

    def _repeated(self, node: _Node) -> _Node:
        if self._peek() == "{":
            raise self._error("repetition by number is not supported")
        if self._takes("*"):
            node = _closure(node)
        elif self._takes("+"):
            node = _all_of([node, _closure(node)])
        elif self._takes("?"):
            node = _optional(node)
        else:
            return node
        self._takes("?")  # the shortest match is a match too
        if self._peek() in ("*", "+", "?"):
            raise self._error("nothing to repeat")
        return node

    def _atom(self) -> _Node:
        character = self._text[self._at]
        self._at += 1
        match character:
            case "(":
                return self._group()
            case "[":
                return self._class()
            case "\\":
                return self._escape()
            case "*" | "+" | "?" | "{" | "^":
                raise self._error(f"unexpected '{character}'")
            case ".":
                return _one(lambda c: c != "\n")
        return _one(lambda c: c == character)

    def _group(self) -> _Node:
        if self._takes("?") and not self._takes(":"):
            raise self._error("a group with flags or a name is not supported")
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error("groups are nested too deeply")
        node = self._alternatives()
        self._depth -= 1
        if not self._takes(")"):
            raise self._error("missing ')'")
        return node

    def _class(self) -> _Node:
        found = re.compile(r"\^?\]?(?:[^\]\\\[]|\\.)*\]").match(self._text, self._at)
        if found is None:
            raise self._error("a class of characters is not closed or not supported")
        self._at = found.end()
        return self._by_expression("[" + found[0])

    def _escape(self) -> _Node:
        following = self._text[self._at : self._at + 1]
        self._at += 1
        if following in "dDwWsS" and following:
            return self._by_expression("\\" + following)
        if not following or following.isalnum():
            raise self._error(f"'\\{following}' is not supported")
        return _one(lambda c: c == following)

    def _by_expression(self, expression: str) -> _Node:
        """A class of characters; over one character there is nothing to track back to."""
        try:
            compiled = re.compile(expression, re.ASCII)
        except re.error as error:
            raise self._error(str(error)) from None
        return _one(lambda c: compiled.fullmatch(c) is not None)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _takes(self, character: str) -> bool:
        taken = self._peek() == character
        self._at += taken
        return taken

    def _error(self, what: str) -> ValueError:
        return ValueError(f"invalid pattern '{self._text}': {what} at {self._at}")


def _one(accepts: Callable[[str], bool]) -> _Node:
    return lambda text, starts: {at + 1 for at in starts if at < len(text) and accepts(text[at])}


def _at_end(text: str, starts: set[int]) -> set[int]:
    return starts & {len(text)}


def _all_of(parts: list[_Node]) -> _Node:
    def node(text: str, starts: set[int]) -> set[int]:
        for part in parts:
            starts = part(text, starts)
        return starts

    return node


def _any_of(options: list[_Node]) -> _Node:
    return lambda text, starts: set().union(*(option(text, starts) for option in options))


def _optional(node: _Node) -> _Node:
    return lambda text, starts: starts | node(text, starts)


def _closure(node: _Node) -> _Node:
    def repeated(text: str, starts: set[int]) -> set[int]:
        reached, fresh = set(starts), set(starts)
        while fresh:
            fresh = node(text, fresh) - reached
            reached |= fresh
        return reached

    return repeated
