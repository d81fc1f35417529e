"""Where the control plane binary is."""

from __future__ import annotations

from pathlib import Path

from headrace.core.programs import ProgramNotBuilt, find_program

VARIABLE = "HEADRACE_CONTROLPLANE"
NAME = "headrace-controlplane"


class ControlPlaneMissing(ProgramNotBuilt):
    """The binary was not built or not installed."""


def find_controlplane() -> Path:
    """The binary named by HEADRACE_CONTROLPLANE, else the one in the package. Raises ControlPlaneMissing."""
    return find_program(NAME, VARIABLE, ControlPlaneMissing)
