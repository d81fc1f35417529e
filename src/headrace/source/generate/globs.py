"""Glob patterns over paths: those that take one level for each segment, and those in which `**` takes any number.

Matching never takes more than pattern times path steps, whatever users write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from headrace.source.generate.errors import CopyRefused
from headrace.source.generate.files import Kind, Segments, TreeReader
from headrace.source.ignore import Glob

GLOB_CHARACTERS = frozenset("*?[]")

_ALTERNATIVES = 256
"""Patterns that one with braces may stand for: `{a,b}{a,b}...` doubles with each pair."""


def is_glob(path: str) -> bool:
    """Whether a path is a pattern (SRC-AGN-12)."""
    return not GLOB_CHARACTERS.isdisjoint(path)


def literal_prefix(pattern: str) -> Segments:
    """The segments before the first that is a pattern."""
    prefix: list[str] = []
    for segment in pattern.split("/"):
        if is_glob(segment):
            break
        if segment not in ("", "."):
            prefix.append(segment)
    return tuple(prefix)


def matching_level_by_level(pattern: str, reader: TreeReader) -> list[tuple[Segments, Kind]]:
    """What matches a pattern each of whose segments stands for one name, `**` as well. In lexical order.

    Raises CopyRefused for a malformed pattern.
    """
    names = pattern.split("/")
    globs = [_glob(name, pattern) for name in names]
    if any(name in ("", ".", "..") for name in names):
        return []
    found: list[tuple[Segments, Kind]] = [((), Kind.DIRECTORY)]
    for glob in globs:
        found = [
            ((*path, name), kind)
            for path, kind_above in found
            if kind_above is Kind.DIRECTORY
            for name, kind in reader.children(path)
            if glob.matches(name)
        ]
    return found


class DeepPattern:
    """A pattern in which `**` stands for any number of directories, none included, and `{a,b}` for alternatives.

    Raises CopyRefused when it is malformed.
    """

    def __init__(self, text: str) -> None:
        self.has_separator = "/" in text
        self._alternatives = [
            tuple(None if name == "**" else _glob(_negations(name), text) for name in each.split("/"))
            for each in _alternatives(text)
        ]

    def matches(self, path: Sequence[str]) -> bool:
        """Whether the whole path matches."""
        return any(_matches(segments, path) for segments in self._alternatives)


def matching_deeply(pattern: str, reader: TreeReader) -> list[tuple[Segments, Kind]]:
    """What matches a DeepPattern, in the order of the tree."""
    deep, start = DeepPattern(pattern), literal_prefix(pattern)
    if reader.kind(start) is not Kind.DIRECTORY:
        return []
    return [(path, kind) for path, kind in reader.walk(start) if deep.matches(path)]


class Exclusions:
    """What a copy operation leaves out (SRC-AGN-13): by the path in the source, by the path below `base`, and, for
    patterns without a slash, by name alone."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = []
        for pattern in patterns:
            try:
                self._patterns.append(DeepPattern(pattern))
            except CopyRefused as error:
                raise CopyRefused(f"invalid exclude pattern '{pattern}'") from error

    def exclude(self, path: Segments, base: Segments = ()) -> bool:
        """Whether a path is left out by an operation that starts at `base`."""
        if not self._patterns:
            return False
        if self._any(path):
            return True
        return bool(base) and len(path) > len(base) and path[: len(base)] == base and self._any(path[len(base) :])

    def _any(self, path: Segments) -> bool:
        return any(
            pattern.matches(path) or (not pattern.has_separator and pattern.matches(path[-1:]))
            for pattern in self._patterns
        )


def _glob(name: str, pattern: str) -> Glob:
    glob = Glob(name)
    if glob.malformed:
        raise CopyRefused(f"invalid glob pattern '{pattern}'")
    return glob


def _matches(pattern: Sequence[Glob | None], path: Sequence[str]) -> bool:
    """Positions of the path that the pattern so far can end at, from one segment to the next."""
    ends = {0}
    for glob in pattern:
        if glob is None:
            ends = set(range(min(ends), len(path) + 1))
        else:
            ends = {end + 1 for end in ends if end < len(path) and glob.matches(path[end])}
        if not ends:
            return False
    return len(path) in ends


def _negations(name: str) -> str:
    """`[!a]` as `[^a]`."""
    return "".join("[^" if part == "[!" else part for part in _tokens(name))


def _tokens(text: str) -> Iterator[str]:
    """Characters, with escapes and the beginning of a class as one token each."""
    position, in_class = 0, False
    while position < len(text):
        width = 2 if text[position] == "\\" or (not in_class and text[position : position + 2] in ("[!", "[^")) else 1
        part = text[position : position + width]
        in_class = part[0] == "[" or (in_class and part != "]")
        yield part
        position += width


def _alternatives(text: str) -> list[str]:
    """The patterns that one with braces stands for. Raises CopyRefused."""
    done: list[str] = []
    waiting = [text]
    while waiting:
        if len(done) + len(waiting) > _ALTERNATIVES:
            raise CopyRefused(f"glob pattern '{text}' stands for more than {_ALTERNATIVES} patterns")
        each = waiting.pop()
        expanded = _first_brace(each, text)
        if expanded is None:
            done.append(each)
        else:
            waiting += expanded
    return done


def _first_brace(text: str, whole: str) -> list[str] | None:
    """What the first `{...}` makes of a pattern; None without one."""
    before: list[str] = []
    options: list[list[str]] = [[]]
    depth, in_class, position = 0, False, 0
    for part in _tokens(text):
        position += len(part)
        brace = "" if in_class else part
        in_class = part[0] == "[" or (in_class and part != "]")
        depth += (brace == "{") - (brace == "}")
        if depth < 0:
            raise CopyRefused(f"invalid glob pattern '{whole}'")
        if brace == "}" and depth == 0:
            return ["".join(before) + "".join(option) + text[position:] for option in options]
        if brace == "{" and depth == 1:
            continue
        if brace == "," and depth == 1:
            options.append([])
        else:
            (options[-1] if depth else before).append(part)
    if depth:
        raise CopyRefused(f"invalid glob pattern '{whole}'")
    return None
