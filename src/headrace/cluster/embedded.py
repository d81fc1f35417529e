"""Start, find and stop the embedded control plane in a data directory."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec

from headrace.cluster.binary import find_controlplane
from headrace.cluster.locks import holder, one_at_a_time, signal_holder
from headrace.cluster.process import Supervisor, start_supervisor
from headrace.core.clock import Clock, SystemClock

_POLL = 0.02
_STOP_GRACE = 20.0
_SIGNAL_KILL_GRACE = 5.0
_CONNECT_SECONDS = 5.0
_NOTHING = 0


class ClusterError(Exception):
    """The control plane did not start or stop; the message says what to do."""


class ClusterInfo(msgspec.Struct, frozen=True, gc=False):
    """A running control plane, as its supervisor tells it."""

    kubeconfig: Path
    server: str
    data_dir: Path
    supervisor: int
    """Process id of the supervisor."""
    pids: dict[str, int]
    """Process ids by component."""
    seconds: float
    """How long the start took."""


def _path(kind: type, value: str) -> Path:
    """msgspec asks this for the types that it does not know, of which there is one."""
    return Path(value)


_decoder = msgspec.json.Decoder(ClusterInfo, dec_hook=_path)


class EmbeddedCluster:
    """The control plane whose data is in `data_dir`; `kubeconfig` is that of its administrator.

    A durable one keeps its data, ports and certificates, serves several commands, and outlives this process. One that
    is `ephemeral` is tied to this process, writes without fsync, and its data is removed when it stops. As an async
    context manager it is started, and stopped again if it was not running before.
    """

    def __init__(
        self,
        data_dir: Path,
        ephemeral: bool = False,
        nodes: int = 2,
        binary: Path | None = None,
        *,
        audit_log: Path | None = None,
        component_args: Sequence[str] = (),
        wait: str = "nodes",
        timeout: float = 120.0,
        clock: Clock | None = None,
    ) -> None:
        """`component_args` are like `kube-apiserver=--flag=value`; `wait` is `api` or, for nodes that are ready too,
        `nodes`."""
        self.data_dir = Path(data_dir).absolute()
        self.kubeconfig = self.data_dir / "kubeconfig"
        self._ephemeral = ephemeral
        self._nodes = nodes
        self._binary = binary
        self._audit_log = audit_log
        self._component_args = component_args
        self._wait = wait
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._started: Supervisor | None = None
        self._owned = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started is not None:
            await self.stop()

    @property
    def pid(self) -> int:
        """Process id of the supervisor; 0 when the cluster is not running."""
        return holder(self._lock)

    @property
    def _lock(self) -> Path:
        return self.data_dir / "lock"

    async def start(self) -> ClusterInfo:
        """Start the cluster, or return the one that runs already. Raises ClusterError, ControlPlaneMissing."""
        binary = self._binary or find_controlplane()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with one_at_a_time(self._starting, self._clock):
            if holder(self._lock) == _NOTHING:
                self._spawn(binary)
            return await self._ready()

    @property
    def _starting(self) -> Path:
        return self._file("starting.lock")

    @property
    def _errors(self) -> Path:
        return self._file("supervisor.log")

    def _file(self, name: str) -> Path:
        """A file of ours: beside the directory when an ephemeral cluster wants it to be empty, and removes it."""
        return self.data_dir.with_name(f".{self.data_dir.name}-{name}") if self._ephemeral else self.data_dir / name

    def _spawn(self, binary: Path) -> None:
        self._ready_file.unlink(missing_ok=True)
        argv = [str(binary), "start", f"--data-dir={self.data_dir}", f"--nodes={self._nodes}", f"--wait={self._wait}"]
        argv += [f"--timeout={self._timeout:g}s"]
        if self._ephemeral:
            argv += ["--ephemeral", "--stop-on-eof"]
        if self._audit_log is not None:
            argv += [f"--audit-log={self._audit_log.absolute()}"]
        argv += [f"--component-arg={argument}" for argument in self._component_args]
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
        self._started = start_supervisor(argv, environment, self._errors, tied=self._ephemeral)

    @property
    def _ready_file(self) -> Path:
        return self.data_dir / "ready.json"

    async def _ready(self) -> ClusterInfo:
        """Wait until the supervisor says that it is ready, and the API server takes connections."""
        try:
            async with asyncio.timeout(self._timeout + _CONNECT_SECONDS):
                while (info := self._read()) is None:
                    self._check_alive()
                    await self._clock.sleep(_POLL)
                await self._connect(info)
                self._owned = self._started is not None
                return info
        except TimeoutError:
            raise ClusterError(f"the control plane in {self.data_dir} is not ready; see {self._errors}") from None

    def _check_alive(self) -> None:
        gone = self._started.ended() if self._started is not None else holder(self._lock) == _NOTHING
        if gone:
            self._started = None
            said = self._errors.read_text(errors="replace").strip() if self._errors.exists() else ""
            raise ClusterError(said or f"the control plane in {self.data_dir} ended")

    def _read(self) -> ClusterInfo | None:
        """What the running supervisor says; None before it is ready, and when the file is that of another one."""
        try:
            info = _decoder.decode(self._ready_file.read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return info if info.supervisor == holder(self._lock) else None

    async def _connect(self, info: ClusterInfo) -> None:
        address = urlsplit(info.server)
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(address.hostname, address.port)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return
            self._check_alive()
            await self._clock.sleep(_POLL)

    def status(self) -> ClusterInfo | None:
        """The running cluster, or None."""
        return self._read()

    async def stop(self) -> None:
        """Stop the cluster, whoever started it; nothing happens when it is not running. Raises ClusterError."""
        if not self.data_dir.exists() and self._started is None:
            return
        if self._started is not None:
            self._started.untie()
        signal_holder(self._lock, signal.SIGTERM)
        if not await self._gone(_STOP_GRACE):
            signal_holder(self._lock, signal.SIGKILL)
            if not await self._gone(_SIGNAL_KILL_GRACE):
                raise ClusterError(f"the control plane in {self.data_dir} does not stop (process {self.pid})")
        self._started = None
        self._clean()

    async def _gone(self, grace: float) -> bool:
        return await self._until(self._is_gone, grace)

    def _is_gone(self) -> bool:
        started = self._started
        return holder(self._lock) == _NOTHING and (started is None or started.ended())

    async def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        end = self._clock.monotonic() + seconds
        while not done():
            if self._clock.monotonic() > end:
                return False
            await self._clock.sleep(_POLL)
        return True

    def _clean(self) -> None:
        if self._ephemeral and self._owned:
            # A supervisor that had to be killed could not remove its data.
            shutil.rmtree(self.data_dir, ignore_errors=True)
            self._starting.unlink(missing_ok=True)
            self._errors.unlink(missing_ok=True)
