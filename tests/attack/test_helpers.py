"""Attacks from inside of helper processes, and with what helpers print (SEC-19, SEC-56)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.api.kinds import GIT_REPOSITORY
from headrace.core import sandbox
from headrace.engine.engine import Engine
from headrace.toolbox import BuildRequest, Toolbox, ToolboxError
from tests.attack.strict import SECRETS, grant, put
from tests.cluster.kustomization.world import World, condition
from tests.eventually import eventually

CANARY = "c4n4ry-51ab33d0"
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


@pytest.fixture
async def toolbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Toolbox]:
    """Children that have done a build, started by an engine with secrets in its environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("SOPS_AGE_KEY", CANARY)
    async with Toolbox(size=1) as made:
        await made.ping()
        yield made


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


# -- the child that builds ---------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-19")
async def test_the_environment_of_a_build_holds_nothing_of_the_engines(toolbox: Toolbox) -> None:
    (pid,) = toolbox.pids

    environment = Path(f"/proc/{pid}/environ").read_bytes()

    assert CANARY.encode() not in environment
    names = {pair.partition(b"=")[0] for pair in environment.split(b"\0") if pair}
    assert names == {b"PATH", b"HOME", b"LANG"}


@pytest.mark.spec("SEC-19")
async def test_a_build_has_no_sockets_no_programs_no_root_and_writes_no_files(toolbox: Toolbox) -> None:
    """That the filter refuses sockets, programs and signals is shown from inside, in the jail's own test."""
    (pid,) = toolbox.pids
    about = status(pid)

    assert about["Seccomp"] == "2"
    assert about["NoNewPrivs"] == "1"
    limits = Path(f"/proc/{pid}/limits").read_text()
    for name in ("Max file size", "Max core file size"):
        (line,) = [line for line in limits.splitlines() if line.startswith(name)]
        assert line.removeprefix(name).split()[:2] == ["0", "0"]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        inside = status(int(thread.name))
        assert inside["Seccomp"] == "2"
        if os.getuid() == 0:
            assert inside["Uid"].split() == ["65534"] * 4
            assert int(inside["CapEff"], 16) in (1 << 1, 1 << 2)
    assert not [link for link in Path(f"/proc/{pid}/fd").iterdir() if "socket" in os.readlink(link)]


@pytest.mark.spec("SEC-19", "SEC-12")
@pytest.mark.parametrize("path", [
    "/var/run/secrets/kubernetes.io/serviceaccount/token", "../token", "/proc/self/environ", "/proc/1/environ",
])
async def test_a_build_reads_no_token_and_no_environment(toolbox: Toolbox, tmp_path: Path, path: str) -> None:
    (tmp_path / "token").write_text(CANARY)
    root = tmp_path / "root"
    root.mkdir()
    generator = {"secretGenerator": [{"name": "x", "files": [f"k={path}"]}]}
    (root / "kustomization.yaml").write_text(json.dumps(generator))

    with pytest.raises(ToolboxError) as caught:
        await toolbox.build(BuildRequest(root=str(root)))

    assert CANARY not in caught.value.message


# -- other helpers -----------------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-19")
async def test_every_other_helper_starts_with_a_clean_environment_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_ASKPASS", CANARY)
    monkeypatch.setenv("KUBECONFIG", CANARY)

    done = await sandbox.run(["/bin/sh", "-c", "env; ulimit -t; ulimit -v; ulimit -f"], timeout=10)

    said = done.stdout.decode()
    assert CANARY not in said
    names = {line.partition("=")[0] for line in said.splitlines() if "=" in line}
    assert names <= {"PATH", "LANG", "HOME", "PWD", "SHLVL", "_", "OLDPWD"}
    assert all(limit.isdigit() for limit in said.splitlines()[-3:]), "every limit is a number"


# -- what helpers and servers print ------------------------------------------------------------------------------------


class Echo:
    """A git server that repeats the credentials it was given, in every way that a client might show."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Echo:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        secret = next((line for line in request.splitlines() if line.lower().startswith("authorization")), "none")
        line = f"ERR denied for {secret} {CANARY}\n".encode()
        packet = f"{len(line) + 4:04x}".encode() + line
        body = b"001e# service=git-upload-pack\n0000" + packet + b"0000"
        head = f"HTTP/1.1 200 OK {CANARY}\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@pytest.mark.spec("SEC-56", "SEC-35")
async def test_credentials_that_a_server_repeats_are_in_no_status_event_log_or_trace(
    world: World, strict: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    await grant(world, "default", SECRETS)
    await put(world, "v1", "Secret", "s", {"stringData": {"username": "u", "password": CANARY}})
    async with Echo() as server:
        await world.source(url=f"http://127.0.0.1:{server.port}/x.git", secretRef={"name": "s"})

        repo = await world.until(GIT_REPOSITORY, "app", lambda o: condition(o, "Ready").get("status") == "False")

    assert "denied for" in condition(repo, "Ready")["message"]
    reference = GIT_REPOSITORY.reference(world.namespace, "app")
    seen = [str(repo["status"]), str(await world.events("app", "GitRepository")), caplog.text]
    await eventually(lambda: strict.traces(reference))
    seen += [str(trace) for trace in strict.traces(reference)]
    for secret in (CANARY, base64.b64encode(f"u:{CANARY}".encode()).decode()):
        assert [text for text in seen if secret in text] == []
