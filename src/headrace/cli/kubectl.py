"""`headrace kubectl ...`: the kubectl that comes with the embedded control plane, with its kubeconfig."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from headrace.cli import paths
from headrace.cli.exits import FAILED, CommandError


def kubectl(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Become kubectl: its exit code, its terminal. KUBECONFIG, when set, stays in charge.

    Raises CommandError when the program is not built.
    """
    program = binary("headrace-controlplane")
    env = dict(environment)
    if "KUBECONFIG" not in env and paths.kubeconfig().exists():
        env["KUBECONFIG"] = str(paths.kubeconfig())
    os.execve(program, [str(program), "kubectl", *arguments], env)


def binary(name: str) -> Path:
    """The path of one of the package's Go programs. Raises CommandError when it is not there."""
    path = Path(__file__).parents[1] / "bin" / name
    if not path.is_file():
        raise CommandError(f"{path} is missing: build the package (make), or reinstall it", FAILED)
    return path
