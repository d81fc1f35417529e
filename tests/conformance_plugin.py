"""pytest plugin: records which rows of docs/conformance the run has proven.

A test claims rows with `@pytest.mark.spec("KS-HC-04")`. A row is proven when at least one of its tests passed and
none failed; skipped tests and those expected to fail prove nothing. `--conformance FILE` writes the record that
`make conformance` counts. A row that docs/conformance does not list is an error: ids never move, so it is a typo.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROWS = Path(__file__).resolve().parent.parent / "docs" / "conformance"
ROW = re.compile(r"^\| ([A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*-\d+) \|", re.MULTILINE)


def listed_rows(directory: Path = ROWS) -> set[str]:
    return {row for path in directory.glob("*.md") for row in ROW.findall(path.read_text())}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance", metavar="FILE", help="write the rows that this run proves to FILE")


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    file = config.getoption("--conformance")
    if file and not is_worker:
        config.pluginmanager.register(Record(Path(file)), "headrace-conformance-record")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Attaches the claimed rows to each test, so that they travel with its reports (from xdist's workers too)."""
    known = listed_rows()
    for item in items:
        rows = [row for marker in item.iter_markers("spec") for row in marker.args]
        if unknown := sorted(set(rows) - known):
            raise pytest.UsageError(f"{item.nodeid} claims rows that docs/conformance does not list: {unknown}")
        if rows:
            item.user_properties.append(("spec", sorted(set(rows))))


class Record:
    """Collects the results of the tests that claim rows."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.results: dict[str, dict[str, str]] = {}
        """Row -> test -> passed, failed or neither."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, rows in report.user_properties:
            if name == "spec":
                self._note(report, rows)  # type: ignore[arg-type]

    def _note(self, report: pytest.TestReport, rows: list[str]) -> None:
        """A failure in set-up or tear-down counts as much as one in the test itself."""
        for row in rows:
            tests = self.results.setdefault(row, {})
            if report.failed:
                tests[report.nodeid] = "failed"
            elif report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
                tests.setdefault(report.nodeid, "passed")
            else:
                tests.setdefault(report.nodeid, "neither") if report.skipped else None

    def pytest_sessionfinish(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        record: dict[str, Any] = {"rows": dict(sorted(self.results.items()))}
        self.file.write_text(json.dumps(record, indent=1) + "\n")
