"""Where the toolbox binary is."""

from __future__ import annotations

from pathlib import Path

from headrace.core.programs import ProgramNotBuilt, find_program

VARIABLE = "HEADRACE_TOOLBOX"
NAME = "headrace-toolbox"


class ToolboxMissing(ProgramNotBuilt):
    """The binary was not built or not installed."""


class ToolboxUnfit(ProgramNotBuilt):
    """The binary does not run here, or is not the one that belongs to this package."""


def find_toolbox() -> Path:
    """The binary named by HEADRACE_TOOLBOX, else the one in the package. Raises ToolboxMissing."""
    return find_program(NAME, VARIABLE, ToolboxMissing)
