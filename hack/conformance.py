"""Counts the rows of docs/conformance that the last full test run has proven: a line per area, `KS 120/163`.

`--missing` names the rows that are not proven. The records are what `make test` leaves in the results directory.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

ROWS = Path(__file__).resolve().parent.parent / "docs" / "conformance"
ROW = re.compile(r"^\| ([A-Z][A-Z0-9]*)(-[A-Z0-9-]*\d+) \| (.*) \| (same|better|strict) \|$", re.MULTILINE)


def listed(directory: Path = ROWS) -> dict[str, dict[str, str]]:
    """Area -> row -> the behaviour that it states."""
    areas: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted(directory.glob("*.md")):
        for area, rest, behaviour, _ in ROW.findall(path.read_text()):
            areas[area][area + rest] = behaviour
    return dict(areas)


def proven(records: Iterable[Path]) -> set[str]:
    """Rows with at least one passed test and no failed one, over all records of a run."""
    outcomes: dict[str, list[str]] = defaultdict(list)
    for path in records:
        for row, tests in json.loads(path.read_text())["rows"].items():
            outcomes[row] += tests.values()
    return {row for row, results in outcomes.items() if "passed" in results and "failed" not in results}


def main(arguments: Sequence[str]) -> int:
    records = sorted(Path(arguments[-1]).glob("*.json"))
    if not records:
        print("no record of a test run: run `make test` first", file=sys.stderr)
    rows = proven(records)
    for area, behaviours in listed().items():
        print(f"{area} {len(rows & behaviours.keys())}/{len(behaviours)}")
        if "--missing" in arguments:
            for row, behaviour in behaviours.items():
                if row not in rows:
                    print(f"  {row}  {behaviour}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
