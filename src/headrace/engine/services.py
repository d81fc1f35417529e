"""What runs share: the parts of one engine, bundled so that scope, runner and engine name them once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.core.clock import Clock
from headrace.engine.contents import Contents
from headrace.engine.graph import Graph
from headrace.engine.metrics import Metrics
from headrace.engine.progress import Reporter
from headrace.engine.queue import Queue
from headrace.engine.reader import FinalizerWriter, Reader
from headrace.engine.settings import EngineSettings
from headrace.engine.slots import Slots
from headrace.model.reference import Reference
from headrace.model.scope import StatusWriter


class Spawn(Protocol):
    """Starts a task that lives no longer than the engine; what it runs must not raise."""

    def __call__(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """One of each for an engine."""

    reader: Reader
    finalizers: FinalizerWriter
    writer: StatusWriter
    contents: Contents
    graph: Graph
    queue: Queue
    slots: Slots
    reporter: Reporter
    clock: Clock
    metrics: Metrics
    settings: EngineSettings
    spawn: Spawn
    hasten: Callable[[Reference], None]
    """Moves an object from the last lane to where a new revision goes."""
