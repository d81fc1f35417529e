"""Looks: at the interval, an object whose last run left a way to see that nothing has moved is looked at first.

Only when something has, or the look itself fails, a run follows; it says what there is to say. So a thousand sources
that do not move cost a thousand questions to their servers, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging

from headrace.engine.queue import Entry
from headrace.engine.services import Services
from headrace.model.outcome import Outcome
from headrace.model.reference import Reference
from headrace.model.trace import Cause

log = logging.getLogger(__name__)

BY_INTERVAL = (Cause("interval"),)


class Looks:
    """The looks of one engine: what runs have left, by object."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pending: dict[Reference, Outcome] = {}
        self._last: dict[Reference, float] = {}
        self._deadlines: set[asyncio.Timeout] = set()
        self._stopped = False

    def leave(self, reference: Reference, outcome: Outcome) -> None:
        """A run has ended so: its look, if it has one, is asked when the interval is over."""
        if outcome.look is not None:
            # What else there is to an outcome is in the object's status.
            self._pending[reference] = Outcome("", "", after=outcome.after, jitter=outcome.jitter, look=outcome.look)

    def forget(self, reference: Reference) -> None:
        """The object is gone."""
        self._pending.pop(reference, None)
        self._last.pop(reference, None)

    def stop(self) -> None:
        """The engine ends: looks are cut short, and no run follows."""
        self._stopped = True
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            deadline.reschedule(now)

    def last(self, reference: Reference) -> float | None:
        """When (seconds since the epoch) an object was last seen to need no run."""
        return self._last.get(reference)

    def claim(self, entry: Entry) -> Outcome | None:
        """The outcome to look at first, for an object that its interval alone has woken. Whoever claims it leaves it
        again when it still stands; with a run it is over."""
        left = self._pending.pop(entry.reference, None)
        return left if entry.causes == BY_INTERVAL else None

    async def stands(self, entry: Entry, outcome: Outcome) -> bool:
        """Whether what the last run has left still stands, so that no run is needed.

        Called with a slot held, which is given back for the time of the look: if it stands it stays given back.
        """
        services, started = self._services, self._services.clock.monotonic()
        services.slots.give(entry.lane)
        unchanged = await self._unchanged(entry.reference, outcome)
        if unchanged:
            self._last[entry.reference] = services.clock.now()
            services.metrics.looked(entry.reference, services.clock.monotonic() - started)
        elif not self._stopped:
            await services.slots.take(services.slots.ask(entry.lane))
        return unchanged or self._stopped

    async def _unchanged(self, reference: Reference, outcome: Outcome) -> bool:
        """What the look says; one that fails, or takes longer than the interval, says that a run has to see."""
        try:
            async with asyncio.timeout(outcome.after) as deadline:
                self._deadlines.add(deadline)
                return outcome.look is not None and await outcome.look()
        except TimeoutError:
            return False
        except Exception:
            log.exception("a look failed", extra={"object": str(reference)})
            return False
        finally:
            self._deadlines.discard(deadline)
