"""SIGTERM in the middle of work, as every rolling update sends it: what runs ends in order, or is taken up by the next
engine, and the lease is free at once. Leases here last an hour, so that none of them runs out."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from headrace.toolbox.binary import find_toolbox
from tests.cluster.kustomization.world import World, condition, config_map, inventory
from tests.eventually import eventually
from tests.fault.killable import CONFIG_MAPS, assert_all_tracked, delivered
from tests.fault.leader_process import LeaderProcess, Made, holder, until_held
from tests.servers.control_plane import ControlPlane

HOUR = ("--leader-election-lease-duration=1h", "--leader-election-renew-deadline=59m")
IMPATIENT = "--graceful-shutdown-timeout=500ms"
SLEEP = 5


def entries(world: World, *names: str) -> set[str]:
    return {f"{world.namespace}_{name}__ConfigMap" for name in names}


async def one_revision(world: World) -> None:
    world.commit({name: config_map(name.removesuffix(".yaml"), k="1") for name in ("a.yaml", "gone.yaml")})
    await world.source()
    await world.kustomization(targetNamespace=world.namespace)


async def terminated(process: LeaderProcess, world: World) -> None:
    """Tell it to end, and see that it does, with nobody in possession of the lease."""
    process.signal(signal.SIGTERM)
    await ended(process, world)


async def ended(process: LeaderProcess, world: World) -> None:
    assert await process.ended() == 0, process.log
    assert await holder(world.client, world.namespace) == ""
    assert "Traceback" not in process.log


async def taken_over(process: LeaderProcess, world: World, cluster: ControlPlane, *flags: str) -> None:
    """Another engine leads, long before any lease has run out."""
    await process.start(cluster.kubeconfig, "", *HOUR, *flags)
    await until_held(world.client, world.namespace)


async def in_the_middle(world: World, point: str) -> None:
    """Wait until the second revision is where a failpoint holds it up."""
    await world.until(KUSTOMIZATION, "app", lambda o: entries(world, "a", "x") <= inventory(o))
    if point != "apply-before-write":
        await world.until(CONFIG_MAPS, "x", lambda o: o["data"] == {"k": "2"})
    if point == "status-before-write":
        await world.until_gone(CONFIG_MAPS, "gone")


@pytest.mark.spec("REL-35")
@pytest.mark.parametrize("point", ["apply-before-write", "prune-before-delete", "status-before-write"])
async def test_a_run_is_brought_to_its_end_and_nothing_more_is_begun(
    world: World, cluster: ControlPlane, leader: Made, point: str
) -> None:
    first, second = leader("first"), leader("second")
    await one_revision(world)
    await first.start(cluster.kubeconfig, "", *HOUR)
    await world.ready()
    await terminated(first, world)

    await first.start(cluster.kubeconfig, f"{point}:sleep={SLEEP}", *HOUR)
    await until_held(world.client, world.namespace)
    revision = await world.push({"gone.yaml": None, "x.yaml": config_map("x", k="2"), "a.yaml": config_map("a", k="2")})
    await in_the_middle(world, point)
    before = await world.get(KUSTOMIZATION.api_version, "Kustomization", "app")
    assert before is not None
    assert before["status"]["lastAppliedRevision"] != revision, "it is in the middle of it"
    world.commit({"y.yaml": config_map("y", k="3")})
    first.signal(signal.SIGTERM)
    await world.request(GIT_REPOSITORY, "app")
    await ended(first, world)

    assert "cut off" not in first.log
    ks = await world.get(KUSTOMIZATION.api_version, "Kustomization", "app")
    assert ks is not None
    assert condition(ks, "Ready")["status"] == "True"
    assert ks["status"]["lastAppliedRevision"] == revision
    assert await delivered(world) == {"a": "2", "x": "2"}
    assert inventory(ks) == entries(world, "a", "x")
    await taken_over(second, world, cluster)
    await world.until(CONFIG_MAPS, "y", lambda o: o["data"] == {"k": "3"})


@pytest.mark.spec("REL-35")
async def test_what_takes_longer_than_the_grace_is_cut_off_and_taken_up_by_the_next_engine(
    world: World, cluster: ControlPlane, leader: Made
) -> None:
    first, second = leader("first"), leader("second")
    await one_revision(world)
    await first.start(cluster.kubeconfig, "apply-before-write:sleep=600", *HOUR, IMPATIENT)
    await world.until(KUSTOMIZATION, "app", lambda o: "status" in o and entries(world, "a", "gone") <= inventory(o))
    await terminated(first, world)

    assert "a run is cut off" in first.log
    ks = await world.get(KUSTOMIZATION.api_version, "Kustomization", "app")
    assert ks is not None
    assert condition(ks, "Ready").get("status") != "True"
    assert "lastAppliedRevision" not in ks["status"]
    await assert_all_tracked(world)
    await taken_over(second, world, cluster)
    await world.ready()
    assert await delivered(world) == {"a": "1", "gone": "1"}
    await assert_all_tracked(world)


HANGS = """#!{python} -I
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
real = subprocess.Popen([{real!r}, *sys.argv[1:]], stdin=subprocess.PIPE)
while (asked := os.read(0, 65536)) and b'"build"' not in asked:
    real.stdin.write(asked)
    real.stdin.flush()
with open({note!r}, "a") as file:
    print(os.getpid(), real.pid, file=file)
while asked:
    time.sleep(1)
"""
"""A toolbox that hangs in its first build, and will not go."""


@pytest.mark.spec("REL-35")
async def test_a_helper_that_hangs_holds_up_neither_the_end_nor_the_next_engine(
    world: World, cluster: ControlPlane, leader: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = leader("first"), leader("second")
    note, stub = tmp_path / "pids", tmp_path / "stub"
    stub.write_text(HANGS.format(python=sys.executable, real=str(find_toolbox()), note=str(note)))
    stub.chmod(0o755)
    await one_revision(world)
    with monkeypatch.context() as patched:
        patched.setenv("HEADRACE_TOOLBOX", str(stub))
        await first.start(cluster.kubeconfig, "", *HOUR, IMPATIENT)
    await eventually(lambda: note.exists() and note.read_text().endswith("\n"), "a build is under way", 60)
    await terminated(first, world)

    assert not [pid for pid in note.read_text().split() if _runs(int(pid))], "its helpers went with it"
    await taken_over(second, world, cluster)
    await world.ready()
    assert await delivered(world) == {"a": "1", "gone": "1"}


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
