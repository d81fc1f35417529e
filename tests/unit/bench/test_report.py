"""What the benchmark writes."""

from __future__ import annotations

import json
from pathlib import Path

from bench.processes import Usage
from bench.report import Measurement, render, write

MEASUREMENT = Measurement(
    phase="install", n=2, seconds=3.0, mandatory_seconds=2.0, requests=30, writes=22, dry_runs=8,
    by_verb_resource={"patch deployments": 2}, apart={"leases": 1},
    processes=[Usage("engine", 0.5, 80.0)],
)


def test_the_file_is_a_list_with_the_documented_fields(tmp_path: Path) -> None:
    write([MEASUREMENT], tmp_path / "out" / "bench.json")
    (entry,) = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert {"phase", "n", "seconds", "mandatory_seconds", "requests", "writes", "dry_runs", "by_verb_resource",
            "processes"} <= entry.keys()
    assert entry["processes"] == [{"name": "engine", "cpu_seconds": 0.5, "peak_mib": 80.0}]


def test_the_headline_says_what_one_app_costs_and_how_far_from_the_floor_it_is() -> None:
    headline = render(MEASUREMENT).splitlines()[0]
    assert "15.0 each" in headline
    assert "ratio 1.50" in headline
