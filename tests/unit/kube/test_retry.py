from __future__ import annotations

import pytest

from headrace.core.random import Random
from headrace.kube.errors import ApiError, Conflict, ServerError, TooManyRequests
from headrace.kube.retry import delay_after_answer, delay_after_reset, retry_after

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 10 ", 10.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@pytest.mark.spec("REL-20")
@pytest.mark.parametrize(
    "error",
    [
        TooManyRequests(429, "", "", retry_after=5.0),
        ServerError(503, "", "", retry_after=5.0),
        ServerError(500, "", "", retry_after=5.0),
    ],
)
def test_nobody_comes_back_before_the_time_named_and_not_all_at_once(error: ApiError) -> None:
    delays = [delay_after_answer(error, 1, Random(seed)) for seed in range(50)]
    assert all(delay is not None and 5.0 <= delay <= 6.25 for delay in delays)
    assert len(set(delays)) > 40


@pytest.mark.parametrize(
    "error", [ServerError(500, "", ""), Conflict(409, "", ""), Conflict(409, "", "", retry_after=1)]
)
def test_other_answers_are_the_callers_to_handle(error: ApiError) -> None:
    assert delay_after_answer(error, 1, Random(1)) is None


def test_without_a_time_the_delay_grows_to_a_limit() -> None:
    error = TooManyRequests(429, "", "")
    delays = [delay_after_answer(error, attempt, Random(1)) or 0.0 for attempt in (1, 2, 3, 4, 10)]
    assert delays == sorted(delays)
    assert delays[-1] <= 8.0


def test_broken_connections_are_tried_again_three_times() -> None:
    assert [delay_after_reset(attempt, Random(1)) is not None for attempt in (1, 2, 3, 4)] == [True, True, True, False]
