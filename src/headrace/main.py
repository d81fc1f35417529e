"""The entry point of the `headrace` program: hands over to the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; never returns. Says so and exits with 2 on anything else than Linux."""
    if not sys.platform.startswith("linux"):
        print(f"headrace runs on Linux only, not on {sys.platform}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    from headrace.cli.app import run

    sys.exit(run(sys.argv[1:]))
