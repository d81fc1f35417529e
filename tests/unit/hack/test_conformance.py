"""The record of proven rows counts what passed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hack import conformance
from tests.conformance_plugin import Record, listed_rows


def report(node: str, outcome: str, rows: tuple[str, ...], when: str = "call", **extra: Any) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=node, location=("", 0, ""), keywords={}, outcome=outcome, longrepr=None, when=when,  # type: ignore[arg-type]
        user_properties=[("spec", list(rows))], **extra,
    )  # fmt: skip


def passed(node: str, *rows: str) -> list[pytest.TestReport]:
    return [report(node, "passed", rows, when) for when in ("setup", "call", "teardown")]


def proven_by(tmp_path: Path, *reports: pytest.TestReport) -> set[str]:
    record = Record(tmp_path / "run.json")
    for one in reports:
        record.pytest_runtest_logreport(one)
    record.pytest_sessionfinish()
    return conformance.proven([tmp_path / "run.json"])


def test_a_passed_test_proves_all_its_rows(tmp_path):
    assert proven_by(tmp_path, *passed("a", "KS-HC-01", "KS-HC-02")) == {"KS-HC-01", "KS-HC-02"}


def test_one_failed_test_of_a_row_outweighs_the_passed_ones(tmp_path):
    assert proven_by(tmp_path, *passed("a", "KS-HC-01"), report("b", "failed", ("KS-HC-01",))) == set()


@pytest.mark.parametrize("when", ["setup", "teardown"])
def test_a_failure_around_the_test_counts_as_one(tmp_path, when):
    assert proven_by(tmp_path, *passed("a", "KS-HC-01"), report("a", "failed", ("KS-HC-01",), when)) == set()


def test_skipped_and_expected_failures_prove_nothing(tmp_path):
    skipped = report("a", "skipped", ("KS-HC-01",), "setup")
    expected = report("b", "skipped", ("KS-HC-02",))
    expected.wasxfail = "reason"  # type: ignore[attr-defined]
    surprising = report("c", "passed", ("KS-HC-03",))
    surprising.wasxfail = "reason"  # type: ignore[attr-defined]
    assert proven_by(tmp_path, skipped, expected, surprising) == set()


def test_records_of_the_parts_of_a_run_are_taken_together(tmp_path):
    for name, result in (("unit", "passed"), ("cluster", "failed")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": {"KS-HC-01": {name: result}, name: {"x": result}}}))
    assert conformance.proven(tmp_path.glob("*.json")) == {"unit"}


def test_the_count_names_what_is_missing(tmp_path, capsys):
    assert conformance.main(["--missing", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "KS 0/163\n  KS-SPEC-01  interval, prune, sourceRef required" in out


def test_every_row_is_listed_once_and_in_the_form_that_is_counted():
    counted = [row for behaviours in conformance.listed().values() for row in behaviours]
    assert set(counted) == listed_rows()
    assert sum(len(list(conformance.ROW.finditer(path.read_text()))) for path in conformance.ROWS.glob("*.md")) == len(
        counted
    )
    assert len(counted) > 1000


def test_a_row_that_is_not_listed_fails_the_collection(pytester):
    pytester.makeconftest("pytest_plugins = ('tests.conformance_plugin',)")
    pytester.makepyfile("import pytest\n@pytest.mark.spec('KS-NONE-99')\ndef test_x(): pass\n")
    result = pytester.runpytest("-W", "ignore")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*KS-NONE-99*"])


def test_a_run_leaves_the_record(pytester):
    pytester.makeconftest("pytest_plugins = ('tests.conformance_plugin',)")
    pytester.makepyfile("import pytest\n@pytest.mark.spec('KS-HC-01', 'KS-HC-02')\ndef test_x(): pass\n")
    pytester.runpytest("-W", "ignore", "--conformance", "out/run.json")
    assert conformance.proven([pytester.path / "out" / "run.json"]) == {"KS-HC-01", "KS-HC-02"}
