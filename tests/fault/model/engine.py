"""An engine in a process of its own whose wall clock can be made to jump: its arguments are kubeconfig, directory,
namespace, and a file that holds by how many seconds the clock is wrong.

Logs to standard error.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from headrace.core.clock import SystemClock
from headrace.kube.config import load_kubeconfig
from headrace.kube.informer import WatchSettings
from tests.cluster.kustomization.world import running_engine

WATCH = WatchSettings(
    silence=4.0, retry_minimum=0.1, retry_maximum=1.0, refused_minimum=5.0, refused_maximum=10.0
)
"""Shorter than in earnest where only patience is saved: an idle watch is given up within seconds."""


class WrongClock(SystemClock):
    """The clock of a machine that somebody sets; what is monotonic stays so."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> float:
        return super().now() + float(self._file.read_text())


async def main(kubeconfig: str, directory: str, namespace: str, file: str) -> None:
    config, clock = load_kubeconfig(Path(kubeconfig), trusted=True), WrongClock(Path(file))
    async with running_engine(config, Path(directory), namespace, clock=clock, watch=WATCH):
        logging.getLogger(__name__).info("started")
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(main(*sys.argv[1:]))
