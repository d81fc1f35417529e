"""Child processes that crash, hang, will not go, start others, or never stop talking: the engine is none the worse."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.core.sandbox import OutputTooLarge, ProcessTimedOut, run
from headrace.toolbox import BuildRequest, Toolbox, ToolboxCrashed, ToolboxError
from tests.eventually import eventually

MIB = 1024 * 1024

HEAD = """import os, signal, subprocess, sys, time
here = {note!r}
def note(name, pid):
    with open(os.path.join(here, name), "w") as file: file.write(str(pid))
note("child", os.getpid())
"""

STUBS = {
    "segfaults": "sys.stdin.buffer.read(1); os.kill(os.getpid(), signal.SIGSEGV)",
    "hangs, ignores TERM and starts another": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
other = subprocess.Popen([sys.executable, "-c", deaf])
note("grandchild", other.pid)
while True: time.sleep(1)
""",
    "prints without end": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True: os.write(1, b"\\xff" * 65536)
""",
    "ends at once": "sys.exit(3)",
}


def stub(directory: Path, name: str) -> Path:
    """A program that behaves as `name` says, whatever its arguments, and notes the ids of its processes."""
    program = directory / "stub"
    program.write_text(f"#!{sys.executable} -I\n" + HEAD.format(note=str(directory)) + STUBS[name])
    program.chmod(0o755)
    return program


def gone(directory: Path) -> bool:
    """Whether none of the noted processes runs any more."""
    return all(_is_gone(int(directory.joinpath(name).read_text()))
               for name in ("child", "grandchild") if directory.joinpath(name).exists())


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.spec("REL-25")
@pytest.mark.parametrize("name", STUBS)
async def test_a_toolbox_child_that_misbehaves_fails_its_call_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with Toolbox(stub(tmp_path, name), size=1) as toolbox:
        with pytest.raises(ToolboxError) as caught:
            await toolbox.build(BuildRequest(root=str(tmp_path)), timeout=0.5)
        assert caught.value.code == "Timeout" or isinstance(caught.value, ToolboxCrashed)
        await eventually(lambda: gone(tmp_path), "the whole group is killed")
        await eventually(lambda: toolbox.pids == [])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024, "KiB"


@pytest.mark.spec("REL-25")
async def test_what_a_hung_child_has_started_goes_with_the_pool(tmp_path: Path) -> None:
    name = "hangs, ignores TERM and starts another"
    async with Toolbox(stub(tmp_path, name), size=1) as toolbox:
        with pytest.raises(ToolboxError):
            await toolbox.build(BuildRequest(root=str(tmp_path)), timeout=0.2)
    assert gone(tmp_path)


@pytest.mark.spec("REL-25")
@pytest.mark.parametrize(("name", "error"), [
    ("hangs, ignores TERM and starts another", ProcessTimedOut), ("prints without end", OutputTooLarge),
])
async def test_a_program_that_misbehaves_is_ended_with_its_group(
    tmp_path: Path, name: str, error: type[Exception]
) -> None:
    """The git program and everything else that runs once goes through the sandbox."""
    with pytest.raises(error):
        await run([stub(tmp_path, name)], timeout=3.0, output_limit=4 * MIB)
    await eventually(lambda: gone(tmp_path), "the whole group is killed")


@pytest.mark.spec("REL-25")
async def test_a_program_that_crashes_is_a_result(tmp_path: Path) -> None:
    completed = await run([stub(tmp_path, "segfaults")], stdin=b"x", timeout=10.0)
    assert completed.code == -11


@pytest.mark.spec("REL-26")
def test_a_missing_toolbox_is_found_at_the_start(tmp_path: Path) -> None:
    """Not with the first delivery."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text('{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":'
                          '"http://127.0.0.1:9"}}],"contexts":[{"name":"c","context":{"cluster":"c"}}],'
                          '"current-context":"c"}')
    environment = {**os.environ, "HEADRACE_TOOLBOX": str(tmp_path / "missing"), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-m", "headrace", "run", f"--kubeconfig={kubeconfig}", "--beside-flux=true",
            f"--storage-path={tmp_path / 'data'}", "--metrics-addr=", "--health-addr=", "--storage-addr=127.0.0.1:0",
            f"--socket={tmp_path / 'socket'}"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert str(tmp_path / "missing") in done.stderr
    assert "make build" in done.stderr
    assert "Traceback" not in done.stderr
