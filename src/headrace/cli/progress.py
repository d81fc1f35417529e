"""What `headrace up` shows while it works: a table that follows the objects on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from headrace.api.kinds import KINDS
from headrace.cli import kinds
from headrace.cli.settled import Standing, standing
from headrace.cli.view import FluxObject, shorten, view
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

_MARKS = {Standing.READY: "✔", Standing.MOVING: "◎", Standing.BLOCKED: "◎", Standing.FAILED: "✗"}
_COLOURS = {Standing.READY: "green", Standing.MOVING: "cyan", Standing.BLOCKED: "yellow", Standing.FAILED: "red"}


class Progress:
    """The objects as the watches show them. `changed` is set at every change and cleared by whoever waits for it."""

    def __init__(self) -> None:
        self.objects: dict[Reference, FluxObject] = {}
        self.changed = asyncio.Event()
        self._said: dict[Reference, str] = {}
        self._live: Any = None

    def observe(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        """A listener of the watches of the management cluster."""
        if reference.group_kind not in KINDS or reference.cluster or (new is not None and new.partial):
            return
        if new is None:
            if self.objects.pop(reference, None) is not None:
                self._say(reference, f"✔ {reference} deleted")
        else:
            try:
                self.objects[reference] = view(new)
            except msgspec.MsgspecError:
                return
            self._say(reference, _line(self.objects[reference]))
        self.changed.set()

    def note(self, text: str) -> None:
        """A line of its own, above the table."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table while the context is open, where there is a terminal."""
        if not sys.stdout.isatty():
            yield
            return
        from rich.live import Live

        with Live(get_renderable=self._table, refresh_per_second=8) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def _say(self, reference: Reference, line: str) -> None:
        """Print a line where there is no table, unless it says what the last one about the object said."""
        if not line or self._said.get(reference) == line:
            return
        self._said[reference] = line
        if self._live is None:
            print(line, flush=True)

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for column in ("", "NAME", "REVISION", "MESSAGE"):
            table.add_column(
                column, overflow="fold" if column == "MESSAGE" else "ellipsis", no_wrap=column != "MESSAGE"
            )
        for reference, obj in sorted(self.objects.items()):
            state = standing(obj)
            cells = (_MARKS[state], f"{reference.kind}/{reference.name}", shorten(obj.revision), shorten(obj.message))
            table.add_row(*(Text(cell, style=_COLOURS[state] if i == 0 else "") for i, cell in enumerate(cells)))
        return table


def _line(obj: FluxObject) -> str:
    """One line about an object; empty while its conditions say nothing about what is under way."""
    state = standing(obj)
    if obj.ready is None or (state is Standing.MOVING and not obj.reconciling and not obj.metadata.deleting):
        return ""
    if obj.metadata.deleting:
        return f"◎ {obj.reference} is being deleted"
    if state is Standing.READY and obj.revision:
        info = KINDS[obj.reference.group_kind]
        return f"{_MARKS[state]} {obj.reference} {kinds.verb_of(info)} revision {shorten(obj.revision)}"
    return f"{_MARKS[state]} {obj.reference} {obj.ready.reason}: {shorten(obj.message)}"
