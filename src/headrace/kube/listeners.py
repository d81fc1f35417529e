"""Who is told of which changes of objects."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

log = logging.getLogger(__name__)

Listener = Callable[[Reference, LiveObject | None, LiveObject | None], None]
"""Called with an object's name, the object as it was and as it is; None stands for absence."""


class Listeners:
    """See the module. There may be thousands of both: a change costs nothing to those whom it does not concern."""

    def __init__(self) -> None:
        self._all: list[Listener] = []
        self._of: dict[Reference, list[Listener]] = {}

    def subscribe(self, listener: Listener, references: Iterable[Reference] | None = None) -> Callable[[], None]:
        """Call `listener` at each change; with `references`, at changes of these objects and of those that they own
        (`metadata.ownerReferences`) only. Returns what ends the subscription, to be called once."""
        if references is None:
            self._all.append(listener)
            return lambda: self._all.remove(listener)
        followed = frozenset(references)
        for reference in followed:
            self._of.setdefault(reference, []).append(listener)
        return lambda: self._end(listener, followed)

    def notify(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        """Tell everybody whom it concerns. An error of one keeps nothing from the others."""
        concerned = {reference, *owners(old, new)} & self._of.keys() if self._of else ()
        for listener in (*self._all, *(each for followed in concerned for each in self._of[followed])):
            try:
                listener(reference, old, new)
            except Exception:
                log.exception("a listener of watches failed", extra={"object": str(reference)})

    def _end(self, listener: Listener, followed: frozenset[Reference]) -> None:
        for reference in followed:
            listeners = self._of[reference]
            listeners.remove(listener)
            if not listeners:
                del self._of[reference]


def owners(*states: LiveObject | None) -> Iterator[Reference]:
    """Who an object belongs to or belonged to: one that is released concerns its former owner too."""
    for live in states:
        if live is not None and live.metadata.owner_references:
            yield from live.owners
