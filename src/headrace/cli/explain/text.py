"""Prints findings: the chain, the root cause, since when, the next wake-up, and the one thing that unblocks."""

from __future__ import annotations

from typing import Any

from headrace.cli.explain.verdict import State
from headrace.cli.explain.walk import Finding
from headrace.core.clock import parse_rfc3339
from headrace.core.duration import format_duration

_WORDS = {
    State.READY: "is Ready",
    State.SUSPENDED: "is suspended",
    State.PROGRESSING: "is not ready yet",
    State.WAITING: "is waiting",
    State.FAILED: "is failing",
    State.DELETING: "is being deleted",
    State.MISSING: "is missing",
    State.UNREADABLE: "cannot be read",
}


def lines(finding: Finding, now: float) -> list[str]:
    """The explanation for people."""
    chain = [_headline(finding, now), *_children(finding, now, "")]
    if finding.sound and not finding.causes:
        return [*chain, *_next_run(finding, now)]
    return [*chain, "", *_summary(finding, now)]


def _summary(finding: Finding, now: float) -> list[str]:
    root, verdict = finding.root, finding.root.verdict
    cause = f"root cause: {root.reference}: {_reason(root)}"
    summary = [cause]
    if verdict.file:
        summary.append(f"file: {verdict.file}")
    since = _oldest(finding)
    if since:
        summary.append(f"blocked since: {since} ({ago(since, now)})")
    return [*summary, *_next_run(finding, now), f"to unblock: {unblock(finding)}"]


def unblock(finding: Finding) -> str:
    """The one thing to do: that of the root cause, or of the nearest finding above it that knows one."""
    path: list[Finding] = [finding]
    while worst := next((cause for cause in path[-1].causes if not cause.sound), None):
        path.append(worst)
    known = [step.verdict.unblock for step in reversed(path) if step.verdict.unblock]
    return known[0] if known else "nothing: it is under way"


def ago(since: str, now: float) -> str:
    """`3m12s`, or `moments` for a time that cannot be read."""
    try:
        return format_duration(max(0, int(now - parse_rfc3339(since))))
    except ValueError:
        return "moments"


def encode(finding: Finding) -> dict[str, Any]:
    """The explanation for programs: the chain with the root cause beside it."""
    return {
        **_encode(finding),
        "rootCause": {"object": str(finding.root.reference), "reason": finding.root.verdict.reason,
                      "message": finding.root.verdict.message, "file": finding.root.verdict.file},
        "blockedSince": "" if finding.sound else _oldest(finding),
        "unblock": "" if finding.sound else unblock(finding),
    }  # fmt: skip


def _encode(finding: Finding) -> dict[str, Any]:
    verdict, run = finding.verdict, finding.next_run
    return {
        "object": str(finding.reference),
        "state": verdict.state.value,
        "reason": verdict.reason,
        "message": verdict.message,
        "since": verdict.since,
        "file": verdict.file,
        "event": finding.event.message if finding.event else "",
        "nextRun": {"at": run.at, "waitingOn": list(run.waiting_on), "running": run.running} if run else None,
        "causes": [_encode(cause) for cause in finding.causes],
    }


def _oldest(finding: Finding) -> str:
    """Since when the object that was asked about is not ready."""
    return finding.verdict.since or finding.root.verdict.since


def _headline(finding: Finding, now: float) -> str:
    verdict = finding.verdict
    since = f" for {ago(verdict.since, now)}" if verdict.since and not finding.sound else ""
    return f"{finding.reference} {_WORDS[verdict.state]}{since}: {_reason(finding)}"


def _reason(finding: Finding) -> str:
    verdict = finding.verdict
    text = " ".join(verdict.message.split())
    if finding.event and finding.event.message not in text:
        text = f"{text}; {finding.event.reason}: {finding.event.message}"
    return f"{verdict.reason}: {text}" if verdict.reason and text else verdict.reason or text


def _children(finding: Finding, now: float, indent: str) -> list[str]:
    out: list[str] = []
    for number, cause in enumerate(finding.causes, start=1):
        last = number == len(finding.causes)
        out.append(f"{indent}{'└── ' if last else '├── '}{_headline(cause, now)}")
        out.extend(_children(cause, now, indent + ("    " if last else "│   ")))
    return out


def _next_run(finding: Finding, now: float) -> list[str]:
    run = finding.next_run
    if run is None:
        return []
    if run.running:
        return ["next wake-up: it is running now"]
    events = f"on a change of {', '.join(run.waiting_on)}" if run.waiting_on else "on a change of what it read"
    if not run.at:
        return [f"next wake-up: {events}"]
    seconds = max(0, int(parse_rfc3339(run.at) - now))
    return [f"next wake-up: {events}, at the latest in {format_duration(seconds)}"]
