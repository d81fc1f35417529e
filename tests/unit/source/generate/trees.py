"""Trees of files, written and read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def files_of(root: Path) -> dict[str, str]:
    """Content by path; directories end with a slash."""
    found = sorted(path for path in root.rglob("*"))
    return {
        str(path.relative_to(root)) + ("/" if path.is_dir() else ""): "" if path.is_dir() else path.read_text()
        for path in found
    }
