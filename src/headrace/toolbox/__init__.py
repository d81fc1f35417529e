"""The pool of toolbox children: official Go libraries behind typed calls. Used by every stage that renders."""

from headrace.toolbox.errors import ToolboxCrashed, ToolboxError
from headrace.toolbox.messages import (
    BuildDecryption,
    BuildRequest,
    BuildSpec,
    Built,
    BuiltObject,
    CelAsk,
    CelResult,
    CelValue,
    CommonMetadata,
    Image,
    Json6902Patch,
    Limits,
    Patch,
    Selector,
    SemverMatch,
    Substitute,
)
from headrace.toolbox.pool import Toolbox

__all__ = [
    "BuildDecryption",
    "BuildRequest",
    "BuildSpec",
    "Built",
    "BuiltObject",
    "CelAsk",
    "CelResult",
    "CelValue",
    "CommonMetadata",
    "Image",
    "Json6902Patch",
    "Limits",
    "Patch",
    "Selector",
    "SemverMatch",
    "Substitute",
    "Toolbox",
    "ToolboxCrashed",
    "ToolboxError",
]
