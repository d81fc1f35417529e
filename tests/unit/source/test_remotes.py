"""Remotes: what is kept of them and for how long."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.core.egress import parse_url
from headrace.source.git.credentials import http_credentials
from headrace.source.git.mirror import FETCHES, Mirror
from headrace.source.git.refs import Resolved
from headrace.source.turns import AT_ONCE
from tests.eventually import eventually
from tests.manual_clock import ManualClock
from tests.servers.git_http import Fault, Repository
from tests.servers.sources import INTERVAL, REQUESTED, sources


async def test_a_mirror_that_nobody_uses_is_deleted_and_one_in_use_is_not(tmp_path: Path) -> None:
    clock = ManualClock()
    async with sources(tmp_path, clock=clock) as world:
        (world.store.mirrors / "of-an-earlier-engine").mkdir()
        world.repo.commit({"a": "1"})
        obj, _ = await world.run(world.object())
        (mirror,) = [path for path in world.store.mirrors.iterdir() if path.name != "of-an-earlier-engine"]
        clock.time += 7 * 3600
        obj, _ = await world.run(obj, REQUESTED)
        assert [path.name for path in world.store.mirrors.iterdir()] == [mirror.name]
        clock.time += 7 * 3600
        await world.remotes.collect()
        assert list(world.store.mirrors.iterdir()) == []
        world.repo.commit({"a": "2"})
        obj, _ = await world.run(obj, INTERVAL)
        assert obj.status.artifact is not None
        assert world.files(obj.status.artifact) == {"a": b"2"}


async def test_a_mirror_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    async with sources(tmp_path) as world:
        world.repo.commit({"a": "1"})
        obj, _ = await world.run(world.object())
        (mirror,) = world.store.mirrors.iterdir()
        for path in (mirror / "objects" / "pack").iterdir():
            path.chmod(0o600)
            path.write_bytes(b"damaged")
        (mirror / "shallow.lock").touch()
        world.repo.commit({"a": "2"})
        obj, _ = await world.run(obj, REQUESTED)
        assert obj.status.artifact is not None
        assert world.files(obj.status.artifact) == {"a": b"2"}


async def test_a_thousand_new_repositories_are_not_fetched_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most = 0, 0

    async def fetch(mirror: Mirror, target: Resolved, timeout: float) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    monkeypatch.setattr(Mirror, "_fetch", fetch)
    target = Resolved("a" * 40, "a" * 40, "main@sha1:" + "a" * 40, "refs/heads/main")
    async with sources(tmp_path) as world, asyncio.TaskGroup() as group:
        for number in range(1000):
            url = parse_url(f"https://example.com/{number}")
            group.create_task(world.remotes.remote(url, http_credentials({}, url)).hold(target, 60.0))
    assert most == FETCHES


async def test_a_requested_poll_goes_before_those_that_wait_for_a_slow_host(tmp_path: Path) -> None:
    async with sources(tmp_path) as world:
        world.server.fault = Fault("stall", on="info")

        def poll(name: str, max_age: float) -> asyncio.Task[object]:
            url = parse_url(world.server.url(name))
            remote = world.remotes.remote(url, http_credentials({}, url))
            return asyncio.create_task(remote.refs("refs/heads/main", max_age=max_age, timeout=60.0))

        def asked() -> list[str]:
            return [request.path.split("/")[1] for request in world.server.requests]

        tasks = [poll(f"poll-{number}.git", 60.0) for number in range(AT_ONCE + 10)]
        await eventually(lambda: len(asked()) == AT_ONCE)
        tasks.append(poll("requested.git", 0.0))
        await eventually(lambda: len(asked()) == AT_ONCE + 1)
        tasks.append(poll(f"poll-{AT_ONCE + 9}.git", 0.0))
        await eventually(lambda: len(asked()) == AT_ONCE + 2)
        assert asked()[AT_ONCE:] == ["requested.git", f"poll-{AT_ONCE + 9}.git"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_poll_is_one_request_and_all_repositories_of_a_host_share_a_connection(tmp_path: Path) -> None:
    async with sources(tmp_path) as world:
        remotes = []
        for name in ("one.git", "two.git", "three.git"):
            Repository(world.server.root, name).commit({"a": name})
            url = parse_url(world.server.url(name))
            remotes.append(world.remotes.remote(url, http_credentials({}, url)))
        for _ in range(4):
            for remote in remotes:
                await remote.refs("refs/heads/main", max_age=0.0, timeout=60.0)
        assert dict(world.server.counts) == {"info": 3, "ls-refs": 12}
        assert len({request.peer for request in world.server.requests}) == 1
