"""Who is told of a change."""

from __future__ import annotations

import msgspec
import pytest

from headrace.kube.listeners import Listeners
from headrace.kube.objects import decode_object
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

SET = Reference("apps", "StatefulSet", "default", "db", "run")
POD = Reference("", "Pod", "default", "db-0", "run")
OTHER = Reference("", "Pod", "default", "web-0", "run")


def pod(*owner_references: dict[str, str]) -> LiveObject:
    metadata = {"name": POD.name, "namespace": POD.namespace, "ownerReferences": list(owner_references)}
    return decode_object(
        msgspec.json.encode({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}), cluster=POD.cluster)


OWNED = pod({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": SET.name, "uid": "1"})
FREE = pod()


class Told:
    def __init__(self) -> None:
        self.of: list[Reference] = []

    def __call__(self, reference: Reference, old: LiveObject | None, new: LiveObject | None) -> None:
        self.of.append(reference)


def test_a_change_is_told_to_those_who_follow_the_object_and_to_those_who_follow_all() -> None:
    listeners, everything, one = Listeners(), Told(), Told()
    listeners.subscribe(everything)
    listeners.subscribe(one, [POD])
    listeners.notify(POD, None, FREE)
    listeners.notify(OTHER, None, None)
    listeners.notify(POD.on("elsewhere"), None, None)
    assert one.of == [POD]
    assert everything.of == [POD, OTHER, POD.on("elsewhere")]


@pytest.mark.parametrize(("old", "new"), [(None, OWNED), (OWNED, OWNED), (OWNED, None), (OWNED, FREE), (FREE, OWNED)])
def test_a_change_is_told_to_those_who_follow_an_owner_present_or_former(
    old: LiveObject | None, new: LiveObject | None
) -> None:
    listeners, told = Listeners(), Told()
    listeners.subscribe(told, [SET])
    listeners.notify(POD, old, new)
    assert told.of == [POD]
    listeners.notify(OTHER, FREE, None)
    assert told.of == [POD]


def test_who_follows_an_object_and_its_owner_is_told_of_both() -> None:
    listeners, told = Listeners(), Told()
    listeners.subscribe(told, [SET, POD])
    listeners.notify(POD, None, OWNED)
    assert set(told.of) == {POD}


def test_who_has_ended_the_subscription_is_told_nothing_and_the_others_are() -> None:
    listeners, ended, staying = Listeners(), Told(), Told()
    ends = [listeners.subscribe(ended, [POD, SET]), listeners.subscribe(ended)]
    listeners.subscribe(staying, [POD])
    for end in ends:
        end()
    listeners.notify(POD, None, OWNED)
    assert not ended.of
    assert staying.of == [POD]


def test_the_error_of_one_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> None:
        raise ValueError("a mistake")

    listeners, told = Listeners(), Told()
    listeners.subscribe(fails, [POD])
    listeners.subscribe(told, [POD])
    listeners.notify(POD, None, FREE)
    assert told.of == [POD]
    assert "a mistake" in caplog.text
