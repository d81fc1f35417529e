"""Durations as Flux objects write them (`1h30m`), parsed and printed as Go does."""

from __future__ import annotations

import re
from functools import lru_cache

_WHOLE = re.compile(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+")
_TERM = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = (2**63 - 1) / 1e9


class InvalidDuration(ValueError):
    """A text that is no duration, or one that is too long."""


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> float:
    """Seconds. The pattern is that of Flux's CRDs; raises InvalidDuration on others and on what Go cannot hold."""
    if _WHOLE.fullmatch(text) is None:
        raise InvalidDuration(f"invalid duration '{text[:64]}'")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _TERM.findall(text))
    if seconds > _LONGEST:
        raise InvalidDuration(f"duration '{text[:64]}' is too long")
    return seconds


def format_duration(seconds: float) -> str:
    """Go's `time.Duration.String`: `1h0m0s`, `1m30s`, `1.5s`, `750ms`, `0s`."""
    nanoseconds = round(seconds * 1e9)
    sign, nanoseconds = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 1_000_000_000:
        return sign + _below_one_second(nanoseconds)
    minutes, rest = divmod(nanoseconds, 60 * 1_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, 1_000_000_000) + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return sign + (f"{hours}h{text}" if hours else text)


def _below_one_second(nanoseconds: int) -> str:
    if nanoseconds < 1_000:
        return f"{nanoseconds}ns"
    if nanoseconds < 1_000_000:
        return _decimal(nanoseconds, 1_000) + "µs"
    return _decimal(nanoseconds, 1_000_000) + "ms"


def _decimal(number: int, unit: int) -> str:
    """`number` divided by `unit` (a power of ten) without rounding and without trailing zeros."""
    whole, rest = divmod(number, unit)
    if rest == 0:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")
