"""`status.inventory` in upstream's format, and set operations on it (spec KS-INV-01..04).

An id is `<namespace>_<name>_<group>_<kind>`; a colon, which only names of RBAC objects may hold, is written `__`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from headrace.model.plan import InventoryEntry
from headrace.model.reference import Reference

Entries = tuple[InventoryEntry, ...]


class UnreadableEntryError(ValueError):
    """An inventory id that is not in the known format: nothing is deleted because of it (REL-37)."""


def entry(reference: Reference, version: str) -> InventoryEntry:
    """The entry of one object; `version` is the API version without its group."""
    name = reference.name.replace(":", "__")
    return InventoryEntry(f"{reference.namespace}_{name}_{reference.group}_{reference.kind}", version)


def parse(entry_id: str, version: str, cluster: str = "") -> tuple[Reference, str]:
    """The object an entry names and its version. Raises UnreadableEntryError when the id has another form."""
    namespace, first, rest = entry_id.partition("_")
    rest, second, kind = rest.rpartition("_")
    name, third, group = rest.rpartition("_")
    if not (first and second and third and name and kind):
        raise UnreadableEntryError(f"inventory entry '{entry_id[:256]}' is not <namespace>_<name>_<group>_<kind>")
    return Reference(group, kind, namespace, name.replace("__", ":"), cluster), version


def readable(entries: Iterable[InventoryEntry], cluster: str = "") -> Iterator[tuple[InventoryEntry, Reference]]:
    """The entries with the objects that they name, those that cannot be read left out."""
    for each in entries:
        with contextlib.suppress(UnreadableEntryError):
            yield each, parse(each.id, each.v, cluster)[0]


def union(old: Iterable[InventoryEntry], new: Iterable[InventoryEntry]) -> Entries:
    """What is owned while a run is under way: a version change keeps one entry, the new one."""
    merged = {e.id: e for e in old}
    merged.update((e.id, e) for e in new)
    return tuple(sorted(merged.values()))


def stale(old: Iterable[InventoryEntry], new: Iterable[InventoryEntry]) -> Entries:
    """What was owned and is wanted no more. A change of version alone makes nothing stale (spec 3.5); neither does a
    namespace that an entry has from a time when nobody knew that its kind has none: it names the same object."""
    wanted = {e.id for e in new}
    return tuple(sorted(e for e in old if wanted.isdisjoint((e.id, _without_namespace(e.id)))))


def _without_namespace(entry_id: str) -> str:
    _, separator, rest = entry_id.partition("_")
    return separator + rest
