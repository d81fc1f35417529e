"""CPU and memory read from /proc, of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench.processes import Processes, program, read


def test_the_cpu_that_this_process_burns_is_counted_under_its_name() -> None:
    processes = Processes({"bench": os.getpid()})
    processes.start()
    burned = os.times().user
    while os.times().user - burned < 0.1:
        sum(range(10_000))
    usage = {used.name: used for used in processes.usage()}
    assert usage["bench"].cpu_seconds >= 0.08
    assert usage["bench"].peak_mib > 1


def test_a_child_is_named_after_its_program_and_a_finished_one_counts_for_its_parent() -> None:
    processes = Processes({"bench": os.getpid()})
    processes.start()
    burn = "import os\nwhile os.times().user < 0.1: sum(range(10000))"
    subprocess.run([sys.executable, "-c", burn], check=True)
    child = subprocess.Popen(["sleep", "60"])
    deadline = time.monotonic() + 10.0
    try:
        while not program(child.pid):  # for a moment after it has started the kernel shows no command line
            assert time.monotonic() < deadline
        usage = {used.name: used for used in processes.usage()}
    finally:
        child.kill()
        child.wait()
    assert "sleep" in usage
    assert usage["bench (finished children)"].cpu_seconds >= 0.08


def test_the_peak_is_that_of_the_phase_and_not_of_an_earlier_one() -> None:
    processes = Processes({"bench": os.getpid()})
    large = bytearray(200 << 20)
    large[::4096] = b"x" * len(large[::4096])
    before = read(os.getpid(), "bench")
    del large
    processes.start()
    (usage,) = [used for used in processes.usage() if used.name == "bench"]
    assert before is not None
    if usage.peak_mib == pytest.approx(before.peak / 1024, abs=1):
        pytest.skip("this kernel does not let a process reset its high-water mark")
    assert usage.peak_mib < before.peak / 1024 - 150


def test_a_process_that_is_gone_has_no_reading_and_no_name() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert read(child.pid, "gone") is None
    assert program(child.pid) == ""


def test_pages_that_processes_of_one_program_share_count_once() -> None:
    processes = Processes({"bench": os.getpid()})
    processes.start()
    children = [subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE) for _ in range(2)]  # fmt: skip
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        name = program(children[0].pid)
        one, other = (read(child.pid, name) for child in children)
        usage = next(used for used in processes.usage() if used.name == name)
    finally:
        for child in children:
            child.communicate()
    assert one is not None
    assert other is not None
    assert one.files > 1024
    assert usage.peak_mib == pytest.approx((one.peak + other.peak - min(one.files, other.files)) / 1024, abs=1)
