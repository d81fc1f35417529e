"""`headrace version`."""

from __future__ import annotations

import platform

from headrace import __version__
from headrace.cli.exits import OK, CommandError
from headrace.cli.kubectl import binary
from headrace.cli.output import Format, dump, say
from headrace.core.limits import ProcessLimits
from headrace.core.sandbox import SandboxError, run

PROGRAMS = ("headrace-controlplane", "headrace-toolbox")
_TIMEOUT = 20.0


async def version(form: Format) -> int:
    """Print the versions; a program that is missing is said to be."""
    versions = {"headrace": __version__, "python": platform.python_version()}
    versions |= {name: await program_version(name) for name in PROGRAMS}
    if form is Format.TABLE:
        say("\n".join(f"{name}: {text}" for name, text in versions.items()))
    else:
        say(dump(versions, form))
    return OK


async def program_version(name: str) -> str:
    """What a program says of itself in one line, or why it says nothing."""
    try:
        done = await run([binary(name), "version"], timeout=_TIMEOUT, limits=unlimited())
    except (CommandError, SandboxError) as error:
        return f"not available: {error}"
    lines = (done.stdout or done.stderr).decode(errors="replace").split("\n")
    return ", ".join(line.strip() for line in lines if line.strip()) or "unknown"


def unlimited() -> ProcessLimits:
    """Limits for programs of our own in Go, which reserve far more address space than they use."""
    return ProcessLimits(memory_bytes=0)
