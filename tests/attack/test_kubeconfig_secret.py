"""A tenant's kubeconfig Secret must not make the engine read a file, start a program or trust anybody."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.kube.client import Client
from headrace.kube.config import ClientConfig, Credentials, load_kubeconfig
from headrace.kube.errors import ConfigError, KubeError
from tests.servers.peer import Request, Wire, peer


def secret(
    cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, server: str = "https://example.test"
) -> bytes:
    return json.dumps({
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }).encode()  # fmt: skip


def load(raw: bytes, **flags: bool) -> ClientConfig:
    return load_kubeconfig(raw, trusted=False, **flags)


def plugin(program: Path) -> dict[str, Any]:
    return {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "interactiveMode": "Never"}


@pytest.mark.spec("SEC-21", "KS-IMP-05")
def test_a_plugin_in_a_secret_is_refused_and_never_started(tmp_path: Path) -> None:
    program, trace = tmp_path / "plugin", tmp_path / "started"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    with pytest.raises(ConfigError, match="exec is not allowed"):
        load(secret(user={"exec": plugin(program)}))
    assert not trace.exists()


@pytest.mark.spec("SEC-21", "KS-IMP-05")
def test_a_plugin_is_taken_only_when_the_operator_allows_it(tmp_path: Path) -> None:
    config = load(secret(user={"exec": plugin(tmp_path / "plugin")}), allow_exec=True)
    assert config.credentials.exec is not None
    assert config.credentials.exec.command == str(tmp_path / "plugin")


@pytest.mark.spec("SEC-21")
def test_an_auth_provider_in_a_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="auth-provider is not allowed"):
        load(secret(user={"auth-provider": {"name": "gcp", "config": {"cmd-path": "/bin/sh"}}}), allow_exec=True)


@pytest.mark.spec("SEC-22")
@pytest.mark.parametrize("path", ["certificate-authority", "client-certificate", "client-key", "tokenFile"])
def test_no_path_in_a_secret_is_ever_read(path: str, tmp_path: Path) -> None:
    file = tmp_path / "engine-token"
    file.write_text("the engine's own")
    part = {path: str(file)}
    with pytest.raises(ConfigError, match=f"{path} is not allowed"):
        load(secret(part if path == "certificate-authority" else {}, {} if path == "certificate-authority" else part))


@pytest.mark.spec("SEC-22")
async def test_a_token_file_is_not_sent_to_the_tenants_server(tmp_path: Path) -> None:
    file = tmp_path / "engine-token"
    file.write_text("the engine's own")

    async def answer(request: Request, wire: Wire) -> None:
        await wire.answer(200, b"{}")

    async with peer(answer) as server:
        with pytest.raises(ConfigError):
            load(secret(user={"tokenFile": str(file), "token": "mine"}, server=server.url))
        async with Client(load(secret(user={"token": "mine"}, server=server.url))) as client:
            await client.request("GET", "/version")
    assert server.requests[0].header("authorization") == "Bearer mine"


@pytest.mark.spec("SEC-22")
def test_paths_beside_inline_data_are_dropped() -> None:
    data = base64.b64encode(b"pem").decode()
    config = load(
        secret(
            {"certificate-authority": "/etc/passwd", "certificate-authority-data": data},
            {"client-certificate": "/a", "client-certificate-data": data, "client-key": "/b", "client-key-data": data},
        )
    )
    assert config.ca_file == ""
    assert config.credentials == Credentials(client_certificate=b"pem", client_key=b"pem")


@pytest.mark.spec("SEC-22", "KS-IMP-05")
def test_trusting_any_server_takes_the_operators_consent() -> None:
    raw = secret({"insecure-skip-tls-verify": True})
    assert load(raw).insecure_skip_tls_verify is False
    assert load(raw, allow_insecure_tls=True).insecure_skip_tls_verify is True


@pytest.mark.spec("SEC-22")
async def test_impersonation_in_a_secret_never_reaches_the_wire() -> None:
    async def answer(request: Request, wire: Wire) -> None:
        await wire.answer(200, b"{}")

    async with peer(answer) as server:
        raw = secret(user={"as": "system:admin", "as-groups": ["system:masters"]}, server=server.url)
        async with Client(load(raw)) as client:
            await client.request("GET", "/version")
    assert not [name for name, _ in server.requests[0].headers if name.startswith("impersonate")]


def test_what_a_tenant_needs_is_kept() -> None:
    data = base64.b64encode(b"pem").decode()
    config = load(
        secret(
            {"certificate-authority-data": data, "tls-server-name": "n", "proxy-url": "http://proxy:1"},
            {"username": "u", "password": "p"},
        )
    )
    assert (config.ca, config.tls_server_name, config.proxy_url) == (b"pem", "n", "http://proxy:1")
    assert config.credentials == Credentials(username="u", password="p")
    assert config.trusted is False


@pytest.mark.parametrize(
    "raw",
    [
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        b"a: &a {x: 1}\nb: {<<: *a}\n",
        b"{a: " * 200 + b"1" + b"}" * 200,
        b"#" * (1024 * 1024 + 1),
        b"!!python/object/apply:os.system [id]",
    ],
    ids=["alias bomb", "merge keys", "depth", "size", "python tag"],
)
def test_yaml_that_is_made_to_harm_is_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError):
        load(raw)


async def test_what_an_internal_server_answers_is_not_shown() -> None:
    """A server that is no API server (a metadata service) answers the engine, not the tenant."""

    async def answer(request: Request, wire: Wire) -> None:
        await wire.answer(403, b"internal: credentials=hunter2", {"Content-Type": "text/plain"})

    async with peer(answer) as server, Client(load(secret(server=server.url))) as client:
        with pytest.raises(KubeError) as caught:
            await client.request("GET", "/latest/meta-data")
    assert "hunter2" not in str(caught.value)
