"""What the engine tells about itself while it works; `edge` turns it into Prometheus metrics."""

from __future__ import annotations

from typing import Protocol

from headrace.model.reference import Reference
from headrace.model.trace import Trace


class Metrics(Protocol):
    """Called on the event loop: must be quick and must not raise."""

    def finished(self, trace: Trace) -> None:
        """A run ended: `gotk_reconcile_duration_seconds{kind,namespace,name}`, results, reasons, causes."""
        ...

    def looked(self, reference: Reference, seconds: float) -> None:
        """An object was seen to need no run: a reconciliation too, for `gotk_reconcile_duration_seconds`."""
        ...

    def forgotten(self, reference: Reference) -> None:
        """The object is gone: its series are dropped (kustomization.md section 6)."""
        ...

    def queued(self, depth: int, running: int, waiting: int) -> None:
        """Objects in the queue, runs that hold a slot, runs that wait without one."""
        ...

    def picked(self, lane: int, seconds: float) -> None:
        """A run started after so many seconds in the queue."""
        ...

    def unattended(self, count: int) -> None:
        """Objects neither Stalled nor suspended that have no timer, are not queued and not running: always 0."""
        ...

    def stalled_loop(self, seconds: float) -> None:
        """The event loop was blocked for so long."""
        ...


class NoMetrics:
    """Metrics for whom nobody looks."""

    def finished(self, trace: Trace) -> None:
        return None

    def looked(self, reference: Reference, seconds: float) -> None:
        return None

    def forgotten(self, reference: Reference) -> None:
        return None

    def queued(self, depth: int, running: int, waiting: int) -> None:
        return None

    def picked(self, lane: int, seconds: float) -> None:
        return None

    def unattended(self, count: int) -> None:
        return None

    def stalled_loop(self, seconds: float) -> None:
        return None
