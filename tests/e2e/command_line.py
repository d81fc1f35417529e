"""The real command line as processes, with directories of its own for everything that it keeps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

DEADLINE = 90.0
"""Seconds after which something that should happen has not."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err

    def ok(self) -> str:
        """What it printed, after making sure that it went well."""
        assert self.code == 0, self.said
        return self.out

    def data(self) -> Any:
        return json.loads(self.ok())


class Process:
    """A command that runs in the foreground; what it says goes to a file."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def until_said(self, text: str) -> None:
        """Wait for a text in its output. Fails when the command ends without it."""
        until(lambda: text in self.log or not self.running, f"'{text}' from {self._popen.args}")
        assert text in self.log, f"ended with {self._popen.returncode}: {self.log}"

    def stop(self) -> int:
        """SIGTERM; returns the exit code. SIGKILL, and a failure, when it does not listen."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
        try:
            return self._popen.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            raise AssertionError(f"does not end on SIGTERM: {self.log}") from None

    def kill(self) -> None:
        if self.running:
            self._popen.kill()
        self._popen.wait()


class CommandLine:
    """`headrace` with its state below `home`; `kubeconfig`, when given, is what KUBECONFIG says."""

    def __init__(self, home: Path, kubeconfig: Path | None = None) -> None:
        self._home = home
        self._number = 0
        runtime = home / "run"
        runtime.mkdir(parents=True, exist_ok=True)
        hidden = ("KUBECONFIG", "RUNTIME_NAMESPACE", "FLUX_SYSTEM_NAMESPACE")
        self.env = {k: v for k, v in os.environ.items() if k not in hidden and not k.startswith("HEADRACE_")}
        self.env |= {"XDG_STATE_HOME": str(home / "state"), "XDG_RUNTIME_DIR": str(runtime), "HOME": str(home)}
        self.env["PYTHONPATH"] = os.pathsep.join(sys.path)
        if kubeconfig is not None:
            self.env["KUBECONFIG"] = str(kubeconfig)

    def __call__(self, *argv: str | Path, stdin: str = "", timeout: float = DEADLINE) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "headrace", *map(str, argv)],
            input=stdin, capture_output=True, text=True, env=self.env, timeout=timeout, cwd=self._home,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *argv: str | Path) -> Process:
        """Start a command that stays."""
        self._number += 1
        log = self._home / f"{argv[0]}-{self._number}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "headrace", *map(str, argv)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.env, cwd=self._home,
            )  # fmt: skip
        return Process(popen, log)

    def kubectl(self, *argv: str, stdin: str = "") -> str:
        return self("kubectl", *argv, stdin=stdin).ok()


def until(found: Callable[[], T], what: str) -> T:
    """The first true result of `found`. Fails when there is none before the deadline."""
    end = time.monotonic() + DEADLINE
    while not (result := found()):
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.1)
    return result
