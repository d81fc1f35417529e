"""Where the Go programs of the package are."""

from __future__ import annotations

import os
from pathlib import Path


class ProgramNotBuilt(Exception):
    """A program of the package was not built or not installed."""


def find_program(name: str, variable: str, missing: type[ProgramNotBuilt] = ProgramNotBuilt) -> Path:
    """The program that the environment `variable` names, else the one in the package, as an absolute path.

    Raises `missing`, with what to do about it, when there is no such file.
    """
    given = os.environ.get(variable)
    path = Path(given) if given else Path(__file__).parents[1] / "bin" / name
    if not path.is_file():
        origin = f" (from {variable})" if given else ""
        raise missing(f"{path}{origin} is missing: run `make build`, or set {variable}")
    return path.absolute()
