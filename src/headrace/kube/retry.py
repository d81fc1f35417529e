"""When a request is sent again, and after how long: Retry-After obeyed, jittered, never past the deadline
(REL-20)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from headrace.core.random import Random
from headrace.kube.errors import ApiError, TooManyRequests

_RESETS = 3
"""Times a request that may be sent twice is sent again after a broken connection."""


def retry_after(header: str, now: float) -> float | None:
    """Seconds of a Retry-After header, which is a number or an HTTP date; None when it is neither."""
    text = header.strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0) if text else None
    except ValueError:
        return None


def delay_after_answer(error: ApiError, attempt: int, random: Random) -> float | None:
    """Seconds to wait before the same request is sent again; None when it is not.

    The server did not act on what it answers with 429, nor on a 5xx that names a time: as client-go does,
    those are sent again whatever the verb. The jitter only ever adds, so that nobody comes back too early.
    """
    if error.retry_after is None:
        if not isinstance(error, TooManyRequests):
            return None
        return random.uniform(0.5, 1.0) * min(2.0 ** (attempt - 1), 8.0)
    if error.status != 429 and error.status < 500:
        return None
    return error.retry_after + random.uniform(0.0, 0.25) * max(error.retry_after, 1.0)


def delay_after_reset(attempt: int, random: Random) -> float | None:
    """Seconds to wait after a broken connection, None when it has been tried often enough."""
    if attempt > _RESETS:
        return None
    return random.uniform(0.05, 0.15) * 3.0 ** (attempt - 1)
