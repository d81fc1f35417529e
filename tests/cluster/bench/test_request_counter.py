"""The engine's own request counter against the API server's audit log.

Every figure of the benchmark comes from that counter; here it is checked by somebody who has no interest in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bench.cluster import ENGINE_USER
from bench.counters import Request
from bench.options import Options
from bench.run import run_observed


async def test_the_engine_counts_each_of_its_requests_as_the_api_server_logs_them(tmp_path: Path) -> None:
    audit = tmp_path / "audit.log"
    options = Options(n=3, phases=("install", "upgrade", "reconcile", "chain"), audit=audit, timeout=60.0, floor=False)
    _, counted = await run_observed(options)
    logged = audited(audit.read_text().splitlines())
    assert work(counted) == work(logged)
    assert work(counted)[Request("patch", "deployments", "", True, "")] >= 3


def audited(lines: Iterable[str]) -> Counter[Request]:
    """What the API server logged of the engine's user, once for each request whatever stages it went through."""
    events = (json.loads(line) for line in lines)
    requests = {event["auditID"]: event for event in events if event["user"]["username"] == ENGINE_USER}
    return Counter(logged(event) for event in requests.values())


def logged(event: Mapping[str, object]) -> Request:
    """One audit event in the counter's terms; the log knows no purpose."""
    target = event.get("objectRef") or {}
    assert isinstance(target, dict)
    query = parse_qs(urlsplit(str(event["requestURI"])).query)
    return Request(str(event["verb"]), target.get("resource", ""), target.get("subresource", ""), "dryRun" in query, "")


def work(counted: Mapping[Request, int]) -> Counter[Request]:
    """Without purposes, and without what goes on beside the work while the engine is asked for its counter: lists and
    watches that are renewed, the lease, discovery."""
    kept: Counter[Request] = Counter()
    for request, count in counted.items():
        if request.verb not in ("list", "watch") and request.resource not in ("leases", ""):
            kept[request._replace(purpose="")] += count
    return kept
