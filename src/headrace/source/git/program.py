"""Runs the git program: nothing of the machine's configuration, no prompts, no hooks, only the transport's protocol.

Secrets travel in the environment as configuration, never in arguments, which every process can read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

from headrace.core.limits import GIB, MIB, ProcessLimits
from headrace.core.sandbox import Completed, run, run_into
from headrace.source.git.transport import GitAccess

T = TypeVar("T")

_PROTOCOLS = "http:https"
_LIMITS = ProcessLimits(memory_bytes=3 * GIB, file_bytes=2 * GIB, cpu_seconds=600, open_files=256)
_CONFIG = {
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "protocol.version": "2",
    "safe.directory": "*",
    "credential.helper": "",
    "core.hooksPath": "/dev/null",
    "core.fsync": "none",
    "core.bigFileThreshold": "16m",
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "advice.detachedHead": "false",
}
"""The mirror is a cache that is made anew when it is damaged, so it is not worth any fsync."""


def _environment(config: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    environment = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_CONFIG_COUNT": str(len(config)),
        **extra,
    }
    for index, (key, value) in enumerate(config.items()):
        environment[f"GIT_CONFIG_KEY_{index}"] = key
        environment[f"GIT_CONFIG_VALUE_{index}"] = value
    return environment


async def git(
    *arguments: str,
    cwd: Path,
    timeout: float,
    access: GitAccess | None = None,
    stdin: bytes = b"",
    output_limit: int = 64 * MIB,
) -> Completed:
    """Run git in `cwd`. The exit code is the caller's to look at. Raises SandboxError."""
    config = {**_CONFIG, **(access.config if access else {})}
    environment = _environment(config, access.environment if access else {})
    return await run(
        ["git", *arguments], cwd=cwd, env=environment, stdin=stdin, timeout=timeout,
        output_limit=output_limit, limits=_LIMITS,
    )  # fmt: skip


async def git_into(
    *arguments: str, cwd: Path, timeout: float, stdin: bytes, consume: Callable[[BinaryIO], T]
) -> T:
    """Run git while `consume` reads its output in a thread. Raises SandboxError and what `consume` raises."""
    environment = _environment(_CONFIG, {})
    return await run_into(
        ["git", *arguments], consume, cwd=cwd, env=environment, stdin=stdin, timeout=timeout, limits=_LIMITS
    )
