"""Options that many commands have, and how a command's work is run."""

from __future__ import annotations

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

    raise typer.Exit(asyncio.run(work))


def target_of(kubeconfig: Path | None, context: str | None, namespace: str, everywhere: bool = False) -> Any:
    """The cluster and namespace that the options name."""
    from headrace.cli.connect import Target

    return Target(kubeconfig, context, "" if everywhere else namespace)
