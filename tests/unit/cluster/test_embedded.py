"""Starting, finding and stopping the control plane; it is the real one, and these tests are skipped without it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cluster import ClusterError, ControlPlaneMissing, EmbeddedCluster, find_controlplane
from headrace.cluster.locks import holder


@pytest.fixture(scope="module", autouse=True)
def binary() -> Path:
    try:
        return find_controlplane()
    except ControlPlaneMissing as missing:
        pytest.skip(str(missing))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while not gone(pid):
            await asyncio.sleep(0.05)


def kubectl(cluster: EmbeddedCluster, *args: str) -> str:
    argv = [str(find_controlplane()), "kubectl", f"--kubeconfig={cluster.kubeconfig}", *args]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_durable_cluster_is_shared_kept_and_stopped(tmp_path: Path):
    cluster = EmbeddedCluster(tmp_path / "cluster", nodes=1)
    try:
        first = await cluster.start()
        again = EmbeddedCluster(tmp_path / "cluster")
        assert (await again.start()).supervisor == first.supervisor == again.pid
        assert again.status() == first
        kubectl(cluster, "create", "configmap", "kept")
        assert stat.S_IMODE(cluster.kubeconfig.stat().st_mode) == 0o600
        assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "cluster" / "pki").iterdir()} == {0o600}

        await again.stop()
        assert cluster.status() is None
        assert all(gone(pid) for pid in [first.supervisor, *first.pids.values()])

        second = await cluster.start()
        assert second.server == first.server
        assert "kept" in kubectl(cluster, "get", "configmap", "kept", "-o", "name")
    finally:
        await cluster.stop()


async def test_two_starts_at_once_give_one_cluster(tmp_path: Path):
    one, other = (EmbeddedCluster(tmp_path / "cluster", nodes=0, wait="api") for _ in range(2))
    try:
        first, second = await asyncio.gather(one.start(), other.start())
        assert first.supervisor == second.supervisor
    finally:
        await one.stop()


async def test_an_ephemeral_cluster_runs_workloads_and_leaves_nothing(tmp_path: Path):
    audit = tmp_path / "audit.log"
    async with EmbeddedCluster(tmp_path / "cluster", ephemeral=True, nodes=1, audit_log=audit) as cluster:
        pid = cluster.pid
        kubectl(cluster, "create", "deployment", "web", "--image=web", "--replicas=2")
        kubectl(cluster, "rollout", "status", "deployment/web", "--timeout=30s")
        kubectl(cluster, "create", "job", "once", "--image=once")
        kubectl(cluster, "wait", "--for=condition=complete", "job/once", "--timeout=30s")
    assert gone(pid)
    assert [path.name for path in tmp_path.iterdir()] == ["audit.log"]
    assert b'"username":"kubernetes-admin"' in audit.read_bytes()


async def test_a_crashed_component_comes_back(tmp_path: Path):
    async with EmbeddedCluster(tmp_path / "cluster", ephemeral=True, nodes=0, wait="api") as cluster:
        before = cluster.status()
        assert before is not None
        os.kill(before.pids["kube-apiserver"], signal.SIGKILL)
        async with asyncio.timeout(30):
            while (after := cluster.status()) is None or after.pids == before.pids:
                await asyncio.sleep(0.05)
        assert after.pids["etcd"] == before.pids["etcd"]


async def test_components_end_with_a_supervisor_that_was_killed(tmp_path: Path):
    cluster = EmbeddedCluster(tmp_path / "cluster", ephemeral=True, nodes=0, wait="api")
    info = await cluster.start()
    try:
        os.kill(info.supervisor, signal.SIGKILL)
        for pid in info.pids.values():
            await until_gone(pid)
        assert cluster.status() is None
    finally:
        await cluster.stop()
    assert not cluster.data_dir.exists()


async def test_an_ephemeral_cluster_ends_with_the_process_that_started_it(tmp_path: Path):
    script = """
import asyncio, os, sys
from pathlib import Path
from headrace.cluster import EmbeddedCluster
info = asyncio.run(EmbeddedCluster(Path(sys.argv[1]), ephemeral=True, nodes=0, wait="api").start())
print(info.supervisor, flush=True)
os._exit(0)
"""
    started = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, str(tmp_path / "cluster")],
        capture_output=True, text=True, timeout=60, check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    await until_gone(int(started.stdout))
    assert not (tmp_path / "cluster").exists()


async def test_an_ephemeral_cluster_refuses_a_directory_with_content(tmp_path: Path):
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "precious").touch()
    cluster = EmbeddedCluster(tmp_path / "cluster", ephemeral=True)
    with pytest.raises(ClusterError, match="not empty"):
        await cluster.start()
    await cluster.stop()
    assert (tmp_path / "cluster" / "precious").exists()


async def test_a_kept_port_that_is_taken_is_named(tmp_path: Path):
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    directory = tmp_path / "cluster"
    directory.mkdir()
    (directory / "state.json").write_text(f'{{"ports": {{"kube-apiserver": {port}, "etcd": 1, "etcd-peer": 1}}}}')
    async with taken:
        with pytest.raises(ClusterError, match="is taken by another program"):
            await EmbeddedCluster(directory).start()


async def test_a_component_that_cannot_start_is_explained(tmp_path: Path):
    cluster = EmbeddedCluster(
        tmp_path / "cluster", ephemeral=True, component_args=["kube-apiserver=--no-such-flag"])
    with pytest.raises(ClusterError, match="unknown flag: --no-such-flag"):
        await cluster.start()
    await cluster.stop()


async def test_files_of_a_cluster_that_is_gone_do_not_deceive(tmp_path: Path):
    """The file names a process that lives, namely this one, which is not the supervisor."""
    directory = tmp_path / "cluster"
    directory.mkdir()
    (directory / "lock").touch()
    (directory / "ready.json").write_text(
        f'{{"kubeconfig": "/x", "server": "https://127.0.0.1:1", "data_dir": "{directory}", '
        f'"supervisor": {os.getpid()}, "pids": {{}}, "seconds": 1.0}}')
    cluster = EmbeddedCluster(directory)
    assert holder(directory / "lock") == 0
    assert cluster.status() is None
    await cluster.stop()
