"""Pins all dependencies with hashes: requirements.txt (the package with its extras) and requirements-go.txt (the Go
release for machines without one).

`python hack/lock.py` resolves anew; `--check` fails when a lock file was made from other dependencies than those
pyproject.toml names now. The files name no index, so they work with whichever one pip is set up for.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESOLVER = "uv==0.13.9"
OLDEST_PYTHON = "3.11"
FILES: dict[str, tuple[str, ...]] = {"requirements.txt": ("", "dev"), "requirements-go.txt": ("go",)}
"""Lock file -> the extras it pins; "" are the dependencies of the package itself."""


def inputs(extras: Sequence[str]) -> list[str]:
    """The requirements of the given extras as pyproject.toml states them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return sorted(requirement for extra in extras for requirement in groups[extra])


def header(extras: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(inputs(extras)).encode()).hexdigest()
    return f"# Made by `make lock` from pyproject.toml. Do not edit.\n# inputs: sha256:{digest}\n"


def resolve(extras: Sequence[str], resolver: Path) -> str:
    """The pinned requirements with hashes, valid for every platform and Python from the oldest one on."""
    command: list[str | Path] = [
        resolver, "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes",
        "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "-",
    ]
    wanted = "\n".join(inputs(extras))
    answer = subprocess.run(command, input=wanted, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    pinned: str = answer.stdout
    if re.search(r"^--|://", pinned, re.MULTILINE):
        raise SystemExit("the resolver named an index or an address")
    return pinned


def stale() -> list[str]:
    """Lock files that are missing or were made from other requirements."""
    return [
        name for name, extras in FILES.items()
        if not (ROOT / name).exists() or not (ROOT / name).read_text().startswith(header(extras))
    ]


def lock() -> None:
    with tempfile.TemporaryDirectory(prefix="headrace-lock-") as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", RESOLVER], check=True)
        for name, extras in FILES.items():
            (ROOT / name).write_text(header(extras) + resolve(extras, python.with_name("uv")))


def main(arguments: Sequence[str]) -> int:
    if "--check" not in arguments:
        lock()
        return 0
    names = stale()
    for name in names:
        print(f"{name} is stale: run `make lock`", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
