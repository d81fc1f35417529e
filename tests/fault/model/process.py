"""The engine's process: started, killed, frozen, with a wrong clock, one after the other on the same directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


class EngineProcess:
    """See the module. `log` holds what all of them said."""

    def __init__(self, kubeconfig: Path, directory: Path, namespace: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "engine.log"
        self._clock = directory / "clock"
        self._arguments = (str(kubeconfig), str(directory / "state"), namespace, str(self._clock))
        self._process: asyncio.subprocess.Process | None = None
        self.set_clock(0.0)

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.returncode is not None

    async def start(self) -> None:
        """Start one if there is none; it serves some moments later."""
        if self._process is not None:
            return
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.fault.model.engine", *self._arguments, env=environment,
                stdout=asyncio.subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def freeze(self) -> None:
        """Stop it where it is, as a machine does that is out of memory or being moved."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def set_clock(self, wrong: float) -> None:
        """Let the wall clock be wrong by so many seconds from now on."""
        new = self._clock.with_suffix(".new")
        new.write_text(str(wrong))
        new.replace(self._clock)

    def said(self, lines: int = 60) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
