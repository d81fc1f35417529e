"""What the API server checks of a field, written beside the field in `Annotated[...]`.

msgspec ignores these marks when it decodes, on purpose: the API server has checked them at admission, and an object
that slipped through must fail alone, with a condition that says why, not at decoding (spec SEC-39).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec


@dataclass(frozen=True, slots=True)
class Validation:
    """Rules of one field in the schema of its CRD. `default` is what the API server fills in."""

    pattern: str = ""
    enum: tuple[str, ...] = ()
    min_length: int | None = None
    max_length: int | None = None
    minimum: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    format: str = ""
    nullable: bool = False
    default: object = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields of an object, in CEL, with the message of its violation."""

    cel: str
    message: str


Interval = Annotated[str, Validation(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$")]
"""A duration as Flux writes them: numbers with the units ms, s, m, h."""

ShortTimeout = Annotated[str, Validation(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m))+$")]
"""A duration without hours: timeouts of sources."""

LegacyNamespace = Annotated[str | None, Validation(nullable=True)]
"""A namespace beside the name of a Secret: upstream drops it whatever it is, so null must be admitted too."""

Time = Annotated[str, Validation(format="date-time")]
"""A time in RFC 3339."""
