"""Whole objects of which only the metadata is watched: one GET, shared, and never older than the watch.

Between a GET and the moment its digest is recorded an event may pass that nobody is subscribed to yet. So a GET that
is overtaken by an event of its object is made again before anybody sees its answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from headrace.engine.reader import Account, Reader
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

ATTEMPTS = 3
"""GETs for one answer: an object that changes faster than it can be read is read as it was at the last one."""


_Question = tuple[str, Account | None]
"""In which version, and as whom."""


class _LeaderGone(Exception):
    """The run that made the GET was cancelled: another one has to."""


@dataclass(slots=True)
class _Flight:
    answer: asyncio.Future[LiveObject | None] = field(default_factory=asyncio.Future)
    overtaken: bool = False


class Contents:
    """GETs in flight, by object and version."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._flights: dict[Reference, dict[_Question, _Flight]] = {}

    def moved(self, reference: Reference) -> None:
        """An event of the object has passed."""
        for flight in self._flights.get(reference, {}).values():
            flight.overtaken = True

    async def get(
        self, reference: Reference, version: str = "", account: Account | None = None
    ) -> LiveObject | None:
        """The whole object as `account` (the engine itself where there is none) sees it, None when it does not exist.
        Raises what the GET raises. No answer is shared between accounts."""
        question = version, account
        while True:
            flight = self._flights.get(reference, {}).get(question)
            if flight is None:
                return await self._lead(reference, question)
            try:
                return await asyncio.shield(flight.answer)
            except _LeaderGone:
                continue

    async def _lead(self, reference: Reference, question: _Question) -> LiveObject | None:
        flight = _Flight()
        flight.answer.add_done_callback(lambda answer: answer.exception())
        self._flights.setdefault(reference, {})[question] = flight
        try:
            live = await self._read(flight, reference, question)
        except BaseException as error:
            gone = isinstance(error, asyncio.CancelledError)
            flight.answer.set_exception(_LeaderGone() if gone else error)
            raise
        else:
            flight.answer.set_result(live)
            return live
        finally:
            self._land(reference, question)

    async def _read(self, flight: _Flight, reference: Reference, question: _Question) -> LiveObject | None:
        live = None
        for _ in range(ATTEMPTS):
            flight.overtaken = False
            live = await self._reader.fetch(reference, version=question[0], account=question[1])
            if not flight.overtaken:
                break
        return live

    def _land(self, reference: Reference, question: _Question) -> None:
        self._flights[reference].pop(question)
        if not self._flights[reference]:
            del self._flights[reference]
