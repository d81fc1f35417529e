from __future__ import annotations

import pytest

from headrace.engine.graph import ANY, Graph, find_cycle, newer
from headrace.model.objects import LiveObject
from headrace.model.read import ABSENT, Part, Read
from headrace.model.reference import REMOTE, Reference
from tests.unit.engine.world import Objects, config_map, key, thing

A, B = thing("a"), thing("b")
CM = config_map("values")
X, Y = key("x"), key("y")


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def graph() -> Graph:
    return Graph(key=b"k" * 32)


def read(graph: Graph, reader: Reference, live: LiveObject | None, part: Part, reference: Reference = CM) -> None:
    graph.know(part)
    version = live.metadata.resource_version if live else ""
    graph.record(reader, Read(reference, part.name, graph.digest(part, live), version))


def finished(graph: Graph, reader: Reference, live: LiveObject | None, *parts: Part) -> None:
    graph.begin(reader)
    for part in parts:
        read(graph, reader, live, part)
    graph.finish(reader)


def test_only_readers_of_the_part_that_moved_are_named(objects: Objects, graph: Graph) -> None:
    objects.put(CM, data={"x": "1", "y": "1"})
    finished(graph, A, objects.current(CM), X)
    finished(graph, B, objects.current(CM), Y)
    objects.put(CM, data={"x": "2", "y": "1"})
    assert graph.moved(CM, objects.current(CM)) == [(A, "data[x]")]


def test_an_event_not_newer_than_the_read_is_no_news(objects: Objects, graph: Graph) -> None:
    objects.put(CM, data={"x": "1"})
    old = objects.current(CM)
    objects.put(CM, data={"x": "2"})
    finished(graph, A, objects.current(CM), X)
    assert graph.moved(CM, old) == []


def test_an_object_that_vanishes_and_one_that_appears_are_news(objects: Objects, graph: Graph) -> None:
    finished(graph, A, None, X)
    objects.put(CM, data={"x": "1"})
    assert graph.moved(CM, objects.current(CM)) == [(A, "data[x]")]
    finished(graph, A, objects.current(CM), X)
    assert graph.moved(CM, None) == [(A, "data[x]")]


def test_a_run_replaces_the_reads_of_the_one_before(objects: Objects, graph: Graph) -> None:
    objects.put(CM, data={"x": "1", "y": "1"})
    finished(graph, A, objects.current(CM), X, Y)
    finished(graph, A, objects.current(CM), X)
    objects.put(CM, data={"x": "1", "y": "2"})
    assert graph.moved(CM, objects.current(CM)) == []
    assert [r.part for r in graph.reads(A)] == ["data[x]"]


def test_a_run_cut_short_keeps_the_reads_of_the_one_before(objects: Objects, graph: Graph) -> None:
    objects.put(CM, data={"x": "1", "y": "1"})
    finished(graph, A, objects.current(CM), X, Y)
    graph.begin(A)
    graph.abandon(A)
    assert {r.part for r in graph.reads(A)} == {"data[x]", "data[y]"}


def test_what_a_run_is_about_to_write_itself_is_compared_when_it_has_finished(objects: Objects, graph: Graph) -> None:
    objects.put(CM, data={"x": "1"})
    finished(graph, A, objects.current(CM), X)
    graph.begin(A)
    objects.put(CM, data={"x": "2"})
    assert graph.moved(CM, objects.current(CM)) == []
    read(graph, A, objects.current(CM), X)
    graph.finish(A)
    assert graph.outdated(A, lambda reference, _: objects.current(reference)) == []
    objects.put(CM, data={"x": "3"})
    assert graph.outdated(A, lambda reference, _: objects.current(reference)) == [(CM, "data[x]")]


def test_what_a_run_has_looked_at_and_was_deleted_before_it_said_so_is_outdated(
    objects: Objects, graph: Graph
) -> None:
    objects.put(CM, data={"x": "1"})
    seen = objects.current(CM)
    graph.deleted(B)
    graph.begin(A)
    graph.deleted(CM)
    read(graph, A, seen, X)
    graph.finish(A)
    assert graph.outdated(A, lambda *_: None) == [(CM, "data[x]")]
    graph.begin(A)
    read(graph, A, None, X)
    graph.finish(A)
    assert graph.outdated(A, lambda *_: None) == []
    graph.begin(A)
    read(graph, A, seen, X)
    graph.finish(A)
    assert graph.outdated(A, lambda *_: None) == [], "a deletion counts for the runs that it came in"


def test_a_remote_is_told_once_so_the_last_runs_reads_count_during_a_run(graph: Graph) -> None:
    remote = Reference("git", "Remote", "", "https://example.com/r", REMOTE)
    graph.begin(A)
    graph.record(A, Read(remote, "main", "c1"))
    graph.finish(A)
    graph.begin(A)
    assert graph.told(remote, "main", "c2") == [(A, "main")]
    graph.record(A, Read(remote, "main", "c2"))
    assert graph.told(remote, "main", "c2") == []
    assert graph.told(remote, "other", "c3") == []


def test_forgotten_parts_and_readers_are_no_subscribers(objects: Objects, graph: Graph) -> None:
    objects.put(CM, data={"x": "1"})
    graph.begin(A)
    read(graph, A, objects.current(CM), X)
    graph.forget_parts(A, X.name)
    assert CM not in graph
    finished(graph, B, objects.current(CM), X)
    assert graph.readers(CM) == (B,)
    graph.forget(B)
    assert CM not in graph


def test_a_subscription_to_anything_is_woken_by_any_newer_event(objects: Objects, graph: Graph) -> None:
    objects.put(CM, data={})
    graph.begin(A)
    graph.record(A, Read(CM, "*", ANY, objects.current(CM).metadata.resource_version))
    graph.finish(A)
    assert graph.moved(CM, objects.current(CM)) == []
    objects.touch(CM)
    assert graph.moved(CM, objects.current(CM)) == [(A, "*")]


def test_metadata_alone_neither_wakes_nor_hides_readers_of_content(objects: Objects, graph: Graph) -> None:
    objects.ensured.add(CM.group_kind)
    objects.put(CM, data={"x": "1"})
    finished(graph, A, objects.current(CM), X)
    objects.put(CM, data={"x": "2"})
    partial = objects.get(CM)
    assert isinstance(partial, LiveObject)
    assert graph.moved(CM, partial) == []
    assert graph.needs_content(partial)
    assert graph.outdated(A, lambda *_: partial) == [(CM, "data[x]")]


@pytest.mark.spec("SEC-35")
def test_digests_of_secret_parts_are_keyed(objects: Objects) -> None:
    part = Part("data", lambda live: live.content().get("data"), secret=True)
    objects.put(CM, data={"password": "hunter2"})
    live = objects.current(CM)
    assert Graph(key=b"a" * 32).digest(part, live) != Graph(key=b"b" * 32).digest(part, live)
    assert Graph(key=b"a" * 32).digest(part, None) == ABSENT


def test_waits_that_form_no_cycle_are_followed_for_explain(graph: Graph) -> None:
    c, d = thing("c"), thing("d")
    assert graph.waits(A, [B, c]) == ()
    assert graph.waits(B, [d]) == ()
    assert graph.blockers(A) == [(A, B), (A, c), (B, d)]


@pytest.mark.spec("REL-24")
def test_a_cycle_is_found_whoever_closes_it_and_named_the_same_from_everywhere(graph: Graph) -> None:
    c = thing("c")
    assert graph.waits(B, [c]) == ()
    assert graph.waits(c, [A]) == ()
    assert graph.waits(A, [B]) == (A, B, c)
    assert graph.unaware((A, B, c)) == [B, c]
    assert graph.waits(c, [A]) == (A, B, c)


@pytest.mark.spec("REL-24")
def test_an_object_that_waits_for_itself_is_a_cycle(graph: Graph) -> None:
    assert graph.waits(A, [A]) == (A,)


@pytest.mark.spec("REL-24")
def test_all_members_are_freed_once_when_one_leaves_the_cycle(graph: Graph) -> None:
    graph.waits(A, [B])
    graph.waits(B, [A])
    graph.waits(A, [B])
    assert graph.freed() == []
    graph.ended_wait(A)
    assert graph.freed() == [B]
    assert graph.freed() == []


def test_the_shortest_cycle_is_found() -> None:
    c = thing("c")
    assert find_cycle(A, {A: [B, c], B: [c], c: [A]}) == (A, c)


@pytest.mark.parametrize(("version", "than", "expected"),
                         [("10", "9", True), ("9", "10", False), ("9", "9", False), ("x", "9", True), ("", "", True)])
def test_versions_compare_as_integers_and_unknown_ones_are_news(version: str, than: str, expected: bool) -> None:
    assert newer(version, than) is expected
