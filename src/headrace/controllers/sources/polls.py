"""How old the answer of a server may be that a run of a source uses, by why the run happens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from headrace.api.meta import GENERIC
from headrace.core.clock import Clock, parse_rfc3339
from headrace.model.objects import Metadata
from headrace.model.reference import REMOTE
from headrace.model.trace import Cause
from headrace.source.polls import FRESH

SHARED_AGE = 60.0
"""A poll by interval may use an answer of another object's poll up to so many seconds old."""


def max_age(metadata: Metadata, interval: float, causes: Sequence[Cause], clock: Clock) -> float:
    """Seconds: a person gets a new answer, a new object one since its creation, news the answer that is the news."""
    whats = {cause.what for cause in causes}
    if "requested" in whats:
        return 0.0
    if whats == {"changed"} and all(cause.reference and cause.reference.cluster == REMOTE for cause in causes):
        return math.inf
    if whats == {"created"}:
        created = parse_rfc3339(metadata.creation_timestamp) if metadata.creation_timestamp else math.inf
        return FRESH + min(max(0.0, clock.now() - created), SHARED_AGE)
    if whats <= {"interval", "started"}:
        return shared_age(interval)
    return FRESH


def shared_age(interval: float) -> float:
    """Seconds: for a poll by interval, an answer that another object's poll got a moment ago will do."""
    return max(FRESH, min(interval / 4, SHARED_AGE))


def lasting(provider: str) -> bool:
    """Whether credentials of a provider stay what they are until their Secret changes, which wakes the source."""
    return provider in ("", GENERIC)
