from __future__ import annotations

import pytest

from headrace.api.meta import StatusCondition
from headrace.model.outcome import Condition
from headrace.status.conditions import LONGEST, changed, cut, decode, find

EARLIER, NOW = 1_800_000_000.0, 1_800_000_100.0
AT_EARLIER, AT_NOW = "2027-01-15T08:00:00Z", "2027-01-15T08:01:40Z"


def stated(kind: str, status: str = "True", reason: str = "Reason", message: str = "m") -> StatusCondition:
    return StatusCondition(type=kind, status=status, reason=reason, message=message, last_transition_time=AT_EARLIER,
                           observed_generation=1)


def only(conditions: tuple[StatusCondition, ...]) -> StatusCondition:
    assert len(conditions) == 1
    return conditions[0]


@pytest.mark.spec("SRC-COM-18")
def test_the_same_condition_keeps_its_time_and_takes_the_new_generation() -> None:
    after = only(changed([stated("Ready")], [Condition("Ready", "True", "Reason", "m")], generation=2, now=NOW))
    assert (after.last_transition_time, after.observed_generation) == (AT_EARLIER, 2)


@pytest.mark.parametrize("condition", [
    pytest.param(Condition("Ready", "False", "Reason", "m"), id="status"),
    pytest.param(Condition("Ready", "True", "Other", "m"), id="reason"),
    pytest.param(Condition("Ready", "True", "Reason", "other"), id="message"),
])
def test_a_condition_that_says_something_else_has_a_new_time(condition: Condition) -> None:
    after = only(changed([stated("Ready")], [condition], generation=1, now=NOW))
    assert (after.status, after.reason, after.message) == (condition.status, condition.reason, condition.message)
    assert after.last_transition_time == AT_NOW


@pytest.mark.spec("SRC-COM-19")
def test_messages_are_cut_with_an_ellipsis_and_cut_messages_stay_the_same() -> None:
    long = "x" * (LONGEST + 1)
    first = only(changed([], [Condition("Ready", "False", "Failed", long)], generation=1, now=EARLIER))
    assert first.message == "x" * (LONGEST - 3) + "..."
    again = only(changed([first], [Condition("Ready", "False", "Failed", long)], generation=1, now=NOW))
    assert again.last_transition_time == AT_EARLIER
    assert cut("x" * LONGEST) == "x" * LONGEST


def test_conditions_stand_in_upstreams_order() -> None:
    types = ("SourceVerified", "Ready", "ArtifactInStorage", "Reconciling", "Healthy")
    after = changed([], [Condition(kind, "True", "R", "") for kind in types], generation=1, now=NOW)
    assert [c.type for c in after] == ["Reconciling", "Ready", "ArtifactInStorage", "Healthy", "SourceVerified"]


def test_stalled_and_reconciling_exclude_each_other() -> None:
    stalled = changed([stated("Reconciling")], [Condition("Stalled", "True", "R", "")], generation=1, now=NOW)
    assert [c.type for c in stalled] == ["Stalled"]
    again = changed(stalled, [Condition("Reconciling", "True", "R", "")], generation=1, now=NOW)
    assert [c.type for c in again] == ["Reconciling"]


@pytest.mark.spec("REL-14")
def test_conditions_of_others_stay_as_they_are() -> None:
    foreign = stated("example.com/Audited", "Unknown", "Later", "?")
    after = changed([foreign, stated("Ready")], [Condition("Ready", "False", "R", "")], ["Healthy"],
                    generation=7, now=NOW)
    assert find(after, "example.com/Audited") == foreign


def test_stored_conditions_that_do_not_decode_are_left_out() -> None:
    good = {"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": AT_EARLIER}
    assert [c.type for c in decode({"conditions": [good, {"type": 1}, "x"]})] == ["Ready"]
    assert decode({"conditions": "nonsense"}) == ()
    assert decode({}) == ()
