"""The command line of the benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PHASES = ("install", "upgrade", "idle", "reconcile", "chain", "commit", "restart", "loss")
"""Every phase, in the order in which they run; each builds on what `install` made, `chain` excepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user chose.

    `n` apps, `phases` to run, `out` file for the JSON; `keep` leaves the logs and the cluster's data behind and names
    the folder; `profile` is the file for py-spy's profile of the engine; `audit` turns on the API server's audit log;
    `idle` is how long the idle phase watches, in seconds.
    """

    n: int = 100
    source: str = "git"
    """What the apps come from: `git`, or `oci` for artifacts in a registry."""
    phases: tuple[str, ...] = PHASES
    out: Path | None = None
    keep: bool = False
    profile: Path | None = None
    audit: Path | None = None
    idle: float = 60.0
    timeout: float = 600.0
    floor: bool = True
    """Whether `mandatory_seconds` is measured; a test of something else need not wait for it."""


def parse(argv: Sequence[str]) -> Options:
    """Options of a command line; exits with usage for a bad one."""
    args = _parser().parse_args(argv)
    phases = tuple(phase for phase in PHASES if phase in args.phases)
    return Options(n=args.n, source=args.source, phases=phases, out=args.out, keep=args.keep, profile=args.profile,
                   audit=args.audit, idle=args.idle, timeout=args.timeout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure headrace on a real control plane.")
    parser.add_argument("--n", type=_count, default=100, help="apps: a source and a Kustomization each")
    parser.add_argument("--source", choices=("git", "oci"), default="git", help="what the apps come from")
    parser.add_argument("--out", type=Path, help="write the measurements to this file as JSON")
    parser.add_argument("--phases", type=_phases, default=frozenset(PHASES), metavar="A,B",
                        help=f"only these of {', '.join(PHASES)} (upgrade, reconcile and commit need install)")
    parser.add_argument("--keep", action="store_true", help="leave logs and data behind, and say where")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="profile the engine with py-spy (raw stacks)")
    parser.add_argument("--audit", type=Path, metavar="FILE", help="write the API server's audit log to this file")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds of the idle phase")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds after which a phase has failed")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 5000:
        raise argparse.ArgumentTypeError("must be between 1 and 5000")
    return number


def _phases(text: str) -> frozenset[str]:
    chosen = frozenset(part.strip() for part in text.split(",") if part.strip())
    unknown = chosen - set(PHASES)
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"unknown phase {', '.join(sorted(unknown)) or '(none)'}")
    if chosen & {"upgrade", "reconcile", "commit"} and "install" not in chosen:
        raise argparse.ArgumentTypeError("upgrade, reconcile and commit need install")
    return chosen
