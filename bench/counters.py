"""Reads the engine's own request counter and sorts what it counted.

The engine exposes `headrace_api_requests_total{verb,resource,subresource,dry_run,purpose}`; a phase costs the
difference between two readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

METRIC = "headrace_api_requests_total"


class Request(NamedTuple):
    """The labels of the counter: one sort of request."""

    verb: str
    resource: str
    subresource: str
    dry_run: bool
    purpose: str

    def __str__(self) -> str:
        """`patch deployments (dry run)`, `patch kustomizations/status`."""
        target = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {target}" + (" (dry run)" if self.dry_run else "")


class Tally(msgspec.Struct, frozen=True):
    """What a phase cost in requests.

    `requests` is everything but what is in `apart`; `dry_runs` and `writes` are parts of it. `apart` holds what an
    engine does besides its work: leases, discovery, list, watch and progress patches.
    """

    requests: int
    writes: int
    dry_runs: int
    by_verb_resource: dict[str, int]
    apart: dict[str, int]


def parse(text: str) -> Counter[Request]:
    """The counter out of a metrics page."""
    counted: Counter[Request] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == METRIC:
                counted[_request(sample.labels)] += int(sample.value)
    return counted


def tally(before: Mapping[Request, int], after: Mapping[Request, int]) -> Tally:
    """What was requested between two readings."""
    work: Counter[str] = Counter()
    apart: Counter[str] = Counter()
    writes = dry_runs = 0
    for request, count in sorted(after.items()):
        spent = count - before.get(request, 0)
        if spent <= 0:
            continue
        if besides := _besides(request):
            apart[besides] += spent
            continue
        work[str(request)] += spent
        dry_runs += spent if request.dry_run else 0
        writes += spent if request.verb != "get" and not request.dry_run else 0
    return Tally(work.total(), writes, dry_runs, dict(work), dict(apart))


def _request(labels: Mapping[str, str]) -> Request:
    return Request(labels.get("verb", ""), labels.get("resource", ""), labels.get("subresource", ""),
                   labels.get("dry_run", "") == "true", labels.get("purpose", ""))


def _besides(request: Request) -> str:
    """The name under which a request is counted apart, empty when it is part of the work."""
    if request.purpose == "lease":
        return "leases"
    if request.verb in ("list", "watch"):
        return request.verb
    return request.purpose if request.purpose in ("discovery", "progress") else ""
