from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.core.clock import rfc3339
from headrace.kube.config import ClientConfig, Credentials, ExecPlugin
from headrace.kube.credentials import CredentialSource
from headrace.kube.errors import ConfigError
from headrace.kube.exec_plugin import run_plugin
from tests.manual_clock import ManualClock

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"


def credential(version: str = V1, **status: str) -> str:
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def program(directory: Path, script: str) -> Path:
    """A real plugin. It keeps what it was told in `info`, and counts its runs in `runs`."""
    file = directory / "plugin"
    file.write_text(
        f"#!/bin/sh\nprintf '%s' \"$KUBERNETES_EXEC_INFO\" > {directory}/info\necho run >> {directory}/runs\n{script}\n"
    )
    file.chmod(0o755)
    return file


def runs(directory: Path) -> int:
    return len((directory / "runs").read_text().splitlines())


def config(plugin: ExecPlugin) -> ClientConfig:
    return ClientConfig(server="https://example.test", ca=b"PEM", credentials=Credentials(exec=plugin))


def plugin(command: str | Path, version: str = V1, **more: object) -> ExecPlugin:
    return ExecPlugin(api_version=version, command=str(command), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [V1, V1BETA1])
async def test_a_plugin_gives_a_token(tmp_path: Path, version: str) -> None:
    expiry = "2030-01-02T03:04:05Z"
    file = program(tmp_path, f"echo '{credential(version, token='t', expirationTimestamp=expiry)}'")
    given = plugin(file, version)
    got = await run_plugin(given, config(given))
    assert got.token == "t"
    assert got.expires is not None
    assert rfc3339(got.expires) == expiry
    assert json.loads((tmp_path / "info").read_text()) == {
        "apiVersion": version,
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }


async def test_a_plugin_gives_a_certificate(tmp_path: Path) -> None:
    file = program(tmp_path, f"echo '{credential(clientCertificateData='cert', clientKeyData='key')}'")
    given = plugin(file)
    source = CredentialSource(config(given), ManualClock())
    material = await source.current()
    assert (material.certificate, material.key, material.authorization) == (b"cert", b"key", "")


async def test_a_plugin_is_told_the_cluster_when_it_asks_for_it(tmp_path: Path) -> None:
    file = program(tmp_path, f"echo '{credential(token='t')}'")
    given = plugin(file, provide_cluster_info=True, cluster_config=b'{"audience":"x"}')
    await run_plugin(given, config(given))
    cluster = json.loads((tmp_path / "info").read_text())["spec"]["cluster"]
    assert cluster == {
        "server": "https://example.test",
        "certificate-authority-data": "UEVN",
        "config": {"audience": "x"},
    }


async def test_a_plugin_gets_its_arguments_and_environment(tmp_path: Path) -> None:
    body = credential(token="$1-$PLUGIN").replace('"', '\\"')
    file = program(tmp_path, f'echo "{body}"')
    given = plugin(file, args=("one",), env=(("PLUGIN", "two"),))
    assert (await run_plugin(given, config(given))).token == "one-two"


async def test_a_relative_command_starts_from_the_kubeconfig(tmp_path: Path) -> None:
    program(tmp_path, f"echo '{credential(token='t')}'")
    given = plugin("./plugin", directory=str(tmp_path))
    assert (await run_plugin(given, config(given))).token == "t"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no login >&2; exit 3", "exit code 3: no login"),
        ("echo hunter2", "printed no ExecCredential"),
        (f"echo '{credential(V1BETA1, token='hunter2')}'", f"printed no ExecCredential of {V1}"),
        (f"echo '{credential()}'", "neither a token nor a certificate"),
        (f"echo '{credential(clientCertificateData='hunter2')}'", "a certificate without its key"),
        (f"echo '{credential(token='hunter2', expirationTimestamp='soon')}'", "that is no time"),
    ],
)
async def test_a_plugin_that_fails_is_named_without_what_it_printed(tmp_path: Path, script: str, message: str) -> None:
    given = plugin(program(tmp_path, script))
    with pytest.raises(ConfigError, match=message) as caught:
        await run_plugin(given, config(given))
    assert "hunter2" not in str(caught.value)


async def test_a_missing_plugin_comes_with_its_hint() -> None:
    given = plugin("no-such-plugin", install_hint="ask the platform team")
    with pytest.raises(ConfigError, match="not installed: ask the platform team"):
        await run_plugin(given, config(given))


async def test_a_credential_is_kept_until_it_expires(tmp_path: Path) -> None:
    clock = ManualClock()
    expiry = rfc3339(clock.now() + 600)
    source = CredentialSource(
        config(plugin(program(tmp_path, f"echo '{credential(token='t', expirationTimestamp=expiry)}'"))), clock
    )
    for _ in range(3):
        assert (await source.current()).authorization == "Bearer t"
    assert runs(tmp_path) == 1
    clock.time += 595
    await source.current()
    assert runs(tmp_path) == 2


async def test_a_refused_credential_is_asked_for_again_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    body = credential(token="TOKEN").replace('"', '\\"').replace("TOKEN", "$(cat " + str(token) + ")")
    source = CredentialSource(config(plugin(program(tmp_path, f'echo "{body}"'))), ManualClock())
    old = await source.current()
    token.write_text("new")
    assert await source.refresh(old)
    assert (await source.current()).authorization == "Bearer new"
    # Others that were refused with the old one meanwhile do not run the plugin again.
    assert await source.refresh(old)
    assert runs(tmp_path) == 2
