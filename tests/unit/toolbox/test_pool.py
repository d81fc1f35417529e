"""Children: how many there are, what ends them, and whom that concerns."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from headrace.toolbox import BuildRequest, Toolbox, ToolboxCrashed, ToolboxError, pool
from headrace.toolbox.binary import ToolboxMissing, find_toolbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_many_calls_are_in_flight_in_one_child(toolbox: Toolbox):
    answers = await asyncio.gather(*(toolbox.substitute("${v}", {"v": str(n)}) for n in range(200)))
    assert answers == [str(n) for n in range(200)]
    assert len(toolbox.pids) == 1


async def test_one_child_is_enough_for_builds_that_are_short(binary: Path, tree):
    request = BuildRequest(root=tree({"a.yaml": CONFIG_MAP}))
    async with Toolbox(binary, size=2) as toolbox:
        await toolbox.ping()
        built = [await toolbox.build(request) for _ in range(20)]
        assert len(toolbox.pids) == 1
    assert {one.digest for one in built} == {built[0].digest}


async def test_a_build_that_has_waited_long_gets_a_child_and_those_after_it_one_of_the_two(
    binary: Path, tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The first build waits for input that never comes: a remote base at a server that does not answer."""
    monkeypatch.setattr(pool, "PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20.0)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/base.yaml"
        root = tree({"far/kustomization.yaml": f"resources: ['{url}']", "near/a.yaml": CONFIG_MAP})
        near = BuildRequest(root=root, path="near", allow_remote=True)
        async with Toolbox(binary, size=2, network=tmp_path) as toolbox:
            await toolbox.check()
            [first] = toolbox.pids
            far = asyncio.create_task(
                failure(toolbox, BuildRequest(root=root, path="far", allow_remote=True), timeout=20))
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                built = await asyncio.gather(*(toolbox.build(near) for _ in range(3)))
                assert [one.objects[0].name for one in built] == ["a", "a", "a"]
                assert not far.done()
                assert len(toolbox.pids) == 2
                os.kill(first, signal.SIGKILL)
                assert isinstance(await far, ToolboxCrashed)
            assert len(await asyncio.gather(*(toolbox.build(near) for _ in range(20)))) == 20


async def test_a_killed_child_fails_its_build_and_is_replaced(binary: Path, tree):
    # 3000 objects take long enough to be interrupted
    many = "---\n".join(CONFIG_MAP.replace("name: a", f"name: a{n}") for n in range(3000))
    root = tree({"many.yaml": many, "few/a.yaml": CONFIG_MAP})
    async with Toolbox(binary, size=1) as toolbox:
        await toolbox.ping()
        [pid] = toolbox.pids
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            building = group.create_task(failure(toolbox, BuildRequest(root=root)))
            await asyncio.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
        assert isinstance(building.result(), ToolboxCrashed)
        assert (await toolbox.build(BuildRequest(root=root, path="few"))).objects[0].name == "a"
        assert toolbox.pids != [pid]


async def failure(toolbox: Toolbox, request: BuildRequest, timeout: float | None = None) -> ToolboxError:
    with pytest.raises(ToolboxError) as caught:
        await toolbox.build(request, timeout=timeout)
    return caught.value


async def test_a_call_past_its_deadline_fails_alone_and_its_child_is_replaced(binary: Path, tree):
    many = "---\n".join(CONFIG_MAP.replace("name: a", f"name: a{n}") for n in range(3000))
    root = tree({"many.yaml": many, "few/a.yaml": CONFIG_MAP})
    async with Toolbox(binary, size=1) as toolbox:
        await toolbox.ping()
        [pid] = toolbox.pids
        assert (await failure(toolbox, BuildRequest(root=root), timeout=0.05)).code == "Timeout"
        await toolbox.build(BuildRequest(root=root, path="few"))
        assert toolbox.pids != [pid]
        assert gone(pid)


async def test_a_caller_that_gives_up_leaves_the_pool_in_order(binary: Path, tree):
    many = "---\n".join(CONFIG_MAP.replace("name: a", f"name: a{n}") for n in range(1000))
    root = tree({"many.yaml": many, "few/a.yaml": CONFIG_MAP})
    async with Toolbox(binary, size=1) as toolbox:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await toolbox.build(BuildRequest(root=root))
        assert len((await toolbox.build(BuildRequest(root=root, path="few"))).objects) == 1


async def test_a_child_that_uses_too_much_memory_ends_and_says_so(binary: Path, tree):
    document = CONFIG_MAP + f"data: {{a: {'x' * 64_000}}}\n"
    large = "---\n".join(document.replace("name: a", f"name: a{n}") for n in range(300))
    async with Toolbox(binary, size=1, memory_limit=48 * 1024 * 1024) as toolbox:
        error = await failure(toolbox, BuildRequest(root=tree({"large.yaml": large})))
    assert isinstance(error, ToolboxCrashed)
    assert "more memory than it may" in error.message


async def test_a_child_is_replaced_after_many_builds(binary: Path, tree):
    request = BuildRequest(root=tree({"a.yaml": CONFIG_MAP}))
    async with Toolbox(binary, size=1, build_limit=2) as toolbox:
        seen = set()
        for _ in range(6):
            await toolbox.build(request)
            seen.update(toolbox.pids)
    assert len(seen) == 3


async def test_no_child_is_left_when_the_pool_ends(binary: Path):
    async with Toolbox(binary, size=2) as toolbox:
        await toolbox.ping()
        pids = toolbox.pids
    assert pids
    assert all(gone(pid) for pid in pids)


async def test_a_child_gets_a_clean_environment(binary: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    async with Toolbox(binary, size=1) as toolbox:
        await toolbox.ping()
        environment = Path(f"/proc/{toolbox.pids[0]}/environ").read_bytes()
    assert b"SECRET_TOKEN" not in environment
    assert b"PATH=\0" in environment


async def test_an_unknown_call_is_refused(toolbox: Toolbox):
    with pytest.raises(ToolboxError) as caught:
        await toolbox._call("nonsense", {}, b"", None)
    assert caught.value.code == "UnknownCall"


async def test_it_names_its_libraries(toolbox: Toolbox):
    assert {"kustomize-api", "semver", "flux-ssa"} <= (await toolbox.version()).keys()


async def test_a_missing_binary_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADRACE_TOOLBOX", "/nonexistent/toolbox")
    with pytest.raises(ToolboxMissing, match="make build"):
        find_toolbox()
