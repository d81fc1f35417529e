"""Which files of a directory stay out of its chart: `.helmignore`, which is not quite .gitignore.

The first pattern that matches decides. One with `!` leaves out everything that it does not match, as in Helm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headrace.source.ignore import Glob

HELM_IGNORE = ".helmignore"
_DEFAULTS = ("templates/.?*",)


@dataclass(frozen=True, slots=True)
class _Pattern:
    segments: tuple[Glob, ...]
    by_name: bool
    negated: bool
    only_directories: bool

    def matches(self, path: str) -> bool:
        parts = path.split("/")
        if self.by_name:
            return self.segments[0].matches(parts[-1])
        return len(parts) == len(self.segments) and all(
            glob.matches(part) for glob, part in zip(self.segments, parts, strict=True)
        )


class HelmIgnore:
    """The patterns of a chart. Raises ValueError for one that Helm refuses."""

    def __init__(self, text: str = "") -> None:
        lines = text.removeprefix("\ufeff").splitlines()
        self._patterns = [pattern for line in (*lines, *_DEFAULTS) if (pattern := _parsed(line.strip())) is not None]

    def ignores(self, path: str, *, directory: bool) -> bool:
        """Whether a path relative to the chart is left out."""
        for pattern in self._patterns:
            if pattern.negated:
                if (pattern.only_directories and not directory) or not pattern.matches(path):
                    return True
            elif (directory or not pattern.only_directories) and pattern.matches(path):
                return True
        return False


def _parsed(line: str) -> _Pattern | None:
    if not line or line.startswith("#"):
        return None
    if "**" in line:
        raise ValueError("double-star (**) syntax is not supported")
    negated = line.startswith("!")
    rule = line[1:] if negated else line
    only_directories = rule.endswith("/")
    rule = rule.removesuffix("/")
    return _Pattern(_globs(rule.removeprefix("/").split("/")), "/" not in rule, negated, only_directories)


def _globs(segments: Iterable[str]) -> tuple[Glob, ...]:
    return tuple(Glob(segment) for segment in segments)
