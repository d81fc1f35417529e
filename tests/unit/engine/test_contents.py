from __future__ import annotations

import asyncio

import pytest

from headrace.engine.contents import ATTEMPTS, Contents
from headrace.kube.errors import Forbidden
from headrace.model.reference import Reference
from tests.unit.engine.virtual_clock import settle
from tests.unit.engine.world import Objects, config_map

CM = config_map("values")


@pytest.fixture
def objects() -> Objects:
    objects = Objects()
    objects.put(CM, data={"x": "1"})
    return objects


async def test_those_who_ask_at_once_share_one_request(objects: Objects) -> None:
    contents = Contents(objects)
    answers = await asyncio.gather(*(contents.get(CM) for _ in range(5)))
    assert objects.fetched == [CM]
    assert len({id(answer) for answer in answers}) == 1


async def test_who_asks_later_gets_a_new_answer(objects: Objects) -> None:
    contents = Contents(objects)
    await contents.get(CM)
    objects.put(CM, data={"x": "2"})
    live = await contents.get(CM)
    assert live is not None
    assert live.content()["data"] == {"x": "2"}


async def test_an_object_that_changes_all_the_time_is_answered_in_the_end(objects: Objects) -> None:
    contents = Contents(objects)

    async def move(reference: Reference) -> None:
        contents.moved(reference)

    objects.before_fetch = move
    assert await contents.get(CM) is not None
    assert len(objects.fetched) == ATTEMPTS


async def test_when_the_first_asker_is_cancelled_another_one_asks(objects: Objects) -> None:
    contents = Contents(objects)
    held = asyncio.Event()

    async def hold(reference: Reference) -> None:
        await held.wait()

    objects.before_fetch = hold
    first = asyncio.create_task(contents.get(CM))
    await settle()
    second = asyncio.create_task(contents.get(CM))
    await settle()
    first.cancel()
    held.set()
    assert await second is not None
    assert objects.fetched == [CM, CM]


async def test_an_error_is_everybodys_and_is_not_kept(objects: Objects) -> None:
    contents = Contents(objects)

    async def refuse(reference: Reference) -> None:
        raise Forbidden(403, "Forbidden", "no")

    objects.before_fetch = refuse
    results = await asyncio.gather(contents.get(CM), contents.get(CM), return_exceptions=True)
    assert [type(result) for result in results] == [Forbidden, Forbidden]
    objects.before_fetch = None
    assert await contents.get(CM) is not None
