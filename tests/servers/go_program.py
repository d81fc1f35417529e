"""Servers for tests that exist only as Go modules, built on first use: `program("registry")` is the executable of the
module in tests/servers/go/registry.

A result is kept below XDG_CACHE_HOME/headrace/test-servers by a digest of all that it depends on: the module's files,
the Go release, the flags. The toolchain is the one that builds the programs of the package. Several test processes may
ask at once: a file lock lets one build. `python -m tests.servers.go_program` builds all of them, with progress.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hack import go_binaries as go

MODULES = Path(__file__).parent / "go"
FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w")
_ATTEMPTS = 3


def names() -> list[str]:
    """All modules that there are."""
    return sorted(path.parent.name for path in MODULES.glob("*/go.mod"))


def program(name: str) -> Path:
    """The executable of the module tests/servers/go/<name>, built if it is not cached. Raises go_binaries.BuildError.

    Each module is a main package at its root with its own go.mod and go.sum.
    """
    module = MODULES / name
    toolchain = go.find_toolchain()
    if toolchain is None:
        raise go.BuildError("no Go is found: `make build` brings one")
    built = _cache() / f"{name}-{_key(module, toolchain)}"
    if not built.exists():
        with _lock(name):
            if not built.exists():
                _build(module, toolchain, built)
                _forget_others(name, built)
    return built


def _cache() -> Path:
    return go.cache_root().parent / "test-servers"


def _key(module: Path, toolchain: go.Toolchain) -> str:
    parts = [toolchain.name, platform.machine(), *FLAGS, os.environ.get("GOFLAGS", "")]
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in sorted(module.rglob("*")):
        if path.is_file() and not path.name.endswith("_test.go"):
            digest.update(f"\0{path.relative_to(module)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(module: Path, toolchain: go.Toolchain, built: Path) -> None:
    """Builds beside `built` first. Tried again: the first build downloads modules, and networks fail."""
    print(f"Building the test server {module.name} with {toolchain.name} (minutes, once)", file=sys.stderr, flush=True)
    started = time.monotonic()
    partial = built.with_suffix(".partial")
    command = [str(toolchain.program), "build", *FLAGS, "-o", str(partial), "."]
    for attempt in range(1, _ATTEMPTS + 1):
        done = subprocess.run(command, cwd=module, env=go.environment(toolchain.program), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode == 0:
            partial.replace(built)
            print(f"{module.name}: built in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            return
        print(f"{module.name}: attempt {attempt} failed: {done.stderr[-2000:]}", file=sys.stderr, flush=True)
    raise go.BuildError(f"the test server {module.name} cannot be built:\n{done.stderr[-4000:]}")


def _forget_others(name: str, kept: Path) -> None:
    """One build of each server is enough: the next checkout builds it again from Go's own cache."""
    for path in _cache().glob(f"{name}-*"):
        if path != kept and len(path.name) == len(kept.name):
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        for module_name in sys.argv[1:] or names():
            program(module_name)
    except go.BuildError as error:
        sys.exit(f"error: {error}")
