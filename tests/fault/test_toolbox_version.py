"""A toolbox that is none, or not the one that belongs to this package: found at the start, with what to do about it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.toolbox import Toolbox
from headrace.toolbox.binary import find_toolbox
from headrace.toolbox.versions import WANTED, differences

GO = Path(__file__).parents[2] / "go"
NOBODY = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c"}}],
}
"""The toolbox is looked at before the cluster is."""

OF_ANOTHER_VERSION = """#!{python} -I
import json, struct, sys
while lengths := sys.stdin.buffer.read(8):
    header, body = struct.unpack(">II", lengths)
    asked = json.loads(sys.stdin.buffer.read(header))
    sys.stdin.buffer.read(body)
    answer = json.dumps({{"id": asked["id"], "result": {versions}}}).encode()
    sys.stdout.buffer.write(struct.pack(">II", len(answer), 0) + answer)
    sys.stdout.buffer.flush()
"""


def started(command: str, toolbox: Path, tmp_path: Path) -> str:
    """What a command says that must not start with this toolbox."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(NOBODY))
    arguments = {
        "run": [
            f"--kubeconfig={kubeconfig}", "--beside-flux=true", f"--storage-path={tmp_path / 'data'}",
            "--metrics-addr=", "--health-addr=", "--storage-addr=127.0.0.1:0", f"--socket={tmp_path / 'socket'}",
        ],
        "up": [str(tmp_path), "--once"],
    }  # fmt: skip
    environment = {
        **os.environ, "HEADRACE_TOOLBOX": str(toolbox), "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_RUNTIME_DIR": str(tmp_path),
    }  # fmt: skip
    argv = [sys.executable, "-m", "headrace", command, *arguments[command]]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "make build" in done.stderr
    return done.stderr


def stub(tmp_path: Path, content: str) -> Path:
    program = tmp_path / "stub"
    program.write_text(content)
    program.chmod(0o755)
    return program


@pytest.mark.spec("REL-26")
@pytest.mark.parametrize("command", ["run", "up"])
def test_a_toolbox_of_another_version_is_found_at_the_start(tmp_path: Path, command: str) -> None:
    versions = {name: version for name, version in WANTED.items() if name != "age"} | {"sops": "v3.9.0"}
    program = stub(tmp_path, OF_ANOTHER_VERSION.format(python=sys.executable, versions=versions))
    said = started(command, program, tmp_path)
    assert f"{program} is of another version" in said
    assert f"sops v3.9.0 instead of {WANTED['sops']}" in said
    assert f"age missing instead of {WANTED['age']}" in said
    assert "semver" not in said


@pytest.mark.spec("REL-26")
@pytest.mark.parametrize(
    "content",
    ["#!/bin/sh\necho something else\n", "#!/bin/sh\nexit 3\n", "not a program", "#!/no/such/interpreter\n"],
    ids=["talks nonsense", "ends at once", "is no program", "has no interpreter"],
)
def test_what_is_no_toolbox_is_found_at_the_start(tmp_path: Path, content: str) -> None:
    program = stub(tmp_path, content)
    assert f"{program} does not work as a toolbox" in started("run", program, tmp_path)


@pytest.mark.spec("REL-26")
@pytest.mark.parametrize("command", ["run", "up"])
def test_a_missing_toolbox_is_found_at_the_start(tmp_path: Path, command: str) -> None:
    assert f"{tmp_path / 'missing'} (from HEADRACE_TOOLBOX) is missing" in started(
        command, tmp_path / "missing", tmp_path)  # fmt: skip


async def test_the_toolbox_of_this_package_is_fit() -> None:
    async with Toolbox(find_toolbox(), size=1) as toolbox:
        await toolbox.check()
        assert differences(await toolbox.version()) == []


def test_the_wanted_versions_are_those_that_are_compiled() -> None:
    """The names are those that the toolbox gives its libraries."""
    module = (GO / "go.mod").read_text()
    source = (GO / "internal" / "toolbox" / "calls" / "version.go").read_text()
    names = {name: path for path, name in re.findall(r'"([^"]+/[^"]+)":\s+"([^"]+)",', source)}
    found = {}
    for name, path in names.items():
        replaced = re.search(rf"^replace {re.escape(path)} => \S+ (\S+)$", module, re.MULTILINE)
        required = re.search(rf"^\s*{re.escape(path)} (\S+)", module, re.MULTILINE)
        assert required is not None
        found[name] = (replaced or required)[1]
    assert found == WANTED
