"""How much of anything is accepted from outside, in one place; every value has its unit and reason."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """What an archive or a git tree may become on disk (SEC-04)."""

    files: int = 100_000
    """Entries of any kind, directories included. The largest fleet repositories known have some 30 000."""
    total_bytes: int = 1 * GIB
    """Bytes written in all."""
    file_bytes: int = 256 * MIB
    """Bytes of one file."""
    depth: int = 64
    """Directories above a file."""
    name_bytes: int = 1024
    """Bytes of one path; the file system's own limit for a segment (255) applies besides."""
    archive_bytes: int = 1 * GIB
    """Bytes of the archive as it is read, compressed or not."""
    ratio: int = 250
    """Unpacked bytes per compressed byte. YAML reaches 40; a bomb of zeros 1032."""
    ratio_free_bytes: int = 16 * MIB
    """Below this many unpacked bytes the ratio is not looked at: small repetitive trees are harmless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What a child process may use. 0 means that the limit is not set."""

    memory_bytes: int = 2 * GIB
    """Address space (RLIMIT_AS). A Go program reserves far more than it uses and needs 0 here."""
    file_bytes: int = 2 * GIB
    """Size of any one file it writes (RLIMIT_FSIZE): a pack that never ends stops here."""
    cpu_seconds: int = 600
    """CPU time (RLIMIT_CPU), besides the timeout in wall-clock time."""
    open_files: int = 256
    """File descriptors (RLIMIT_NOFILE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What an HTTP answer may be (SEC-05)."""

    body_bytes: int = 64 * MIB
    """Bytes of a body that is kept in memory."""
    redirects: int = 5
    """Hops that are followed, each checked anew."""
    connect_seconds: float = 10.0
    """Time to a connection, TLS included."""
    stall_seconds: float = 30.0
    """Longest silence while reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HelmLimits:
    """What is accepted of Helm repositories, as Flux's flags of the same names (sources.md section 5)."""

    index_bytes: int = 50 * MIB
    """Bytes of an index as it is downloaded."""
    chart_bytes: int = 10 * MIB
    """Bytes of a packaged chart."""
    file_bytes: int = 5 * MIB
    """Bytes of one file of a chart."""


HELM = HelmLimits()
CHART_TOTAL_BYTES = 100 * MIB
"""Bytes of all files of a chart, as Helm."""
UNPACK = UnpackLimits()
PROCESS = ProcessLimits()
HTTP = HttpLimits()
