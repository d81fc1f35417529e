"""An engine in a process of its own, to be killed: its arguments are kubeconfig, directory and namespace.

Prints `started` when it serves. Faults are put in by HEADRACE_FAIL.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from headrace.kube.config import load_kubeconfig
from tests.cluster.kustomization.world import running_engine


async def main(kubeconfig: str, directory: str, namespace: str) -> None:
    async with running_engine(load_kubeconfig(Path(kubeconfig), trusted=True), Path(directory), namespace):
        print("started", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
