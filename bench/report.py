"""What the benchmark prints and writes: one measurement for each phase."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.processes import Usage


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One phase: `n` objects of work in `seconds`.

    `requests` (with `writes` and `dry_runs` as parts of it) are the engine's own; what it does besides its work is
    in `apart`. `mandatory_seconds` is what a client that makes only the unavoidable requests took (install only).
    `details` holds further times of a phase, in seconds.
    """

    phase: str
    n: int
    seconds: float
    mandatory_seconds: float | None = None
    requests: int
    writes: int
    dry_runs: int
    by_verb_resource: dict[str, int]
    apart: dict[str, int]
    processes: list[Usage]
    details: dict[str, float] = {}

    @property
    def per_app(self) -> float:
        """Requests for each of the n."""
        return self.requests / self.n


def write(measurements: Sequence[Measurement], path: Path) -> None:
    """All of it as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(measurements), indent=2) + b"\n")


def render(measurement: Measurement) -> str:
    """One phase for people."""
    lines = [_headline(measurement)]
    lines += [f"    {count:6d}  {request}" for request, count in sorted(measurement.by_verb_resource.items())]
    if measurement.apart:
        lines.append("    apart: " + ", ".join(f"{name} {count}" for name, count in measurement.apart.items()))
    if measurement.details:
        lines.append("    " + ", ".join(f"{name} {value:.2f} s" for name, value in measurement.details.items()))
    lines += [f"    {usage.name:32s} {usage.cpu_seconds:7.2f} s CPU {usage.peak_mib:8.1f} MiB"
              for usage in measurement.processes]
    return "\n".join(lines)


def _headline(measurement: Measurement) -> str:
    line = (f"{measurement.phase}: n={measurement.n} {measurement.seconds:.2f} s, {measurement.requests} requests "
            f"({measurement.per_app:.1f} each; {measurement.writes} writes, {measurement.dry_runs} dry runs)")
    if measurement.mandatory_seconds:
        ratio = measurement.seconds / measurement.mandatory_seconds
        line += f", mandatory {measurement.mandatory_seconds:.2f} s, ratio {ratio:.2f}"
    return line
