"""flags: settings as options of a command."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from headrace.cli.flags import all_settings, normalise
from headrace.settings import LEAVES


def given(*argv: str) -> dict[str, str]:
    seen: dict[str, str] = {}
    app = typer.Typer()

    @app.command()
    @all_settings
    def run(fixed: str = "", **settings: str) -> None:
        seen.update(settings, fixed=fixed)

    result = CliRunner().invoke(app, normalise(argv))
    assert result.exit_code == 0, result.output
    return seen


def test_only_what_was_given_counts() -> None:
    assert given("--metrics-addr", ":1", "--fixed", "x") == {"metrics-addr": ":1", "fixed": "x"}


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("--enable-leader-election", True),
        ("--enable-leader-election=true", True),
        ("--enable-leader-election=false", False),
        ("--no-enable-leader-election", False),
    ],
)
def test_booleans_are_written_as_in_go(argument: str, wanted: bool) -> None:
    assert given(argument)["enable-leader-election"] is wanted


def test_every_setting_is_an_option() -> None:
    app = typer.Typer()
    app.command()(all_settings(lambda **settings: None))
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300"}).output
    assert all(f"--{leaf.flag}" in shown for leaf in LEAVES)
