"""Events to whoever is told of them by HTTP: upstream's notification-controller, in its own JSON (`--events-addr`).

They are sent from behind: an event goes into a queue of fixed length and the run that caused it goes on. A receiver
that is slow or gone costs memory for that queue, some events, and a line in the log, and holds up nobody (KS-OPS-04).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import OrderedDict, deque
from typing import Any, Self

import aiohttp
import msgspec

from headrace.core.clock import Clock, rfc3339
from headrace.core.egress import Answer, BodyTooLarge, Egress, EgressDenied, EgressPolicy, RemoteUrl, UrlRefused
from headrace.status.events import WARNING, EventRecord

log = logging.getLogger(__name__)

QUEUED = 1024
"""Events that wait; of more the oldest are given up."""
TRIES = 5
"""The first one and four more, as upstream."""
TIMEOUT = 5.0
"""Seconds of one try."""
PAUSES = (1.0, 30.0)
"""Seconds between tries: the first, doubled each time, and the longest."""
REPEATED_AFTER = 300.0
"""Seconds for which the same event is not told again: upstream's rate limit, which answers 429 to it."""
REMEMBERED = 4096
FAREWELL = 2.0
"""Seconds at the end for what is still queued."""

TRACES = frozenset({
    "ArtifactUpToDate", "GarbageCollectionSucceeded", "SymlinkUpdateFailed", "CacheOperationFailed",
    "ResolvedDependencies", "NoSourceArtifact",
})  # fmt: skip
"""Reasons of severity trace: for `kubectl describe`, told to nobody else (SRC-COM-27)."""


class Notifier:
    """An event sink that posts to one address; an async context manager, within which it works."""

    def __init__(self, url: RemoteUrl, clock: Clock, *, instance: str = "") -> None:
        self._url = url
        self._clock = clock
        self._instance = instance or socket.gethostname()
        # The address is the operator's: wherever it leads is meant.
        host = f"[{url.host}]" if ":" in url.host else url.host
        self._egress = Egress(EgressPolicy(allow_hosts=frozenset({f"{host}:{url.port}"})))
        self._queue: deque[EventRecord] = deque(maxlen=QUEUED)
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks = asyncio.TaskGroup()
        self._work: asyncio.Task[None] | None = None
        self._lost = 0

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._work = self._tasks.create_task(self._tell_all(), name="notifier")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._work is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self._idle.wait()
        self._work.cancel()
        await self._tasks.__aexit__(None, None, None)
        await self._egress.close()

    def __call__(self, record: EventRecord) -> None:
        """Have an event posted some time. Never blocks; traces and repetitions are left out."""
        if record.reason in TRACES or self._is_repeated(record):
            return
        if len(self._queue) == QUEUED:
            self._lost += 1
        self._queue.append(record)
        self._idle.clear()
        self._news.set()

    def _is_repeated(self, record: EventRecord) -> bool:
        key = (record.live.metadata.uid, record.type, record.reason, record.message,
               *(f"{name}={value}" for name, value in sorted(record.annotations.items())))
        last = self._told.get(key)
        if last is not None and record.at - last < REPEATED_AFTER:
            return True
        self._told[key] = record.at
        self._told.move_to_end(key)
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return False

    async def _tell_all(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue:
                await self._tell(self._queue.popleft())
            if self._lost:
                log.warning("events were given up: the receiver is too slow", extra={"events": self._lost})
                self._lost = 0
            self._idle.set()

    async def _tell(self, record: EventRecord) -> None:
        """Post one event, again when nobody answers or the receiver has failed, never when it has refused."""
        body, problem = msgspec.json.encode(self._encoded(record)), ""
        pause, longest = PAUSES
        for attempt in range(TRIES):
            if attempt:
                await self._clock.sleep(pause)
                pause = min(pause * 2, longest)
            try:
                answer = await self._post(body)
            except (aiohttp.ClientError, TimeoutError, OSError, EgressDenied, UrlRefused, BodyTooLarge) as error:
                problem = str(error) or type(error).__name__
                continue
            problem = "" if answer.status < 400 or answer.status == 429 else f"status {answer.status}"
            if answer.status < 500:
                break
        if problem:
            log.warning("event was not posted", extra={"object": str(record.live.reference), "error": problem})

    async def _post(self, body: bytes) -> Answer:
        return await self._egress.request(
            "POST", self._url, headers={"Content-Type": "application/json"}, body=body, timeout=TIMEOUT, follow=False)

    def _encoded(self, record: EventRecord) -> dict[str, Any]:
        """Upstream's event (event.toolkit.fluxcd.io/v1beta1)."""
        live = record.live
        return {
            "involvedObject": {
                "kind": live.reference.kind, "namespace": live.metadata.namespace, "name": live.metadata.name,
                "uid": live.metadata.uid, "apiVersion": live.api_version,
                "resourceVersion": live.metadata.resource_version,
            },
            "severity": "error" if record.type == WARNING else "info",
            "timestamp": rfc3339(record.at),
            "message": record.message,
            "reason": record.reason,
            "metadata": record.annotations,
            "reportingController": record.component,
            "reportingInstance": self._instance,
        }
