"""`python -m bench`: runs the phases, prints each as it ends, writes all of them."""

from __future__ import annotations

import asyncio
import sys

from bench import report
from bench.options import parse
from bench.run import run


def main() -> int:
    """Exit code 0 when every phase ended."""
    options = parse(sys.argv[1:])
    measurements = asyncio.run(run(options))
    if options.out is not None:
        report.write(measurements, options.out)
        print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
