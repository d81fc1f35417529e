"""Waiting for the state of watched objects."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from bench.phases import at_revision, handled, ready, runs
from bench.watch import Live, Watch


def encode(name: str, *, generation: int = 1, **status: Any) -> bytes:
    return msgspec.json.encode({"metadata": {"name": name, "generation": generation}, "status": status})


def live(**status: Any) -> Live:
    return msgspec.json.decode(encode("app", **status), type=Live)


READY: dict[str, Any] = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}


async def test_a_wait_ends_with_the_event_that_fulfils_it() -> None:
    watch = Watch()
    waiting = asyncio.ensure_future(watch.until("app", ready))
    await asyncio.sleep(0)
    watch.changed(encode("app", observedGeneration=0, conditions=[{"type": "Ready", "status": "True"}]))
    watch.changed(encode("other", **READY))
    await asyncio.sleep(0)
    assert not waiting.done()
    watch.changed(encode("app", **READY))
    await asyncio.wait_for(waiting, 1)


async def test_what_already_holds_is_not_waited_for() -> None:
    watch = Watch()
    watch.changed(encode("app", **READY))
    await asyncio.wait_for(watch.until_all(["app"], ready), 1)


async def test_the_unfinished_are_named_with_their_conditions() -> None:
    watch = Watch()
    waiting = [asyncio.ensure_future(watch.until(name, ready)) for name in ("app", "none")]
    await asyncio.sleep(0)
    watch.changed(encode("app", conditions=[
        {"type": "Ready", "status": "False", "reason": "BuildFailed", "message": "no"}]))
    assert watch.unfinished() == ["app: Ready=False BuildFailed: no", "none: does not exist"]
    for each in waiting:
        each.cancel()


@pytest.mark.parametrize(("status", "expected"), [
    pytest.param(READY | {"lastAppliedRevision": "main@sha1:1"}, True, id="delivery at the revision"),
    pytest.param(READY | {"artifact": {"revision": "main@sha1:1"}}, True, id="source at the revision"),
    pytest.param(READY | {"lastAppliedRevision": "main@sha1:0"}, False, id="at another revision"),
    pytest.param({"lastAppliedRevision": "main@sha1:1", "observedGeneration": 1}, False, id="not ready"),
])
def test_an_object_is_at_a_revision_when_it_is_ready_there(status: dict[str, Any], expected: bool) -> None:
    assert at_revision("main@sha1:1")(live(**status)) is expected


def test_a_request_is_handled_when_its_token_is_in_the_status() -> None:
    assert handled("now")(live(**READY, lastHandledReconcileAt="now"))
    assert not handled("now")(live(**READY, lastHandledReconcileAt="before"))


def test_a_deployment_runs_the_image_of_its_spec() -> None:
    content = {"metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": [{"image": "a:1"}]}}}}
    deployment = msgspec.convert(content, type=Live)
    assert runs("a:1")(deployment)
    assert not runs("a:2")(deployment)


async def test_a_new_list_fulfils_a_wait_and_forgets_what_is_gone() -> None:
    watch = Watch()
    watch.changed(encode("old", **READY))
    waiting = [asyncio.ensure_future(watch.until(name, ready)) for name in ("app", "none")]
    await asyncio.sleep(0)
    watch.replaced([encode("app", **READY)])
    await asyncio.wait_for(waiting[0], 1)
    assert watch.unfinished() == ["none: does not exist"]
    late = asyncio.ensure_future(watch.until("old", ready))
    await asyncio.sleep(0)
    assert not late.done()
    for each in (*waiting, late):
        each.cancel()
