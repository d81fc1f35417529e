"""Durations, timestamps, backoff: what people write and read."""

from __future__ import annotations

import pytest

from headrace.core.backoff import Backoff
from headrace.core.clock import parse_rfc3339, rfc3339
from headrace.core.duration import format_duration, parse_duration
from headrace.core.random import Random


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h30m", 5400.0), ("1m0s", 60.0), ("500ms", 0.5), ("1.5h", 5400.0), ("0s", 0.0), ("1m1m", 120.0)],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "-5s", "1d", "1ns", "1e9h", "s", "1h ", "99999999999h", "１s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (60, "1m0s"),
        (3600, "1h0m0s"), (90, "1m30s"), (1.5, "1.5s"), (0.75, "750ms"), (5400.25, "1h30m0.25s"),
        (0.0000015, "1.5µs"), (1e-9, "1ns"), (-2, "-2s"),
    ],
)  # fmt: skip
def test_a_duration_is_printed_as_go_prints_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_times_go_there_and_back() -> None:
    assert rfc3339(1_795_261_662.9) == "2026-11-21T11:47:42Z"
    assert parse_rfc3339("2026-11-21T11:47:42Z") == 1_795_261_662
    assert parse_rfc3339("2026-11-21T13:47:42.5+02:00") == 1_795_261_662.5


@pytest.mark.parametrize("text", ["", "2026-11-21", "2026-11-21T11:47:42", "yesterday", "2026-13-21T11:47:42Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_rfc3339(text)


@pytest.mark.spec("SRC-COM-07")
def test_delays_double_from_the_minimum_to_the_maximum() -> None:
    backoff = Backoff(0.75, 900.0, Random(1))
    delays = [backoff.delay(failures) for failures in range(1, 30)]
    for doublings, delay in enumerate(delays):
        assert delay == pytest.approx(min(0.75 * 2**doublings, 900.0), rel=0.1)
        assert 0.75 <= delay <= 900.0


def test_delays_are_spread_so_that_nobody_returns_together() -> None:
    backoff = Backoff(random=Random(1))
    assert len({backoff.delay(5) for _ in range(20)}) == 20
