"""`spec.pathPattern`: each directory that matches becomes all the outputs, with what was captured filled in.

A capture is one segment of a path, or a part of one. In names and labels it stands in lower case, in paths as it is
(SRC-AGN-20); what cannot become a name or a label, or becomes the same name twice, is refused (SRC-AGN-21).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.api.artifactgenerator import OutputArtifact
from headrace.source.generate.copying import source_of
from headrace.source.generate.errors import CopyRefused, PatternRefused
from headrace.source.generate.files import Kind, Segments, TreeReader

_CAPTURE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_KEY = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

Captures = dict[str, str]


@dataclass(frozen=True, slots=True)
class Capture:
    """A placeholder; what stands between them is text."""

    name: str


Piece = str | Capture


@dataclass(frozen=True, slots=True)
class Output:
    """An artifact to make, with nothing left to fill in, and the labels that its captures add."""

    artifact: OutputArtifact
    labels: Mapping[str, str]


def is_object_name(name: str) -> bool:
    """Whether Kubernetes takes a name for an object (a DNS subdomain)."""
    return len(name) <= 253 and _OBJECT_NAME.fullmatch(name) is not None


def alias_of(path_pattern: str) -> str:
    """The source whose directories are matched. Raises PatternRefused."""
    try:
        return source_of(path_pattern)[0]
    except CopyRefused:
        raise PatternRefused(f"invalid pathPattern format: {path_pattern}") from None


def expand(path_pattern: str, artifacts: Sequence[OutputArtifact], source: Path) -> list[Output]:
    """The outputs of every directory of `source` that matches, in lexical order of the directories.

    Blocking: call it in a thread. Raises PatternRefused, and OSError.
    """
    segments = _parse(path_pattern)
    outputs: list[Output] = []
    seen: dict[str, str] = {}
    with TreeReader(source) as reader:
        for path, captures in _directories(segments, reader, ()):
            shown = "/".join(path)
            for output in _render_all(path_pattern, artifacts, captures, shown):
                name = output.artifact.name
                if name in seen:
                    text = f"directories '{seen[name]}' and '{shown}' both resolve to artifact name '{name}'"
                    raise PatternRefused(f"pathPattern '{path_pattern}': {text}")
                seen[name] = shown
                outputs.append(output)
    return outputs


# -- the pattern -------------------------------------------------------------------------------------------------------


def _parse(path_pattern: str) -> list[list[Piece]]:
    try:
        pieces = list(_pieces(path_pattern.partition("/")[2]))
    except ValueError as error:
        raise PatternRefused(f"pathPattern '{path_pattern}': {error}") from None
    names = [piece.name for piece in pieces if isinstance(piece, Capture)]
    for name in names:
        if names.count(name) > 1:
            raise PatternRefused(f"pathPattern '{path_pattern}': duplicate capture variable '{name}'")
        if not _LABEL_KEY.fullmatch(name):
            text = f"capture variable '{name}' is not a valid Kubernetes label key"
            raise PatternRefused(f"pathPattern '{path_pattern}': {text}")
    segments: list[list[Piece]] = [[]]
    for piece in pieces:
        if isinstance(piece, Capture):
            segments[-1].append(piece)
            continue
        first, *others = piece.split("/")
        segments[-1] += [first] if first else []
        segments += [[other] if other else [] for other in others]
    return segments


def _pieces(text: str) -> Iterator[Piece]:
    """Texts and captures of a template. Raises ValueError for a brace that has no other, and a name that is none."""
    for index, part in enumerate(re.split(r"(\{[^{}]*\})", text)):
        if index % 2:
            name = part[1:-1]
            if not name:
                raise ValueError("empty capture variable")
            if not _CAPTURE_NAME.fullmatch(name):
                raise ValueError(f"capture variable '{name}' must be a valid capture name {_CAPTURE_NAME.pattern}")
            yield Capture(name)
        elif "{" in part or "}" in part:
            raise ValueError("a brace is missing its counterpart")
        elif part:
            yield part


def _directories(
    segments: Sequence[Sequence[Piece]], reader: TreeReader, path: Segments
) -> Iterator[tuple[Segments, Captures]]:
    """The directories that match, each with what it gives to the captures."""
    for name, kind in reader.children(path):
        if kind is not Kind.DIRECTORY:
            continue
        captured = _capture(segments[0], name)
        if captured is None:
            continue
        if len(segments) == 1:
            yield (*path, name), captured
        else:
            for below, inner in _directories(segments[1:], reader, (*path, name)):
                yield below, captured | inner


def _capture(pieces: Sequence[Piece], name: str) -> Captures | None:
    """What a name gives to the captures of a segment, the first taking as much as it can; None when it does not match.

    `reach[i][j]`: whether the pieces from `i` on match the name from `j` on. Filled from the end, in pieces times
    characters steps: a pattern of many captures costs no more.
    """
    width = len(name)
    reach = [[False] * (width + 1) for _ in range(len(pieces))] + [[False] * width + [True]]
    for i in range(len(pieces) - 1, -1, -1):
        piece, some = pieces[i], False
        for j in range(width, -1, -1):
            if isinstance(piece, str):
                reach[i][j] = name.startswith(piece, j) and reach[i + 1][j + len(piece)]
            else:
                reach[i][j] = some
                some = some or reach[i + 1][j]
    if not pieces or not reach[0][0]:
        return None
    captured: Captures = {}
    at = 0
    for i, piece in enumerate(pieces):
        end = at + len(piece) if isinstance(piece, str) else max(j for j in range(at + 1, width + 1) if reach[i + 1][j])
        if isinstance(piece, Capture):
            captured[piece.name] = name[at:end]
        at = end
    return captured


# -- the outputs -------------------------------------------------------------------------------------------------------


def _render_all(
    path_pattern: str, artifacts: Sequence[OutputArtifact], captures: Captures, path: str
) -> Iterator[Output]:
    labels = {name: value.lower() for name, value in captures.items()}
    for name, value in labels.items():
        if not _LABEL_VALUE.fullmatch(value):
            text = f"captured value '{value}' for variable '{name}' is not a valid Kubernetes label value"
            raise PatternRefused(f"pathPattern '{path_pattern}': {text}")
    for artifact in artifacts:
        try:
            rendered = _render(artifact, labels, captures)
        except ValueError as error:
            text = f"failed to render artifact {artifact.name} for match {path}: {error}"
            raise PatternRefused(f"pathPattern '{path_pattern}': {text}") from None
        if not is_object_name(rendered.name):
            text = f"rendered artifact name '{rendered.name}' is not a valid Kubernetes object name"
            raise PatternRefused(f"pathPattern '{path_pattern}': {text}")
        yield Output(rendered, labels)


def _render(artifact: OutputArtifact, labels: Captures, captures: Captures) -> OutputArtifact:
    operations = tuple(
        msgspec.structs.replace(one, from_=_fill(one.from_, captures), to=_fill(one.to, captures))
        for one in artifact.copy
    )
    return msgspec.structs.replace(artifact, name=_fill(artifact.name, labels), copy=operations)


def _fill(template: str, captures: Captures) -> str:
    """The template with its captures. Raises ValueError."""
    filled: list[str] = []
    for piece in _pieces(template):
        if isinstance(piece, Capture) and piece.name not in captures:
            raise ValueError(f"capture variable '{piece.name}' is not defined by pathPattern")
        filled.append(captures[piece.name] if isinstance(piece, Capture) else piece)
    return "".join(filled)
