"""The pool of toolbox children: official Go libraries behind typed calls. Used by every stage that renders."""

from headrace.toolbox.errors import ToolboxCrashed, ToolboxError
from headrace.toolbox.frames import WantedIdentity
from headrace.toolbox.messages import (
    BuildDecryption,
    BuildKeys,
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
    KeyServices,
    LentIdentity,
    Limits,
    Patch,
    Selector,
    SemverMatch,
    Substitute,
    VaultLogin,
)
from headrace.toolbox.pool import Toolbox

__all__ = [
    "BuildDecryption",
    "BuildKeys",
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
    "KeyServices",
    "LentIdentity",
    "Limits",
    "Patch",
    "Selector",
    "SemverMatch",
    "Substitute",
    "Toolbox",
    "ToolboxCrashed",
    "ToolboxError",
    "VaultLogin",
    "WantedIdentity",
]
