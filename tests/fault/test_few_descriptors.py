"""An engine that is short of what a machine gives: it may hold 64 files and connections, or its children are killed
for want of memory. Everything is delivered nevertheless, or said to be missing until it can be; nothing is lost."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.api.kinds import GIT_REPOSITORY, KUSTOMIZATION
from tests.cluster.kustomization.world import World, condition, config_map, inventory
from tests.eventually import eventually
from tests.fault.killable import CONFIG_MAPS, ROOT
from tests.servers.control_plane import ControlPlane

DESCRIPTORS = 64
NAMES = [f"app-{number:02d}" for number in range(20)]


class LimitedEngine:
    """`headrace run` with few descriptors, for itself and all that it starts."""

    def __init__(self, world: World, cluster: ControlPlane, home: Path) -> None:
        argv = [
            sys.executable, "-m", "headrace", "run", f"--kubeconfig={cluster.kubeconfig}", "--beside-flux=true",
            "--enable-leader-election=false", "--watch-all-namespaces=false", f"--storage-path={home / 'storage'}",
            "--storage-addr=127.0.0.1:0", f"--socket={home / 'socket'}", "--metrics-addr=", "--health-addr=",
            "--allow-loopback=true", "--min-retry-delay=200ms",
        ]  # fmt: skip
        self._argv = ["/bin/sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "limited", *argv]
        self._environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "RUNTIME_NAMESPACE": world.namespace}
        self._log = home / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """It runs to the end of the context, without a bug of its own."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield
            assert self._process.poll() is None, self.log
            assert "Traceback" not in self.log
        finally:
            self._process.kill()
            self._process.wait()

    def allow(self, descriptors: int) -> None:
        """From now on so many; those that are open stay open."""
        assert self._process is not None
        resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (descriptors, DESCRIPTORS))

    def helpers(self) -> set[int]:
        """The toolbox children."""
        assert self._process is not None
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        children = {int(pid) for task in tasks for pid in task.read_text().split()}
        return {pid for pid in children if Path(f"/proc/{pid}/comm").read_text().startswith("headrace-toolbo")}


@pytest.fixture
def limited(world: World, cluster: ControlPlane, tmp_path: Path) -> LimitedEngine:
    return LimitedEngine(world, cluster, tmp_path)


async def of_each(world: World, names: list[str]) -> None:
    """Sources and what is delivered from them, each by itself."""
    commit(world, names, "old")
    for name in names:
        await world.source(name)
        source = {"kind": "GitRepository", "name": name}
        await world.kustomization(
            name, sourceRef=source, path=f"./{name}", targetNamespace=world.namespace, retryInterval="1s"
        )


def commit(world: World, names: list[str], suffix: str) -> str:
    """A revision in which each delivers one ConfigMap, and none of the revisions before."""
    return world.commit({f"{name}/file.yaml": config_map(f"{name}-{suffix}") for name in names})


async def assert_delivered(world: World, suffix: str, revision: str = "") -> None:
    for name in NAMES:
        assert inventory(await world.ready(name, revision)) == {f"{world.namespace}_{name}-{suffix}__ConfigMap"}
    assert await there(world) == {f"{name}-{suffix}" for name in NAMES}


async def there(world: World) -> set[str]:
    listing = await world.client.list(
        CONFIG_MAPS, world.namespace, label_selector=f"kustomize.toolkit.fluxcd.io/namespace={world.namespace}"
    )
    return {live.metadata.name for live in listing.items}


@pytest.mark.spec("REL-42")
async def test_an_engine_with_64_descriptors_delivers_everything(world: World, limited: LimitedEngine) -> None:
    await of_each(world, NAMES)
    with limited.serving():
        await assert_delivered(world, "old")


@pytest.mark.spec("REL-42")
async def test_what_cannot_be_opened_is_said_and_nothing_is_lost_until_it_can(
    world: World, limited: LimitedEngine
) -> None:
    await of_each(world, NAMES)
    with limited.serving():
        await assert_delivered(world, "old")
        limited.allow(1)
        revision = commit(world, NAMES, "new")
        for name in NAMES:
            await world.request(GIT_REPOSITORY, name)
        for name in NAMES:
            await world.until(
                GIT_REPOSITORY, name, lambda o: "Too many open files" in condition(o, "Ready").get("message", "")
            )
        assert await there(world) == {f"{name}-old" for name in NAMES}
        limited.allow(DESCRIPTORS)
        await assert_delivered(world, "new", revision)


@pytest.mark.spec("REL-42")
async def test_a_build_whose_child_the_system_kills_for_want_of_memory_is_told_and_made_again(
    world: World, limited: LimitedEngine
) -> None:
    """The child is held up in the build, so that it is in the middle of it when it is killed."""
    names = NAMES[:3]
    await of_each(world, names)
    with limited.serving():
        for name in names:
            await world.ready(name)
        helpers = limited.helpers()
        assert helpers
        for pid in helpers:
            os.kill(pid, signal.SIGSTOP)
        revision = commit(world, names, "new")
        for name in names:
            await world.request(GIT_REPOSITORY, name)
        await world.until(
            KUSTOMIZATION, names[0], lambda o: f"Building manifests for revision {revision}" in str(o["status"])
        )
        for pid in helpers:
            os.kill(pid, signal.SIGKILL)
        for name in names:
            assert inventory(await world.ready(name, revision)) == {f"{world.namespace}_{name}-new__ConfigMap"}
        await eventually(lambda: not helpers & limited.helpers())
    events = [event for name in names for event in await world.events(name) if event["type"] == "Warning"]
    told = [(event["reason"], event["message"]) for event in events]
    assert told == [("BuildFailed", "the toolbox was ended by signal 9")], "one was in the child, others in line"
