"""Where the control plane binary is."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "HEADRACE_CONTROLPLANE"
NAME = "headrace-controlplane"


class ControlPlaneMissing(Exception):
    """The binary was not built or not installed."""


def find_controlplane() -> Path:
    """The binary named by HEADRACE_CONTROLPLANE, else the one in the package. Raises ControlPlaneMissing."""
    given = os.environ.get(VARIABLE)
    path = Path(given) if given else Path(__file__).parents[1] / "bin" / NAME
    if not path.is_file():
        origin = f" (from {VARIABLE})" if given else ""
        raise ControlPlaneMissing(f"{path}{origin} is missing: run `make build`, or set {VARIABLE}")
    return path.absolute()
