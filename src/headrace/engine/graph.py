"""Who read what: reads are subscriptions, and this is their index. Pure data, no I/O.

A reader's subscriptions are the reads of its last finished run and, on top, those of the run in progress. What moved
is decided by digests: an event wakes exactly the readers whose part of the object has another digest than they used.
It also knows who waits for whom, finds cycles in that (REL-24), and follows it for `explain`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from headrace.model.objects import LiveObject
from headrace.model.read import ABSENT, WHOLE, Part, Read
from headrace.model.reference import REMOTE, Reference

GONE = 10_000
"""Deletions that are remembered before those that no run in progress can have missed are forgotten."""

ANY = ""
"""Digest of a read that every newer event contradicts: the subscription to what may cure an error."""

Key = tuple[Reference, str]
Look = Callable[[Reference, bool], LiveObject | None]
"""Looks an object up in the watches; True asks for the whole object if possible."""
Digests = Callable[[str], str | None]
"""Digest of an object's part by the part's name; None when it cannot be told."""


def newer(version: str, than: str) -> bool:
    """Whether a resourceVersion says something new to who has read `than`. Not comparable counts as new."""
    if version.isdigit() and than.isdigit():
        return int(version) > int(than)
    return version != than or not version


@dataclass(slots=True)
class _Subscriptions:
    """The reads of one reader, by what was read and which part of it."""

    finished: dict[Key, Read] = field(default_factory=dict)
    current: dict[Key, Read] | None = None
    since: int = 0
    """How many deletions the graph had been told of when the last run began."""

    def read(self, key: Key) -> Read | None:
        """The read that counts. While a run is in progress that is its own: what only the last run has read will
        be compared when this one has finished, since it may be about to read, or to write, it again. Remotes are
        told once and cannot be looked up then, so there the last run's reads count as well."""
        if self.current is None or (key not in self.current and key[0].cluster == REMOTE):
            return self.finished.get(key)
        return self.current.get(key)

    def keys(self) -> set[Key]:
        return set(self.finished) | set(self.current or ())


class Graph:
    """All subscriptions of one engine. `key` makes the digests of secret parts (32 bytes, never written anywhere)."""

    def __init__(self, parts: Iterable[Part] = (), *, key: bytes = b"") -> None:
        self._key = key
        self._parts: dict[str, Part] = {WHOLE.name: WHOLE}
        self._readers: dict[Reference, dict[str, set[Reference]]] = {}
        self._subscriptions: dict[Reference, _Subscriptions] = {}
        self._waiting: dict[Reference, tuple[Reference, ...]] = {}
        self._passing: dict[Reference, tuple[Reference, ...]] = {}
        self._cycles: dict[Reference, tuple[Reference, ...]] = {}
        self._spared: dict[Reference, frozenset[Reference]] = {}
        self._running: set[Reference] = set()
        self._gone: dict[Reference, int] = {}
        self._deletions = 0
        for part in parts:
            self.know(part)

    # -- reads ---------------------------------------------------------------------------------------------------

    def know(self, part: Part) -> None:
        """Learn how a part is evaluated."""
        self._parts.setdefault(part.name, part)

    def digest(self, part: Part, live: LiveObject | None) -> str:
        """The digest of a part as this graph compares it."""
        return part.digest(live, self._key)

    def begin(self, reader: Reference) -> None:
        """A run of `reader` starts: its reads are collected apart from those of the last one."""
        if not self._running:
            self._gone.clear()
        subscriptions = self._subscriptions.setdefault(reader, _Subscriptions())
        subscriptions.current, subscriptions.since = {}, self._deletions
        self._running.add(reader)

    def deleted(self, reference: Reference) -> None:
        """An object is gone, whether anybody has read it or not: a run may have looked at it and record that later."""
        if not self._running:
            return
        self._deletions += 1
        self._gone[reference] = self._deletions
        if len(self._gone) > GONE:
            oldest = min(self._subscriptions[reader].since for reader in self._running)
            self._gone = {each: number for each, number in self._gone.items() if number > oldest}

    def record(self, reader: Reference, read: Read) -> None:
        """Subscribe the run in progress to what it has read; a later read of the same part replaces it."""
        subscriptions = self._subscriptions.setdefault(reader, _Subscriptions())
        if subscriptions.current is None:
            subscriptions.current = {}
        subscriptions.current[read.reference, read.part] = read
        self._readers.setdefault(read.reference, {}).setdefault(read.part, set()).add(reader)

    def forget_parts(self, reader: Reference, part: str) -> None:
        """Drop what the run in progress has recorded under `part`."""
        subscriptions = self._subscriptions.get(reader)
        if subscriptions is None or subscriptions.current is None:
            return
        for key in [key for key in subscriptions.current if key[1] == part]:
            del subscriptions.current[key]
            self._release(reader, key)

    def finish(self, reader: Reference) -> None:
        """The run has ended: its reads replace those of the run before."""
        self._settle(reader, keep=False)

    def abandon(self, reader: Reference) -> None:
        """The run was cut short and says nothing about what it did not get to: its reads join the last one's."""
        self._settle(reader, keep=True)

    def forget(self, reader: Reference) -> None:
        """Drop everything about an object that is gone, as a reader; those who read it stay subscribed."""
        self._running.discard(reader)
        subscriptions = self._subscriptions.pop(reader, None)
        for key in subscriptions.keys() if subscriptions else ():
            self._unsubscribe(reader, key)
        self._spared.pop(reader, None)
        self.ended_wait(reader)

    def reads(self, reader: Reference) -> tuple[Read, ...]:
        """What an object is subscribed to, in the order it was read."""
        subscriptions = self._subscriptions.get(reader, _Subscriptions())
        return tuple((subscriptions.finished | (subscriptions.current or {})).values())

    def recorded(self, reader: Reference) -> set[Reference]:
        """What the run in progress has read so far."""
        subscriptions = self._subscriptions.get(reader, _Subscriptions())
        return {reference for reference, _ in subscriptions.current or ()}

    def readers(self, reference: Reference) -> tuple[Reference, ...]:
        """Who is subscribed to any part of an object."""
        by_part = self._readers.get(reference, {})
        return tuple(sorted(set().union(*by_part.values())))

    def spare(self, reference: Reference, readers: Iterable[Reference]) -> None:
        """Note who has nothing to do about the present state of an object but to say that it has seen it."""
        self._spared[reference] = frozenset(readers)

    def is_spared(self, reader: Reference, reference: Reference) -> bool:
        """Whether `spare` named the reader last time."""
        return reader in self._spared.get(reference, ())

    def __contains__(self, reference: Reference) -> bool:
        return reference in self._readers

    def targets(self) -> tuple[Reference, ...]:
        """Everything that somebody has read."""
        return tuple(self._readers)

    def _settle(self, reader: Reference, *, keep: bool) -> None:
        subscriptions = self._subscriptions.get(reader)
        if subscriptions is None or subscriptions.current is None:
            return
        self._running.discard(reader)
        before, current = subscriptions.finished, subscriptions.current
        subscriptions.finished, subscriptions.current = (before | current if keep else current), None
        for key in before.keys() - subscriptions.finished.keys():
            self._unsubscribe(reader, key)

    def _release(self, reader: Reference, key: Key) -> None:
        if key not in self._subscriptions[reader].finished:
            self._unsubscribe(reader, key)

    def _unsubscribe(self, reader: Reference, key: Key) -> None:
        reference, part = key
        by_part = self._readers.get(reference, {})
        by_part.get(part, set()).discard(reader)
        if not by_part.get(part):
            by_part.pop(part, None)
        if not by_part:
            self._readers.pop(reference, None)

    # -- what moved ----------------------------------------------------------------------------------------------

    def needs_content(self, live: LiveObject) -> bool:
        """Whether somebody reads, older than `live`, a part of it that its metadata alone does not tell."""
        for name, readers in self._readers.get(live.reference, {}).items():
            part = self._parts.get(name)
            if part is not None and not part.metadata_only:
                reads = (self._subscriptions[reader].read((live.reference, name)) for reader in readers)
                version = live.metadata.resource_version
                if any(read is not None and newer(version, read.resource_version) for read in reads):
                    return True
        return False

    def moved(self, reference: Reference, live: LiveObject | None) -> list[tuple[Reference, str]]:
        """The readers, each with the part, for whom `live` (None: gone) differs from what they have read.

        Parts that a partial `live` does not tell are left out.
        """
        def digest(name: str) -> str | None:
            part = self._parts.get(name)
            if part is None:
                return ABSENT if live is None else live.metadata.resource_version
            if live is not None and live.partial and not part.metadata_only:
                return None
            return self.digest(part, live)

        version = "" if live is None else live.metadata.resource_version
        return list(self._differing(reference, digest, version))

    def told(self, reference: Reference, part: str, digest: str) -> list[tuple[Reference, str]]:
        """As `moved`, for what is no object: its source says which digest a part has now."""
        return list(self._differing(reference, lambda name: digest if name == part else None, ""))

    def outdated(self, reader: Reference, live: Look) -> list[Key]:
        """The reads of a run just finished that `live` (None: not known) already contradicts.

        Events between a read and its recording, and those held back while the run was in progress, show here.
        """
        keys = []
        subscriptions = self._subscriptions.get(reader, _Subscriptions())
        for key, read in subscriptions.finished.items():
            part = self._parts.get(key[1])
            now = live(key[0], part is not None and not part.metadata_only)
            if now is None and self._gone.get(key[0], 0) > subscriptions.since and read.digest not in (ABSENT, ANY):
                keys.append(key)
            if now is None or not newer(now.metadata.resource_version, read.resource_version):
                continue
            untold = part is None or (now.partial and not part.metadata_only)
            if read.digest == ANY or untold or self.digest(part or WHOLE, now) != read.digest:
                keys.append(key)
        return keys

    def _differing(self, reference: Reference, digest: Digests, version: str) -> Iterator[tuple[Reference, str]]:
        for name, readers in self._readers.get(reference, {}).items():
            now: str | None = None
            for reader in sorted(readers):
                read = self._subscriptions[reader].read((reference, name))
                if read is None or (version and not newer(version, read.resource_version)):
                    continue
                now = digest(name) if now is None else now
                if now is not None and (read.digest == ANY or now != read.digest):
                    yield reader, name

    # -- who waits for whom --------------------------------------------------------------------------------------

    def waits(self, reader: Reference, on: Iterable[Reference]) -> tuple[Reference, ...]:
        """`reader` waits for `on`. Returns the cycle this closes, from its smallest member on; empty when none."""
        self._passing.pop(reader, None)
        self._waiting[reader] = tuple(on)
        cycle = find_cycle(reader, self._waiting)
        if cycle:
            self._cycles[reader] = cycle
        else:
            self._cycles.pop(reader, None)
        return cycle

    def waits_for_a_time(self, reader: Reference, on: Iterable[Reference]) -> None:
        """`reader` waits for `on`, and goes on without them in the end: that closes no cycle."""
        self.ended_wait(reader)
        self._passing[reader] = tuple(on)

    def ended_wait(self, reader: Reference) -> None:
        """`reader` waits for nobody any more."""
        self._waiting.pop(reader, None)
        self._passing.pop(reader, None)
        self._cycles.pop(reader, None)

    def unaware(self, cycle: Iterable[Reference]) -> list[Reference]:
        """Members of a cycle that have not been told of it."""
        return [member for member in cycle if member not in self._cycles]

    def freed(self) -> list[Reference]:
        """Objects that were told of a cycle that is none any more; each is returned once."""
        freed = [reader for reader in self._cycles if find_cycle(reader, self._waiting) != self._cycles[reader]]
        for reader in freed:
            del self._cycles[reader]
        return freed

    def waiting_on(self, reader: Reference) -> tuple[Reference, ...]:
        """What an object waits for directly."""
        return self._waiting.get(reader) or self._passing.get(reader, ())

    def blockers(self, reader: Reference) -> list[tuple[Reference, Reference]]:
        """Who waits for whom, from `reader` on, each pair once, nearest first: the view behind `explain`."""
        pairs: list[tuple[Reference, Reference]] = []
        seen, line = {reader}, [reader]
        for waiting in line:
            for blocker in self.waiting_on(waiting):
                pairs.append((waiting, blocker))
                if blocker not in seen:
                    seen.add(blocker)
                    line.append(blocker)
        return pairs


def find_cycle(start: Reference, edges: Mapping[Reference, Iterable[Reference]]) -> tuple[Reference, ...]:
    """The shortest way from `start` back to itself, turned so that it begins with its smallest member.

    The same cycle is thus the same tuple from wherever it is found. Empty when there is none.
    """
    came_from: dict[Reference, Reference] = {}
    line = [start]
    for node in line:
        for following in edges.get(node, ()):
            if following == start:
                return _turned(_path(node, start, came_from))
            if following not in came_from:
                came_from[following] = node
                line.append(following)
    return ()


def _path(end: Reference, start: Reference, came_from: Mapping[Reference, Reference]) -> list[Reference]:
    path = [end]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def _turned(cycle: list[Reference]) -> tuple[Reference, ...]:
    first = cycle.index(min(cycle))
    return (*cycle[first:], *cycle[:first])
