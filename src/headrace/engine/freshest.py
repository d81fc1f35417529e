"""The newest state of our own objects: what the watch shows, or what the last write answered if that is newer.

A run may start before the watch has shown the status patch of the run before it; what it then takes for the inventory
must still be what was written.
"""

from __future__ import annotations

from headrace.engine.graph import newer
from headrace.engine.reader import Reader, Unwatched
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference


class Freshest:
    """Answers of writes, kept until the watch has caught up."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._written: dict[Reference, LiveObject] = {}

    def get(self, reference: Reference) -> LiveObject | Unwatched | None:
        """The object; None when it does not exist, UNWATCHED when nobody can say (the API server is away)."""
        watched = self._reader.get(reference, full=True)
        written = self._written.get(reference)
        if not isinstance(watched, LiveObject):
            return watched
        if written is not None and _ahead(written, watched):
            return written
        self._written.pop(reference, None)
        return watched

    def is_ahead(self, reference: Reference) -> bool:
        """Whether the watch has yet to show what was written last."""
        written, watched = self._written.get(reference), self._reader.get(reference, full=True)
        return written is not None and isinstance(watched, LiveObject) and _ahead(written, watched)

    def written(self, live: LiveObject) -> None:
        """A write was answered with this."""
        self._written[live.reference] = live

    def forget(self, reference: Reference) -> None:
        """The object is gone."""
        self._written.pop(reference, None)


def _ahead(written: LiveObject, watched: LiveObject) -> bool:
    same = written.metadata.uid == watched.metadata.uid
    return same and newer(written.metadata.resource_version, watched.metadata.resource_version)
