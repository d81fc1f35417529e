"""What is asked of the toolbox for charts: strict YAML, and ranges of versions (SRC-HRP-03, SRC-HCH-01)."""

from __future__ import annotations

from functools import partial

from headrace.source.helm.index import ReadYaml
from headrace.source.versions import MatchVersions, in_range
from headrace.toolbox import Toolbox
from headrace.toolbox.errors import ToolboxError
from headrace.toolbox.messages import Limits

_LIMITS = Limits(depth=100, nodes=500_000)
_OF_THE_TEXT = ("InvalidYAML", "LimitExceeded")


def yaml_reader(toolbox: Toolbox, *, strict: bool = True) -> ReadYaml:
    """YAML documents as a JSON array. Raises ValueError for what is none, or too much (SEC-16)."""

    async def read(text: bytes) -> bytes:
        try:
            return await toolbox.yaml_to_json(text, strict=strict, limits=_LIMITS)
        except ToolboxError as error:
            if error.code not in _OF_THE_TEXT:
                raise
            raise ValueError(error.message) from error

    return read


def version_matcher(toolbox: Toolbox) -> MatchVersions:
    """The versions in a range, the best first."""
    return partial(in_range, toolbox, strict_parts=True)
