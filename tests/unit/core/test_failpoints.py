"""Failpoints: nothing without the variable, exactly what is asked with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from headrace.core import failpoints
from headrace.core.failpoints import FailpointError, failpoint, failpoint_async


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    yield
    failpoints.configure("")


def test_a_point_that_is_not_set_does_nothing() -> None:
    failpoints.configure("other:raise")
    failpoint("point")


def test_a_point_raises_from_the_passage_that_is_named() -> None:
    failpoints.configure("point:raise@2")
    failpoint("point")
    with pytest.raises(FailpointError, match="point"):
        failpoint("point")


async def test_an_asynchronous_point_raises_too() -> None:
    failpoints.configure("a:sleep=0,b:raise")
    await failpoint_async("a")
    with pytest.raises(FailpointError):
        await failpoint_async("b")


@pytest.mark.parametrize("text", ["point", "point:burn", ":kill", "point:sleep=x"])
def test_a_misspelt_variable_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        failpoints.configure(text)


def test_a_kill_is_immediate() -> None:
    script = "from headrace.core.failpoints import failpoint\ntry:\n failpoint('p')\nfinally:\n print('cleaned up')"
    done = subprocess.run([sys.executable, "-c", script], env={"HEADRACE_FAIL": "p:kill", "PYTHONPATH": "src"},
                          capture_output=True, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (-9, b"")
