"""The benchmark's command line."""

from __future__ import annotations

import pytest

from bench.options import PHASES, parse


def test_all_phases_run_unless_some_are_named() -> None:
    assert parse(["--n", "20"]).phases == PHASES
    assert parse(["--phases", "idle,install"]).phases == ("install", "idle")


@pytest.mark.parametrize("argv", [
    pytest.param(["--phases", "instal"], id="unknown phase"),
    pytest.param(["--phases", "commit"], id="commit without install"),
    pytest.param(["--n", "0"], id="no apps"),
])
def test_a_bad_command_line_is_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(argv)
