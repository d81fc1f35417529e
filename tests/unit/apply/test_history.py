import pytest

from headrace.api.kustomization import Snapshot
from headrace.apply.history import record

NOW = 1_795_000_000.0


def run(history: tuple[Snapshot, ...], digest: str, status: str = "ReconciliationSucceeded") -> tuple[Snapshot, ...]:
    return record(history, digest=digest, status=status, now=NOW + 60 * len(history), duration=1.5,
                  metadata={"revision": f"main@{digest}"})


@pytest.mark.spec("KS-REC-12")
def test_a_repeated_delivery_is_counted_and_moves_to_the_front() -> None:
    history = run(run(run((), "a"), "b"), "a")
    assert [(s.digest, s.total_reconciliations) for s in history] == [("a", 2), ("b", 1)]
    assert history[0].first_reconciled < history[0].last_reconciled
    assert history[0].last_reconciled_duration == "1.5s"
    assert history[0].metadata == {"revision": "main@a"}


@pytest.mark.spec("KS-REC-12")
def test_another_result_of_the_same_manifests_is_another_entry() -> None:
    history = run(run((), "a", "HealthCheckFailed"), "a")
    assert [s.last_reconciled_status for s in history] == ["ReconciliationSucceeded", "HealthCheckFailed"]


@pytest.mark.spec("KS-REC-12")
def test_five_entries_are_kept() -> None:
    history: tuple[Snapshot, ...] = ()
    for digest in "abcdefg":
        history = run(history, digest)
    assert [s.digest for s in history] == ["g", "f", "e", "d", "c"]
