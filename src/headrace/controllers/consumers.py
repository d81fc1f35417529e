"""Whom a new content of a source concerns: deliveries that read something else in it than in the content before.

Known before anybody is woken, so that the delivery a commit is about goes first, and the others just take note.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import PurePosixPath

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

    def may_concern(self, readers: Iterable[Reference], touched: frozenset[str]) -> bool:
        """Whether any of `readers` has read one of these paths, or may have."""
        return any(
            reader not in self._reads or any(read.path in touched for read in self._reads[reader])
            for reader in readers
        )

    async def unconcerned(self, readers: Iterable[Reference], tree: Tree) -> frozenset[Reference]:
        """Those of `readers` for whom the files of `tree` are what they have delivered already."""
        known = {reader: self._reads[reader] for reader in readers if reader in self._reads}
        return await asyncio.to_thread(_unconcerned, known, tree) if known else frozenset()


def with_parents(paths: Iterable[str]) -> frozenset[str]:
    """The paths, and the directories above them, whose listings they may change."""
    found = set(paths)
    for path in tuple(found):
        found.update(str(parent) for parent in PurePosixPath(path).parents)
    return frozenset(found | {""})


def _unconcerned(known: dict[Reference, tuple[FileRead, ...]], tree: Tree) -> frozenset[Reference]:
    files = Files(tree)
    return frozenset(reader for reader, reads in known.items() if files.changed(reads) is None)
