"""How the files of two directories differ, as text. Values of Secrets in manifests are masked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.cli.masking import mask_secret
from headrace.cli.output import Format, dump
from headrace.core.limits import MIB

Json = dict[str, Any]

_LONGEST = MIB
_SECRET = re.compile(r"""\bkind["']?\s*:\s*["']?Secret\b""")


def file_changes(before: Path, after: Path) -> list[str]:
    """Lines that tell what differs: the name of each file, and below it a unified diff. Empty when nothing does.

    Directories matter only by the files in them, files only by their bytes. Blocks; raises OSError.
    """
    olds, news = _files(before), _files(after)
    lines: list[str] = []
    for name in sorted(olds | news):
        old = (before / name).read_bytes() if name in olds else None
        new = (after / name).read_bytes() if name in news else None
        if old != new:
            word = "added" if old is None else "removed" if new is None else "changed"
            lines += [f"► {_shown(name)} {word}", *_texts(old or b"", new or b""), ""]
    return lines


def _files(directory: Path) -> set[str]:
    return {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}


def _texts(old: bytes, new: bytes) -> list[str]:
    if max(len(old), len(new)) > _LONGEST:
        return ["  too large to be shown"]
    try:
        before, after = masked(old.decode(), new.decode())
    except (UnicodeDecodeError, _Unreadable) as error:
        return [f"  {error}" if isinstance(error, _Unreadable) else "  binary"]
    if before == after:
        return ["  only in what is not shown"]
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), n=3, lineterm="")
    return [f"  {_shown(line)}" for line in list(found)[2:]] or ["  only in how lines end"]


def _shown(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in line)


class _Unreadable(Exception):
    """A manifest that may hold a Secret and cannot be read: not shown."""


def masked(before: str, after: str) -> tuple[str, str]:
    """Two states of a file, each value of a Secret masked, so that it can be seen which of them differ.

    A file with Secrets comes as it is read: without its comments, one field a line.
    """
    if not _SECRET.search(before) and not _SECRET.search(after):
        return before, after
    olds, news = _documents(before), _documents(after)
    places = dict.fromkeys([*olds, *news])
    for place in places:
        old, new = olds.get(place, {}), news.get(place, {})
        if "Secret" in (old.get("kind"), new.get("kind")):
            shown = mask_secret(old, new)
            olds, news = olds | {place: shown[0]}, news | {place: shown[1]}
    return _dumped(olds), _dumped(news)


def _documents(text: str) -> dict[tuple[str, int], Json]:
    """The objects of a file by what names them, those of lists too; the number tells those of one name apart."""
    from headrace.core.documents import load_documents

    try:
        found = [one for document in load_documents(text) for one in _objects(document)]
    except (ValueError, RecursionError):
        raise _Unreadable("not shown: it may hold a Secret, and is no YAML that can be read") from None
    named: dict[tuple[str, int], Json] = {}
    for one in found:
        metadata = _metadata(one)
        name = f"{one.get('kind')}/{metadata.get('namespace', '')}/{metadata.get('name', '')}"
        number = next(number for number in range(len(found)) if (name, number) not in named)
        named[name, number] = one
    return named


def _metadata(one: Json) -> Json:
    found = one.get("metadata") or {}
    if not isinstance(found, dict) or not isinstance(found.get("annotations") or {}, dict):
        raise _Unreadable("not shown: it may hold a Secret, and is no manifest")
    return found


def _objects(document: Any) -> Iterator[Json]:
    if not isinstance(document, dict):
        if document is not None:
            raise _Unreadable("not shown: it may hold a Secret, and is no manifest")
    elif str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _objects(item)
    else:
        yield document


def _dumped(documents: dict[tuple[str, int], Json]) -> str:
    return "\n".join(f"---\n{dump(one, Format.YAML)}" for one in documents.values() if one)
