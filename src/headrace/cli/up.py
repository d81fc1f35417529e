"""`headrace up`: a cluster, a source and the engine together in the foreground.

A directory is followed by a shadow repository that is served over loopback HTTP, so that what is delivered comes
through a real GitRepository and a real Kustomization, by the same code as in any other cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from headrace.api.kinds import GIT_REPOSITORY
from headrace.api.meta import RECONCILE_REQUEST
from headrace.cli import paths
from headrace.cli.connect import FIELD_MANAGER, Connection, cluster_errors, resource_of
from headrace.cli.directory_watch import saves
from headrace.cli.exits import FAILED, OK, REFUSED, TIMED_OUT, UNREACHABLE, USAGE, CommandError
from headrace.cli.install import apply, install_crds
from headrace.cli.output import action, failure, success, waiting
from headrace.cli.progress import Progress
from headrace.cli.root import GIT_REPOSITORY_REFERENCE, HANDS_OFF, Root, root_objects
from headrace.cli.run import stop_on_signals
from headrace.cli.runtime import Runtime
from headrace.cli.settled import Goal, Standing, overall, standing
from headrace.cli.shadow import BRANCH, Shadow, ShadowError
from headrace.cli.view import shorten
from headrace.cluster import ClusterError, ControlPlaneMissing, EmbeddedCluster
from headrace.core import log
from headrace.core.clock import SystemClock, rfc3339_micro
from headrace.core.duration import format_duration, parse_duration
from headrace.core.programs import ProgramNotBuilt
from headrace.edge.git_server import USER, git_application
from headrace.edge.listen import free_port, serve
from headrace.kube.client import Client
from headrace.kube.config import ClientConfig, load_kubeconfig
from headrace.settings import Settings, load
from headrace.toolbox import Toolbox

_SETTLE_SECONDS = 5.0
"""How long a failure has to stand with nothing moving before `--once` takes it for the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What the user chose."""

    source: str
    path: str
    branch: str
    interval: str
    ephemeral: bool
    once: bool
    timeout: float
    verbose: bool


@dataclass(frozen=True, slots=True)
class Home:
    """Where this run keeps its files, and whether they are gone at the end."""

    root: Path
    ephemeral: bool

    @property
    def engine(self) -> Path:
        return paths.private(self.root / "engine")

    @property
    def shadow(self) -> Path:
        return paths.private(self.root / "shadow")


async def up(options: UpOptions) -> int:
    """Run until interrupted, or with `--once` until the delivery has settled. Returns OK, FAILED or TIMED_OUT.

    Raises CommandError(REFUSED) beside another `up`, CommandError(USAGE) on a source that is none, CommandError(FAILED)
    without a toolbox that is fit.
    """
    _check(options)
    await _check_toolbox()
    with _home(options) as home, _logging(options, home):
        async with _cluster(home) as cluster:
            config = load_kubeconfig(cluster.kubeconfig, trusted=True)
            with cluster_errors(config.server):
                return await _deliver(options, home, config, cluster.kubeconfig)


def _check(options: UpOptions) -> None:
    try:
        parse_duration(options.interval)
    except ValueError as error:
        raise CommandError(f"--interval: {error}", USAGE) from None
    if not is_url(options.source) and not Path(options.source).is_dir():
        raise CommandError(f"'{options.source}' is neither a directory nor an http(s) URL", USAGE)


async def _check_toolbox() -> None:
    """The engine would look at it too, but only when the cluster has been started."""
    try:
        async with Toolbox(size=1) as toolbox:
            await toolbox.check()
    except ProgramNotBuilt as error:
        raise CommandError(str(error), FAILED) from None


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://", "ssh://"))


@contextlib.contextmanager
def _home(options: UpOptions) -> Iterator[Home]:
    """The files of this run: a temporary directory, or the user's state directory under a lock."""
    if options.ephemeral:
        with tempfile.TemporaryDirectory(prefix="headrace-", ignore_cleanup_errors=True) as temporary:
            yield Home(Path(temporary), ephemeral=True)
        return
    root = paths.private(paths.state_home())
    with open(paths.up_lock(), "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CommandError(f"another headrace up is running (process {lock.read().strip()})", REFUSED) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield Home(root, ephemeral=False)
        lock.truncate(0)


@contextlib.contextmanager
def _logging(options: UpOptions, home: Home) -> Iterator[None]:
    """The engine's log goes to a file, or with `--verbose` to the terminal."""
    if options.verbose:
        log.configure("info", "console")
        yield
        return
    with open(home.engine / "engine.log", "a") as file:
        log.configure("info", "console", file)
        yield


@contextlib.asynccontextmanager
async def _cluster(home: Home) -> AsyncIterator[EmbeddedCluster]:
    """The embedded cluster, running. It goes on running at the end unless it is ephemeral."""
    cluster = EmbeddedCluster(home.root / "cluster", ephemeral=home.ephemeral)
    running = cluster.status() is not None
    if not running:
        action("starting the embedded cluster")
    try:
        info = await cluster.start()
    except (ClusterError, ControlPlaneMissing) as error:
        raise CommandError(str(error), UNREACHABLE) from None
    success(f"cluster {'found' if running else 'started'}: {info.server}")
    try:
        yield cluster
    finally:
        if home.ephemeral:
            await cluster.stop()


async def _deliver(options: UpOptions, home: Home, config: ClientConfig, kubeconfig: Path) -> int:
    """Install, start the source and the engine, and stay."""
    stop = stop_on_signals()
    async with contextlib.AsyncExitStack() as stack:
        connection = Connection(await stack.enter_async_context(Client(config, user_agent="headrace-cli")))
        await install_crds(connection, annotations=HANDS_OFF, quiet=True)
        shadow = None if is_url(options.source) else await _shadow(options, home)
        root = await stack.enter_async_context(_source(options, home, shadow))
        progress = Progress()
        runtime = Runtime(up_settings(home), config, listener=progress.observe)
        generations = {}
        for manifest in root_objects(root):
            live = await apply(connection, manifest, quiet=True)
            generations[live.reference] = live.metadata.generation
        _tell(options, kubeconfig, home)
        stack.enter_context(progress.shown())
        delivery = _Delivery(connection, progress, shadow, Goal(generations=generations))
        await delivery.begin()
        return await _stay(options, runtime, delivery, stop)


def up_settings(home: Home) -> Settings:
    """Settings of an engine on this machine: loopback only, free ports, everything below `home`."""
    return load({
        "metrics-addr": "127.0.0.1:0",
        "health-addr": "127.0.0.1:0",
        "storage-addr": f"127.0.0.1:{_port(home, 'storage')}",
        "storage-path": str(paths.private(home.engine / "artifacts")),
        "state-path": str(paths.private(home.engine / "state")),
        "enable-leader-election": "true",
        "beside-flux": "true",
        "allow-loopback": "true",
    })  # fmt: skip


def _port(home: Home, name: str) -> int:
    """A port that is kept from run to run while it is free: URLs with it stand in the cluster."""
    file = home.root / f"{name}.port"
    wanted = int(file.read_text()) if file.exists() and file.read_text().isdigit() else 0
    port = free_port(wanted)
    file.write_text(str(port))
    return port


async def _shadow(options: UpOptions, home: Home) -> Shadow:
    shadow = Shadow(Path(options.source), home.shadow)
    try:
        await shadow.open()
        await shadow.record()
    except ShadowError as error:
        raise CommandError(str(error), FAILED) from None
    return shadow


@contextlib.asynccontextmanager
async def _source(options: UpOptions, home: Home, shadow: Shadow | None) -> AsyncIterator[Root]:
    """What the root objects say; while open, a directory is served."""
    if shadow is None:
        yield Root(url=options.source, branch=options.branch, path=options.path, interval=options.interval)
        return
    password = secrets.token_urlsafe(24)
    async with serve(git_application(home.shadow, password), f"127.0.0.1:{_port(home, 'git')}") as address:
        yield Root(url=f"http://{address}/{shadow.name}", branch=BRANCH, path=options.path,
                   interval=options.interval, user=USER, password=password)  # fmt: skip


def _tell(options: UpOptions, kubeconfig: Path, home: Home) -> None:
    success(f"delivering {options.source} (path {options.path}) as Kustomization/flux-system/flux-system")
    if home.ephemeral:
        action(f"kubectl: export KUBECONFIG={kubeconfig}")
    else:
        action(f"kubectl: headrace kubectl get ks -A, or export KUBECONFIG={kubeconfig}")


class _Delivery:
    """What happens besides the engine: the directory is followed, and the end is noticed."""

    def __init__(self, connection: Connection, progress: Progress, shadow: Shadow | None, goal: Goal) -> None:
        self.progress = progress
        self._connection = connection
        self._shadow = shadow
        self._goal = goal

    async def begin(self) -> None:
        """Ask for a run of the source as it is now."""
        if self._shadow is None:
            await self._request("")
        else:
            await self._record("revision")

    async def follow(self) -> None:
        """Record every save, and ask for a run of the source."""
        if self._shadow is None:
            return
        async for _ in saves(self._shadow.directory):
            await self._record("saved: revision")

    async def _record(self, what: str) -> None:
        assert self._shadow is not None
        try:
            commit = await self._shadow.record()
        except ShadowError as error:
            self.progress.note(f"✗ {error}")
            return
        if commit.revision != self._goal.revision:
            self.progress.note(f"► {what} {shorten(commit.revision)}")
            await self._request(commit.revision)

    async def _request(self, revision: str) -> None:
        token = rfc3339_micro(SystemClock().now())
        self._goal = replace(self._goal, request=token, revision=revision)
        body = orjson.dumps({"metadata": {"annotations": {RECONCILE_REQUEST: token}}})
        reference = GIT_REPOSITORY_REFERENCE
        await self._connection.client.patch(
            resource_of(GIT_REPOSITORY), reference.namespace, reference.name, body, field_manager=FIELD_MANAGER
        )

    async def settled(self) -> Standing:
        """Return READY as soon as it is, FAILED when that has stood for some seconds."""
        while True:
            self.progress.changed.clear()
            now = overall(self.progress.objects, self._goal)
            if now is Standing.READY:
                return now
            limit = _SETTLE_SECONDS if now is Standing.FAILED else None
            try:
                await asyncio.wait_for(self.progress.changed.wait(), limit)
            except TimeoutError:
                return Standing.FAILED


async def _stay(options: UpOptions, runtime: Runtime, delivery: _Delivery, stop: asyncio.Event) -> int:
    """Serve until told to stop; with `--once` until the delivery has settled."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(runtime.serve(stop), name="engine")
        following = tasks.create_task(delivery.follow(), name="follow")
        if options.once:
            code = await _once(options, delivery, stop)
        else:
            await stop.wait()
            code = OK
        following.cancel()
        stop.set()
        await serving
    return code


async def _once(options: UpOptions, delivery: _Delivery, stop: asyncio.Event) -> int:
    settling = asyncio.ensure_future(delivery.settled())
    stopping = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait({settling, stopping}, timeout=options.timeout, return_when="FIRST_COMPLETED")
    for task in (settling, stopping):
        task.cancel()
    objects = delivery.progress.objects.values()
    ready = sum(standing(obj) is Standing.READY for obj in objects)
    if settling in done and settling.result() is Standing.READY:
        success(f"all {ready} objects are Ready")
        return OK
    failure(f"{ready} of {len(objects)} objects are Ready; `headrace explain` says why")
    if done:
        return FAILED
    waiting(f"gave up after {format_duration(options.timeout)}")
    return TIMED_OUT
