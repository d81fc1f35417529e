"""The deep merge of values, as Helm and source-watcher have it (SRC-HCH-03, SRC-AGN-15)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Values = dict[str, Any]


def merged_values(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """Maps are merged; lists and everything else of `above` replace what is `below`."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = merged_values(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out
