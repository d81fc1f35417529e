"""Named places at which a fault can be put in: `HEADRACE_FAIL=point:kill|sleep=SECONDS|raise[@N]`, comma-separated.

`@N` waits for the N-th passage. Without the variable a failpoint costs one look into an empty dict. The points and
what must hold after a fault at each are the REL rows of docs/conformance.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

ENVIRONMENT = "HEADRACE_FAIL"


class FailpointError(Exception):
    """Raised at a point set to `raise`. Nobody catches it by name: it stands for any unforeseen error."""


@dataclass(slots=True)
class _Fault:
    action: str
    seconds: float = 0.0
    passages: int = 1


_faults: dict[str, _Fault] = {}


def configure(text: str) -> None:
    """Set the faults from the form of the environment variable; empty removes all. Raises ValueError on others."""
    _faults.clear()
    for item in filter(None, (part.strip() for part in text.split(","))):
        point, _, rest = item.partition(":")
        action, _, passage = rest.partition("@")
        name, _, seconds = action.partition("=")
        if not point or name not in ("kill", "sleep", "raise"):
            raise ValueError(f"{ENVIRONMENT}: '{item}' is not point:kill|sleep=SECONDS|raise[@N]")
        _faults[point] = _Fault(name, float(seconds or 0), int(passage or 1))


def failpoint(point: str) -> None:
    """Do what is set for `point`. A sleep blocks the calling thread: on the event loop use `failpoint_async`."""
    if _faults and (fault := _due(point)) is not None:
        if fault.action == "sleep":
            time.sleep(fault.seconds)
        else:
            _fail(point, fault)


async def failpoint_async(point: str) -> None:
    """As `failpoint`, but a sleep gives the event loop to others."""
    if _faults and (fault := _due(point)) is not None:
        if fault.action == "sleep":
            await asyncio.sleep(fault.seconds)
        else:
            _fail(point, fault)


def _due(point: str) -> _Fault | None:
    fault = _faults.get(point)
    if fault is None:
        return None
    fault.passages -= 1
    return fault if fault.passages <= 0 else None


def _fail(point: str, fault: _Fault) -> None:
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise FailpointError(f"failpoint {point}")


configure(os.environ.get(ENVIRONMENT, ""))
