"""Options that many commands have, and how a command's work is run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.core.duration import parse_duration

Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Kubeconfig file. Default: KUBECONFIG, the cluster of `up`, ~/.kube/config."),
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", envvar="FLUX_SYSTEM_NAMESPACE", help="Namespace.")]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces.")]
Timeout = Annotated[
    float, typer.Option("--timeout", parser=parse_duration, metavar="DURATION", help="How long to wait, as 5m.")
]


def do(work: Coroutine[Any, Any, int]) -> None:
    """Run the work of a command; its result is the exit code."""
    import asyncio

    _wait_for_children_without_threads()
    raise typer.Exit(asyncio.run(work))


def _wait_for_children_without_threads() -> None:
    """As Python 3.12 does it: before, a thread waits for each child, and git is several children a fetch."""
    import asyncio
    import os

    if sys.version_info >= (3, 12):
        return
    with contextlib.suppress(AttributeError, OSError):  # no Linux, or one older than 5.3
        os.close(os.pidfd_open(os.getpid()))
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


def target_of(kubeconfig: Path | None, context: str | None, namespace: str, everywhere: bool = False) -> Any:
    """The cluster and namespace that the options name."""
    from headrace.cli.connect import Target

    return Target(kubeconfig, context, "" if everywhere else namespace)
