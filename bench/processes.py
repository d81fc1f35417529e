"""CPU and memory of processes, read from /proc.

The kernel keeps the memory high-water mark of a process; it is reset at the start of a phase, so that the peak is
that of the phase. CPU is the difference between two readings; that of finished children belongs to their parent.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_COMPONENTS = frozenset({"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"})


class Usage(msgspec.Struct, frozen=True):
    """What processes of one name used in a phase; `peak_mib` is the sum of their peaks, in which the pages of files
    that they share (their program's) count once."""

    name: str
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment; `cpu` and `children` (finished ones) in seconds, `peak` in KiB, of which `files` are
    pages of files."""

    name: str
    cpu: float
    children: float
    peak: int
    files: int = 0


class Processes:
    """The trees of processes under named roots, and what they use between `start` and `usage`."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        """`roots` maps the name to give to a process to its id, which may change; its descendants are named after
        their program."""
        self._roots = roots
        self._before: dict[int, Reading] = {}
        self._seen: dict[int, Reading] = {}

    def start(self) -> None:
        """Begin a phase."""
        self._seen = {}
        pids = self._pids()
        for pid in pids:
            reset_peak(pid)
        self._before = self._read(pids)

    def sample(self) -> None:
        """Look at the memory of processes that may be gone at the end of the phase."""
        self._seen.update(self._read(self._pids()))

    def usage(self) -> list[Usage]:
        """What was used since `start`, by name."""
        alive = self._read(self._pids())
        self._seen.update(alive)
        cpu: dict[str, float] = defaultdict(float)
        for pid, now in alive.items():
            before = self._before.get(pid, Reading(now.name, 0.0, 0.0, 0))
            cpu[now.name] += now.cpu - before.cpu
            # A process that ended is in the figures of its parent, so it is not counted by itself.
            if now.children > before.children:
                cpu[f"{now.name} (finished children)"] += now.children - before.children
        same: dict[str, list[Reading]] = defaultdict(list)
        for seen in self._seen.values():
            same[seen.name].append(seen)
        return [Usage(name, round(cpu[name], 2), round(_together(same.get(name, [])), 1)) for name in sorted(cpu)]

    def largest(self) -> dict[str, float]:
        """The highest peak (MiB) of one process of each name, those that were sampled and are gone included."""
        largest: dict[str, float] = defaultdict(float)
        for seen in self._seen.values():
            largest[seen.name] = max(largest[seen.name], seen.peak / 1024)
        return dict(largest)

    def _pids(self) -> dict[int, str]:
        found = {pid: name for name, pid in self._roots.items()}
        parents = _parents()
        for name, root in self._roots.items():
            for pid in _descendants(root, parents):
                found.setdefault(pid, program(pid) or name)
        return found

    @staticmethod
    def _read(pids: Mapping[int, str]) -> dict[int, Reading]:
        readings = ((pid, read(pid, name)) for pid, name in pids.items())
        return {pid: reading for pid, reading in readings if reading is not None}


def _together(readings: Sequence[Reading]) -> float:
    """The peaks of processes of one program, in MiB; several map its pages, and memory holds them once."""
    files = [reading.files for reading in readings]
    return (sum(reading.peak for reading in readings) - sum(files) + max(files, default=0)) / 1024


def read(pid: int, name: str) -> Reading | None:
    """One process, None when it is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
        status = (PROC / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name stands in brackets and may hold anything; the numbers follow the last one.
    fields = stat.rpartition(")")[2].split()
    user, system, child_user, child_system = (int(field) / _TICKS for field in fields[11:15])
    memory = dict(line.split(":", 1) for line in status.splitlines())
    peak, files = (int(memory.get(key, "0").split()[0]) for key in ("VmHWM", "RssFile"))
    return Reading(name, user + system, child_user + child_system, peak, files)


def program(pid: int) -> str:
    """The name of a program; components of the control plane are named by their sub-command. Empty when gone."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    name = Path(words[0]).name
    if len(words) > 1 and words[1] in _COMPONENTS:
        return words[1]
    return name.removeprefix("headrace-")


def reset_peak(pid: int) -> None:
    """Set the memory high-water mark back to what is used now; left as it is where the kernel does not let us."""
    try:
        (PROC / str(pid) / "clear_refs").write_text("5")
    except OSError:
        return


def _parents() -> dict[int, list[int]]:
    """Children by parent, of every process there is."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children[int(stat.rpartition(")")[2].split()[1])].append(int(entry.name))
    return children


def _descendants(root: int, children: Mapping[int, Iterable[int]]) -> Iterable[int]:
    for child in children.get(root, ()):
        yield child
        yield from _descendants(child, children)
