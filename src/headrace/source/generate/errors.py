"""What stands in the way of an output."""

from __future__ import annotations


class CopyRefused(Exception):
    """An operation cannot be performed: nothing matches, or a path leads out of where it belongs. For users."""


class PatternRefused(Exception):
    """A path pattern, or what it captures, cannot become artifacts; only a person can cure that. For users."""
