"""What commands print: tables and progress lines in flux's manner, JSON, YAML. Data to stdout, the rest to stderr."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from typing import Any


class Format(str, enum.Enum):
    """`-o`."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns parted by a tab after padding, as flux prints them."""
    cells = [list(header), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells)
    return "\n".join("\t".join(row) + "\t" for row in padded)


def dump(data: Any, form: Format) -> str:
    """`data` as JSON or YAML text."""
    if form is Format.YAML:
        import yaml

        text: str = yaml.dump(data, Dumper=yaml.CSafeDumper, sort_keys=False, default_flow_style=False)
        return text.rstrip("\n")
    import orjson

    return orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()


def say(text: str) -> None:
    """A line of the command's result."""
    print(text, flush=True)


def action(text: str) -> None:
    """What is being done."""
    _progress("►", text)


def waiting(text: str) -> None:
    """What is being waited for."""
    _progress("◎", text)


def success(text: str) -> None:
    """What has been reached."""
    _progress("✔", text)


def failure(text: str) -> None:
    """What went wrong."""
    _progress("✗", text)


def warning(text: str) -> None:
    """What the user should know."""
    _progress("⚠️", text)


def _progress(mark: str, text: str) -> None:
    print(f"{mark} {text}", file=sys.stderr, flush=True)


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))
