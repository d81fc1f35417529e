"""Credentials from a program: client.authentication.k8s.io v1 and v1beta1, as kubectl runs it.

Only a kubeconfig that the operator trusts (or an explicit flag) brings a plugin here. It gets the whole
environment of this process, since cloud plugins find their own credentials there.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from headrace.core import sandbox
from headrace.core.clock import parse_rfc3339
from headrace.core.limits import ProcessLimits
from headrace.kube.config import ClientConfig, ExecPlugin
from headrace.kube.errors import ConfigError

_TIMEOUT = 30.0
"""Seconds a plugin may take; one that logs in through a browser has no place here."""
_OUTPUT_LIMIT = 1024 * 1024
_LIMITS = ProcessLimits(memory_bytes=0)
"""No memory limit: plugins are Go programs, which reserve far more address space than they use."""


class _CredentialStatus(msgspec.Struct, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: str | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    status: _CredentialStatus | None = None


class ExecCredential(msgspec.Struct, frozen=True):
    """What a plugin gave. `expires` is in seconds since the epoch, None when it holds until it is refused."""

    token: str
    certificate: bytes
    key: bytes
    expires: float | None

    def __repr__(self) -> str:
        return f"ExecCredential(expires={self.expires})"


async def run_plugin(plugin: ExecPlugin, config: ClientConfig) -> ExecCredential:
    """Run the plugin and return its credential.

    Raises ConfigError when it is missing, fails, or prints something else than an ExecCredential of the
    version asked for. What it printed is never quoted, since that may be a credential; what it wrote to
    stderr is.
    """
    program = Path(plugin.command).name
    environment = {**os.environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": _exec_info(plugin, config)}
    try:
        completed = await sandbox.run(
            [_program(plugin), *plugin.args],
            env=environment,
            timeout=_TIMEOUT,
            output_limit=_OUTPUT_LIMIT,
            limits=_LIMITS,
        )
    except sandbox.ProgramMissing:
        hint = f": {plugin.install_hint}" if plugin.install_hint else ""
        raise ConfigError(f"exec plugin: the program '{program}' is not installed{hint}") from None
    except sandbox.SandboxError as error:
        raise ConfigError(f"exec plugin: {error}") from None
    if completed.code != 0:
        raise ConfigError(f"exec plugin: {program} failed with exit code {completed.code}: {completed.errors[:1000]}")
    return _decode(completed.stdout, plugin, program)


def _program(plugin: ExecPlugin) -> str:
    """A bare name is looked up in PATH; a relative path starts from the directory of the kubeconfig."""
    if "/" in plugin.command and not plugin.command.startswith("/") and plugin.directory:
        return str(Path(plugin.directory) / plugin.command)
    return plugin.command


def _exec_info(plugin: ExecPlugin, config: ClientConfig) -> str:
    spec: dict[str, object] = {"interactive": False}
    if plugin.provide_cluster_info:
        cluster: dict[str, object] = {"server": config.server}
        if config.tls_server_name:
            cluster["tls-server-name"] = config.tls_server_name
        if config.insecure_skip_tls_verify:
            cluster["insecure-skip-tls-verify"] = True
        if config.ca:
            cluster["certificate-authority-data"] = config.ca
        if config.proxy_url:
            cluster["proxy-url"] = config.proxy_url
        if plugin.cluster_config:
            cluster["config"] = msgspec.Raw(plugin.cluster_config)
        spec["cluster"] = cluster
    info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return msgspec.json.encode(info).decode()


def _decode(output: bytes, plugin: ExecPlugin, program: str) -> ExecCredential:
    try:
        answer = msgspec.json.decode(output, type=_ExecCredential)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ConfigError(f"exec plugin: {program} printed no ExecCredential") from None
    if answer.kind != "ExecCredential" or answer.api_version != plugin.api_version:
        raise ConfigError(f"exec plugin: {program} printed no ExecCredential of {plugin.api_version}")
    status = answer.status
    if status is None or not (status.token or status.client_certificate_data):
        raise ConfigError(f"exec plugin: {program} gave neither a token nor a certificate")
    if bool(status.client_certificate_data) != bool(status.client_key_data):
        raise ConfigError(f"exec plugin: {program} gave a certificate without its key")
    certificate, key = status.client_certificate_data.encode(), status.client_key_data.encode()
    return ExecCredential(status.token.strip(), certificate, key, _expiry(status.expiration_timestamp, program))


def _expiry(text: str | None, program: str) -> float | None:
    if text is None:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise ConfigError(f"exec plugin: {program} gave an expirationTimestamp that is no time") from None
