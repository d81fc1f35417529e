"""Which files stay out of an artifact: the subset of .gitignore that Flux reads (sources.md section 1, SRC-IGN).

The last pattern that matches wins. Unlike git, a file below an excluded directory can be taken in again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IGNORE_FILE = ".sourceignore"
VCS_RULES = (".git/", ".gitignore", ".gitmodules", ".gitattributes")
DEFAULT_RULES = (
    *VCS_RULES,
    *("*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip"),
    *(".github/", ".circleci/", ".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".drone.yml", "cloudbuild.yaml"),
    *("codeship-services.yml", "codeship-steps.yml"),
    *("**/.goreleaser.yml", "**/.sops.yaml", "**/.flux.yaml"),
)

_Token = tuple[frozenset[str], tuple[tuple[str, str], ...], bool] | None
"""One position of a glob: None is `*`; else single characters, ranges, and whether they are excluded."""


class Glob:
    """A pattern for one path segment: `*`, `?`, `[a-z]`, `[^a]` and `\\` as Go's path.Match; linear in the name."""

    def __init__(self, text: str) -> None:
        self.literal = not any(char in "*?[\\" for char in text)
        self._text = text
        self._suffix = text[1:] if text[:1] == "*" and not any(char in "*?[\\" for char in text[1:]) else None
        self._tokens = None if self.literal or self._suffix is not None else _tokens(text)

    @property
    def malformed(self) -> bool:
        """Whether the pattern matches nothing because it is none."""
        return not self.literal and self._suffix is None and self._tokens is None

    def matches(self, name: str) -> bool:
        """Whether the whole of `name` matches; never when the pattern is malformed."""
        if self.literal:
            return name == self._text
        if self._suffix is not None:
            return name.endswith(self._suffix)
        return self._tokens is not None and _matches(self._tokens, name)


def _tokens(text: str) -> list[_Token] | None:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "*":
            if not tokens or tokens[-1] is not None:
                tokens.append(None)
        elif char == "?":
            tokens.append((frozenset(), (), True))
        elif char == "[":
            parsed = _character_class(text, position)
            if parsed is None:
                return None
            token, position = parsed
            tokens.append(token)
        else:
            if char == "\\":
                if position == len(text):
                    return None
                char, position = text[position], position + 1
            tokens.append((frozenset(char), (), False))
    return tokens


def _character_class(text: str, position: int) -> tuple[_Token, int] | None:
    """The class that begins after `[`, and where it ends; None when it is malformed."""
    negated = text[position : position + 1] == "^"
    position += negated
    ranges: list[tuple[str, str]] = []
    while position < len(text) and (text[position] != "]" or not ranges):
        low, position = _class_character(text, position)
        high = low
        if text[position : position + 1] == "-":
            high, position = _class_character(text, position + 1)
        if not low or not high:
            return None
        ranges.append((low, high))
    if text[position : position + 1] != "]":
        return None
    return (frozenset(), tuple(ranges), negated), position + 1


def _class_character(text: str, position: int) -> tuple[str, int]:
    """One character of a class; empty when there is none or it needs escaping."""
    char = text[position : position + 1]
    if char == "\\":
        return text[position + 1 : position + 2], position + 2
    return ("" if char in "-]" else char), position + 1


def _accepts(token: _Token, char: str) -> bool:
    assert token is not None
    single, ranges, negated = token
    return (char in single or any(low <= char <= high for low, high in ranges)) != negated


def _matches(tokens: Sequence[_Token], name: str) -> bool:
    """Greedy with one point of return, the last `*`: never more than tokens times characters steps."""
    at = star = 0
    position = resume = 0
    after_star = False
    while position < len(name):
        if at < len(tokens) and tokens[at] is None:
            star, resume, after_star = at, position, True
            at += 1
        elif at < len(tokens) and _accepts(tokens[at], name[position]):
            at, position = at + 1, position + 1
        elif after_star:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(token is None for token in tokens[at:])


@dataclass(slots=True)
class Rule:
    """One line of an ignore file that stands in the directory `domain`."""

    domain: tuple[str, ...]
    include: bool
    only_directories: bool
    globs: tuple[tuple[str, Glob], ...]
    anchored: bool

    def applies(self, path: tuple[str, ...], is_directory: bool) -> bool:
        """Whether the path, relative to the root of the tree, is meant by this rule."""
        if len(path) <= len(self.domain) or path[: len(self.domain)] != self.domain:
            return False
        inner = path[len(self.domain) :]
        if self.anchored:
            return self._applies_from_root(inner, is_directory)
        last = len(inner) - 1
        for index, name in enumerate(inner):
            if self.globs[0][1].matches(name):
                return not (self.only_directories and not is_directory and index == last)
        return False

    def _applies_from_root(self, path: tuple[str, ...], is_directory: bool) -> bool:
        """Segment by segment; `**` stands for any number of directories, and only as a whole segment."""
        position, matched, skipping = 0, False, False
        last = len(self.globs) - 1
        for index, (text, glob) in enumerate(self.globs):
            if text == "":
                skipping = False
            elif text == "**":
                if index == last:
                    break
                skipping = True
            elif "**" in text or position == len(path):
                return False
            elif skipping:
                skipping = False
                found = next((at for at in range(position, len(path)) if glob.matches(path[at])), None)
                matched = found is not None
                position = len(path) if found is None else found + 1
            else:
                if not glob.matches(path[position]):
                    return False
                position += 1
                matched = position < len(path) or index == last
        return matched and not (self.only_directories and not is_directory and position == len(path))


def read_rules(text: str, domain: tuple[str, ...] = ()) -> list[Rule]:
    """The rules of an ignore file; empty lines and comments are none."""
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return [_rule(line, domain) for line in lines if line.strip() and not line.startswith("#")]


def _rule(line: str, domain: tuple[str, ...]) -> Rule:
    include = line.startswith("!")
    line = line[1:] if include else line
    if not line.endswith("\\ "):
        line = line.rstrip(" ")
    only_directories = line.endswith("/")
    line = line[:-1] if only_directories else line
    globs = tuple((segment, Glob(segment)) for segment in line.split("/"))
    return Rule(domain, include, only_directories, globs, "/" in line)


class Ignore:
    """The rules of one tree: those of its `.sourceignore` files, then those of `spec.ignore`.

    Any rule at all replaces the defaults by the short list of what belongs to version control (SRC-IGN-01..05). With
    `defaults` False there is neither: in buckets everything counts (SRC-BKT-05).
    """

    def __init__(
        self, files: Iterable[tuple[tuple[str, ...], str]], custom: str | None, *, defaults: bool = True
    ) -> None:
        rules = [rule for domain, text in files for rule in read_rules(text, domain)]
        rules += read_rules(custom or "")
        base = () if not defaults else VCS_RULES if rules else DEFAULT_RULES
        self._rules = [*read_rules("\n".join(base)), *rules][::-1]
        self._naming: dict[str, frozenset[int]] = {}

    def excludes(self, path: tuple[str, ...], is_directory: bool) -> bool:
        """Whether the last rule that applies to the path excludes it."""
        named = frozenset[int]().union(*map(self._rules_naming, path))
        for number, rule in enumerate(self._rules):
            if (rule.anchored or number in named) and rule.applies(path, is_directory):
                return not rule.include
        return False

    def _rules_naming(self, name: str) -> frozenset[int]:
        """Those of the rules without a path that mean this name. Few names occur in many paths, so it is kept."""
        known = self._naming.get(name)
        if known is None:
            known = self._naming[name] = frozenset(
                number for number, rule in enumerate(self._rules)
                if not rule.anchored and rule.globs[0][1].matches(name))
        return known
