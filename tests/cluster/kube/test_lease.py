"""Leader election on a real Lease."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from headrace.core.clock import SystemClock
from headrace.kube.client import Client
from headrace.kube.lease import LEASES, LeaderElection, Lease, LeaseLost, LeaseTimes, held_now
from tests.eventually import eventually

QUICK = LeaseTimes(duration=2.0, renew_deadline=1.0, retry_period=0.1)


def candidate(client: Client, namespace: str, identity: str, times: LeaseTimes = QUICK) -> LeaderElection:
    return LeaderElection(client, namespace=namespace, name="election", identity=identity, times=times)


async def forever() -> None:
    await asyncio.Event().wait()


async def spec(client: Client, namespace: str) -> Lease:
    return (await client.get(LEASES, namespace, "election")).decode(Lease)


async def held(client: Client, namespace: str) -> str:
    """The holder as others see it."""
    return held_now(await client.get(LEASES, namespace, "election"), SystemClock())


async def test_only_one_leads_and_the_next_follows_at_once_on_release(client: Client, namespace: str) -> None:
    first, second = candidate(client, namespace, "one"), candidate(client, namespace, "two")
    leading = asyncio.create_task(first.run(forever))
    await eventually(lambda: first.leading)
    waiting = asyncio.create_task(second.run(forever))
    await eventually(lambda: second.holder == "one")
    assert not second.leading
    assert await held(client, namespace) == "one"
    leading.cancel()
    await asyncio.wait([leading])
    assert leading.cancelled()
    await eventually(lambda: second.leading)
    lease = await spec(client, namespace)
    assert lease.spec.holder_identity == "two"
    assert lease.spec.lease_duration_seconds == 2
    assert lease.spec.lease_transitions == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await spec(client, namespace)).spec.holder_identity == ""
    assert await held(client, namespace) == ""


async def test_the_end_of_the_work_releases_the_lease_and_is_no_error(client: Client, namespace: str) -> None:
    election = candidate(client, namespace, "one")

    async def work() -> None:
        assert election.leading

    await election.run(work)
    assert not election.leading
    assert (await spec(client, namespace)).spec.holder_identity == ""


async def test_what_the_work_raises_is_raised(client: Client, namespace: str) -> None:
    async def work() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await candidate(client, namespace, "one").run(work)


async def test_a_lease_that_somebody_takes_is_lost_and_the_work_ends(client: Client, namespace: str) -> None:
    election, told, ended = candidate(client, namespace, "one"), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await forever()
        finally:
            ended.set()

    running = asyncio.create_task(election.run(work, on_lost=told.set))
    await eventually(lambda: election.leading)
    await client.patch(LEASES, namespace, "election", b'{"spec":{"holderIdentity":"thief"}}')
    with pytest.raises(LeaseLost, match="held by thief"):
        await asyncio.wait_for(running, 30)
    assert told.is_set()
    assert ended.is_set()
    assert (await spec(client, namespace)).spec.holder_identity == "thief"


async def test_a_holder_that_died_is_succeeded_when_its_lease_runs_out(client: Client, namespace: str) -> None:
    dead = candidate(client, namespace, "dead")
    await dead.acquire()
    heir = candidate(client, namespace, "heir")
    running = asyncio.create_task(heir.run(forever))
    await eventually(lambda: heir.holder == "dead")
    assert not heir.leading
    await eventually(lambda: heir.leading)
    running.cancel()
    await asyncio.wait([running])


async def test_of_many_that_want_it_one_gets_it(client: Client, namespace: str) -> None:
    candidates = [candidate(client, namespace, secrets.token_hex(4)) for _ in range(5)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.acquire()) for one in candidates]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        for task in pending:
            task.cancel()
    assert sum(one.leading for one in candidates) == 1


async def test_leases_are_counted_apart(client: Client, namespace: str) -> None:
    before = client.counter.total(purpose="")
    election = candidate(client, namespace, "one")
    await election.acquire()
    await election.release()
    assert client.counter.total(purpose="") == before
    assert client.counter.total(purpose="lease") == 3
