"""Whom a new content of a source concerns: deliveries that read something else in it than in the content before.

Known before anybody is woken, so that the delivery a commit is about goes first, and the others just take note.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from headrace.model.artifact import Tree
from headrace.model.manifests import FileRead
from headrace.model.reference import Reference
from headrace.render.reads import Files


class Consumers:
    """What each delivery read last, of those whose last delivery is complete. One for all controllers."""

    def __init__(self) -> None:
        self._reads: dict[Reference, tuple[FileRead, ...]] = {}

    def delivered(self, consumer: Reference, reads: tuple[FileRead, ...]) -> None:
        """A delivery is complete, and is made from these."""
        self._reads[consumer] = reads

    def forget(self, consumer: Reference) -> None:
        """Nothing is known of the consumer any more: whatever comes concerns it."""
        self._reads.pop(consumer, None)

    async def unconcerned(self, readers: Iterable[Reference], tree: Tree) -> frozenset[Reference]:
        """Those of `readers` for whom the files of `tree` are what they have delivered already."""
        known = {reader: self._reads[reader] for reader in readers if reader in self._reads}
        return await asyncio.to_thread(_unconcerned, known, tree) if known else frozenset()


def _unconcerned(known: dict[Reference, tuple[FileRead, ...]], tree: Tree) -> frozenset[Reference]:
    files = Files(tree)
    return frozenset(reader for reader, reads in known.items() if files.changed(reads) is None)
