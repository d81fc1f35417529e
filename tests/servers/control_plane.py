"""One real control plane for a whole test run, shared by all of pytest-xdist's workers.

Whoever comes first starts it; its standard input is a FIFO that every worker keeps open for writing. When the
last worker has ended, in whatever way, the FIFO is at its end and the control plane stops and removes its
data.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import headrace
from headrace.kube.config import ClientConfig, load_kubeconfig

BINARY = Path(headrace.__file__).parent / "bin" / "headrace-controlplane"
START_TIMEOUT = 180.0


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane. `config` is its administrator's."""

    kubeconfig: Path

    @property
    def config(self) -> ClientConfig:
        return load_kubeconfig(self.kubeconfig, trusted=True)


@contextlib.contextmanager
def shared_control_plane(directory: Path) -> Iterator[ControlPlane]:
    """The control plane of this test run, which `directory` (common to all workers) belongs to."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held, ready, process = _join(directory) or _start(directory)
    try:
        yield ControlPlane(Path(ready["kubeconfig"]))
    finally:
        os.close(held)
        if process is not None:
            _await_end(process)


def _join(directory: Path) -> tuple[int, dict[str, str], None] | None:
    """Hold on to the control plane that another worker has started; None when there is none."""
    current = directory / "current"
    if not current.exists():
        return None
    home = directory / current.read_text()
    try:
        # Without a reader, which is the control plane, this fails.
        held = os.open(home / "alive", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None
    return held, json.loads((home / "ready.json").read_text()), None


def _start(directory: Path) -> tuple[int, dict[str, str], subprocess.Popen[bytes]]:
    if not BINARY.exists():
        raise FileNotFoundError(f"{BINARY} is missing: `make build` makes it")
    home = directory / f"{os.getpid()}-{time.monotonic_ns()}"
    home.mkdir()
    os.mkfifo(home / "alive")
    held = os.open(home / "alive", os.O_RDWR)
    argv: list[str | Path] = [
        BINARY, "start", "-ephemeral", "-stop-on-eof", "-data-dir", home / "data", "-ready-file", home / "ready.json",
    ]  # fmt: skip
    with (home / "log").open("wb") as log, (home / "alive").open("rb", buffering=0) as alive:
        process = subprocess.Popen(argv, stdin=alive, stdout=log, stderr=log, start_new_session=True)
    os.set_blocking(held, False)
    # From here on only the child holds the reading end besides this O_RDWR one, which is given up at once.
    writing = os.open(home / "alive", os.O_WRONLY)
    os.close(held)
    ready = _await_ready(home, process)
    (directory / "current").write_text(home.name)
    return writing, ready, process


def _await_ready(home: Path, process: subprocess.Popen[bytes]) -> dict[str, str]:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            ready: dict[str, str] = json.loads((home / "ready.json").read_text())
            return ready
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise RuntimeError(f"the control plane did not start: {(home / 'log').read_text()[-2000:]}")


def _await_end(process: subprocess.Popen[bytes]) -> None:
    """Alone, see it end; among other workers it goes on for them, and init takes care of it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=2 if "PYTEST_XDIST_WORKER" in os.environ else 30)
    # It is not ours to wait for any longer, and nobody is to be warned of that.
    process.returncode = process.returncode if process.returncode is not None else 0
