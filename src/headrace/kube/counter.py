"""Counts of the requests that were put on the wire: the honest cost of what the engine does, and a metric."""

from __future__ import annotations

import contextlib
import contextvars
from collections import Counter
from collections.abc import Iterator

import msgspec

WORK = ""
"""Reads and writes that the work itself needs."""
LEASE = "lease"
DISCOVERY = "discovery"
WATCH = "watch"
"""List and watch of the caches."""
PROGRESS = "progress"
"""Progress conditions of long runs."""


class RequestKey(msgspec.Struct, frozen=True, gc=False, order=True):
    """What a request did. `verb` is that of the API server's audit log: get, list, watch, create, update,
    patch, delete, deletecollection."""

    verb: str
    resource: str = ""
    subresource: str = ""
    dry_run: bool = False
    purpose: str = WORK


class Tally:
    """How many requests one run made, with all tasks that it started."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.requests = 0


_tally: contextvars.ContextVar[Tally | None] = contextvars.ContextVar("headrace_kube_tally", default=None)


@contextlib.contextmanager
def tallied() -> Iterator[Tally]:
    """Count the requests made within, in this task and in tasks started from it."""
    tally = Tally()
    token = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(token)


class RequestCounter:
    """Counted is each request that was sent, retries too. Shared by every client of a process."""

    def __init__(self) -> None:
        self._requests: Counter[RequestKey] = Counter()
        self._codes: Counter[tuple[str, str]] = Counter()

    def sent(self, key: RequestKey) -> None:
        """A request is about to leave."""
        self._requests[key] += 1
        tally = _tally.get()
        if tally is not None:
            tally.requests += 1

    def answered(self, method: str, code: str) -> None:
        """The status code that came back, or `<error>` (upstream's rest_client_requests_total)."""
        self._codes[method, code] += 1

    def snapshot(self) -> dict[RequestKey, int]:
        """The counts so far; two snapshots subtract."""
        return dict(self._requests)

    def codes(self) -> dict[tuple[str, str], int]:
        """Answers by (HTTP method, status code)."""
        return dict(self._codes)

    def total(self, *, purpose: str | None = None) -> int:
        """All requests, or those of one purpose."""
        return sum(n for key, n in self._requests.items() if purpose is None or key.purpose == purpose)


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "HEAD": "get"}


def request_key(method: str, path: str, query: dict[str, str] | None, purpose: str = WORK) -> RequestKey:
    """The key of a request to any path, read from it as the API server reads it."""
    resource, name, subresource = _parts(path)
    dry_run = bool(query) and "dryRun" in (query or {})
    return RequestKey(_verb(method, resource, name, query or {}), resource, subresource, dry_run, purpose)


def _verb(method: str, resource: str, name: str, query: dict[str, str]) -> str:
    if method == "DELETE":
        return "delete" if name or not resource else "deletecollection"
    if method == "GET" and resource and not name:
        return "watch" if query.get("watch") in ("1", "true") else "list"
    return _VERBS.get(method, "get")


def _parts(path: str) -> tuple[str, str, str]:
    """(resource, name, subresource) of a request path; empty for what is no resource (`/apis`,
    `/healthz`)."""
    segments = path.strip("/").split("/")
    if segments[0] == "api" and len(segments) > 2:
        rest = segments[2:]
    elif segments[0] == "apis" and len(segments) > 3:
        rest = segments[3:]
    else:
        return "", "", ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        rest = rest[2:]
    padded = [*rest, "", ""]
    return padded[0], padded[1], padded[2]
