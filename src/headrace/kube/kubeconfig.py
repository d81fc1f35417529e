"""Kubeconfig documents: reading, merging, and the allow-list for those that tenants write.

A document becomes typed values here and nothing else happens: files it names are read later, by
credentials.py and tls.py, and only names that got through here can be. For tenants' documents a copy by
allow-list is made from the raw document before anything looks at it (kustomization.md 1.4, SEC-21, SEC-22).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from headrace.core.documents import AliasesRefused, YamlRefused, load_document
from headrace.kube.config import ClientConfig, Credentials, ExecPlugin, Impersonation
from headrace.kube.errors import ConfigError

T = TypeVar("T")

_SIZE_LIMIT = 1024 * 1024
"""Bytes of a document; a Secret holds no more."""
_DEPTH_LIMIT = 32

_EXEC_EXTENSION = "client.authentication.k8s.io/exec"


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str = ""
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    proxy_url: str = ""
    disable_compression: bool = False
    extensions: list[dict[str, Any]] | None = None


class _EnvVar(msgspec.Struct):
    name: str = ""
    value: str = ""


class _Exec(msgspec.Struct, rename="camel"):
    command: str = ""
    args: list[str] | None = None
    env: list[_EnvVar] | None = None
    api_version: str = ""
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = ""


class _User(msgspec.Struct, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    as_: str = msgspec.field(default="", name="as")
    as_uid: str = ""
    as_groups: list[str] | None = None
    as_user_extra: dict[str, list[str]] | None = None
    username: str = ""
    password: str = ""
    auth_provider: dict[str, Any] | None = None
    exec: _Exec | None = None


class _Context(msgspec.Struct, rename="kebab"):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _Named(msgspec.Struct):
    name: str = ""
    cluster: dict[str, Any] | None = None
    user: dict[str, Any] | None = None
    context: dict[str, Any] | None = None


class _Document(msgspec.Struct, rename="kebab"):
    current_context: str = ""
    clusters: list[_Named] | None = None
    users: list[_Named] | None = None
    contexts: list[_Named] | None = None


class _Merged:
    """Documents merged as kubectl does: the first to name a thing wins. Paths are relative to their own
    file."""

    def __init__(self) -> None:
        self.current_context = ""
        self.clusters: dict[str, tuple[dict[str, Any], Path | None]] = {}
        self.users: dict[str, tuple[dict[str, Any], Path | None]] = {}
        self.contexts: dict[str, tuple[dict[str, Any], Path | None]] = {}

    def add(self, document: _Document, directory: Path | None) -> None:
        self.current_context = self.current_context or document.current_context
        _merge(self.clusters, _by_name(document.clusters, "cluster"), directory)
        _merge(self.users, _by_name(document.users, "user"), directory)
        _merge(self.contexts, _by_name(document.contexts, "context"), directory)


def load_files(files: Sequence[Path], context: str | None) -> ClientConfig:
    """The configuration from files that the operator named, merged. Raises ConfigError."""
    merged = _Merged()
    for file in files:
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise ConfigError(f"kubeconfig {file}: {error.strerror}") from None
        merged.add(_document(_parse(raw)), file.absolute().parent)
    return _trusted(merged, context)


def parse_trusted(raw: bytes, context: str | None) -> ClientConfig:
    """The configuration from bytes that the operator made; paths in it must be absolute. Raises
    ConfigError."""
    merged = _Merged()
    merged.add(_document(_parse(raw)), None)
    return _trusted(merged, context)


def parse_untrusted(raw: bytes, context: str | None, *, allow_exec: bool, allow_insecure_tls: bool) -> ClientConfig:
    """The configuration from a tenant's document.

    Kept: server, inline CA, certificate and key, server name, basic auth, bearer token, proxy. `exec` (unless
    allowed), `auth-provider`, `tokenFile` and a path without inline data are refused, since without them the
    document does not do what it says; `as` and (unless allowed) `insecure-skip-tls-verify` are dropped, as
    Flux does.
    """
    merged = _Merged()
    merged.add(_document(_parse(raw, aliases=False)), None)
    context_body, cluster_raw, user_raw = _chosen(merged, context)
    cluster = _convert(_allowed_cluster(cluster_raw[0], allow_insecure_tls), _Cluster, "cluster")
    user = _convert(_allowed_user(user_raw[0], allow_exec), _User, "user")
    return _config(context_body, cluster, user, None, trusted=False)


def _trusted(merged: _Merged, context: str | None) -> ClientConfig:
    context_body, (cluster_raw, cluster_home), (user_raw, user_home) = _chosen(merged, context)
    cluster = _convert(cluster_raw, _Cluster, "cluster")
    user = _convert(user_raw, _User, "user")
    cluster.certificate_authority = _resolved(cluster.certificate_authority, cluster_home)
    user.client_certificate = _resolved(user.client_certificate, user_home)
    user.client_key = _resolved(user.client_key, user_home)
    user.token_file = _resolved(user.token_file, user_home)
    return _config(context_body, cluster, user, user_home, trusted=True)


def _config(context: _Context, cluster: _Cluster, user: _User, home: Path | None, *, trusted: bool) -> ClientConfig:
    if not cluster.server:
        raise ConfigError("the cluster of the kubeconfig has no server")
    if cluster.insecure_skip_tls_verify and (cluster.certificate_authority or cluster.certificate_authority_data):
        raise ConfigError("a certificate authority and insecure-skip-tls-verify exclude each other")
    ca = _base64(cluster.certificate_authority_data, "certificate-authority-data")
    return ClientConfig(
        server=cluster.server.rstrip("/"),
        ca=ca,
        ca_file="" if ca else cluster.certificate_authority,
        tls_server_name=cluster.tls_server_name,
        insecure_skip_tls_verify=cluster.insecure_skip_tls_verify,
        proxy_url=_proxy(cluster.proxy_url),
        disable_compression=cluster.disable_compression,
        credentials=_credentials(user, cluster, home),
        impersonation=_impersonation(user),
        namespace=context.namespace or "default",
        trusted=trusted,
    )


def _credentials(user: _User, cluster: _Cluster, home: Path | None) -> Credentials:
    if user.auth_provider is not None:
        raise ConfigError("auth-provider is not supported; use an exec plugin")
    certificate = _base64(user.client_certificate_data, "client-certificate-data")
    key = _base64(user.client_key_data, "client-key-data")
    credentials = Credentials(
        token="" if user.token_file else user.token,
        token_file=user.token_file,
        client_certificate=certificate,
        client_key=key,
        client_certificate_file="" if certificate else user.client_certificate,
        client_key_file="" if key else user.client_key,
        username=user.username,
        password=user.password,
        exec=_exec(user.exec, cluster, home) if user.exec is not None else None,
    )
    _check(credentials)
    return credentials


def _check(credentials: Credentials) -> None:
    certificate = bool(credentials.client_certificate or credentials.client_certificate_file)
    key = bool(credentials.client_key or credentials.client_key_file)
    if certificate != key:
        raise ConfigError("a client certificate needs its key, and a key its certificate")
    token = bool(credentials.token or credentials.token_file)
    if credentials.username and token:
        raise ConfigError("a bearer token and basic auth exclude each other")
    if any(ord(c) < 0x21 or ord(c) > 0x7E for c in credentials.token):
        raise ConfigError("the bearer token holds characters that a header cannot carry")


def _exec(given: _Exec, cluster: _Cluster, home: Path | None) -> ExecPlugin:
    if given.api_version not in ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"):
        raise ConfigError(f"exec plugin: unsupported apiVersion '{given.api_version[:100]}'")
    if not given.command:
        raise ConfigError("exec plugin: no command")
    if given.interactive_mode not in ("", "Never", "IfAvailable"):
        raise ConfigError(f"exec plugin: interactiveMode '{given.interactive_mode[:40]}' needs a terminal")
    extension = next((e for e in cluster.extensions or [] if e.get("name") == _EXEC_EXTENSION), None)
    return ExecPlugin(
        api_version=given.api_version,
        command=given.command,
        args=tuple(given.args or ()),
        env=tuple((variable.name, variable.value) for variable in given.env or ()),
        install_hint=given.install_hint,
        provide_cluster_info=given.provide_cluster_info,
        interactive_mode=given.interactive_mode or "IfAvailable",
        directory=str(home) if home is not None else "",
        cluster_config=msgspec.json.encode(extension.get("extension")) if extension else b"",
    )


def _impersonation(user: _User) -> Impersonation | None:
    if not user.as_:
        if user.as_uid or user.as_groups or user.as_user_extra:
            raise ConfigError("as-uid, as-groups and as-user-extra need `as`")
        return None
    extra = tuple((key, tuple(values)) for key, values in sorted((user.as_user_extra or {}).items()))
    return Impersonation(user=user.as_, uid=user.as_uid, groups=tuple(user.as_groups or ()), extra=extra)


_CLUSTER_ALLOWED = ("server", "tls-server-name", "certificate-authority-data", "proxy-url", "disable-compression")
_USER_ALLOWED = (
    "client-certificate-data",
    "client-key-data",
    "token",
    "username",
    "password",
)


def _allowed_cluster(raw: dict[str, Any], allow_insecure_tls: bool) -> dict[str, Any]:
    _refuse_path(raw, "certificate-authority", "certificate-authority-data")
    allowed = {key: raw[key] for key in _CLUSTER_ALLOWED if key in raw}
    if allow_insecure_tls and "insecure-skip-tls-verify" in raw:
        allowed["insecure-skip-tls-verify"] = raw["insecure-skip-tls-verify"]
    return allowed


def _allowed_user(raw: dict[str, Any], allow_exec: bool) -> dict[str, Any]:
    if raw.get("tokenFile"):
        raise ConfigError("tokenFile is not allowed in a kubeconfig Secret: use token")
    if raw.get("auth-provider"):
        raise ConfigError("auth-provider is not allowed in a kubeconfig Secret")
    if raw.get("exec") and not allow_exec:
        raise ConfigError("exec is not allowed in a kubeconfig Secret")
    _refuse_path(raw, "client-certificate", "client-certificate-data")
    _refuse_path(raw, "client-key", "client-key-data")
    allowed = {key: raw[key] for key in _USER_ALLOWED if key in raw}
    if allow_exec and "exec" in raw:
        allowed["exec"] = raw["exec"]
    return allowed


def _refuse_path(raw: dict[str, Any], path: str, data: str) -> None:
    if raw.get(path) and not raw.get(data):
        raise ConfigError(f"{path} is not allowed in a kubeconfig Secret: use {data}")


def _chosen(
    merged: _Merged, context: str | None
) -> tuple[_Context, tuple[dict[str, Any], Path | None], tuple[dict[str, Any], Path | None]]:
    name = context or merged.current_context
    if not name:
        raise ConfigError("the kubeconfig has no current-context")
    if name not in merged.contexts:
        raise ConfigError(f"the kubeconfig has no context '{name[:253]}'")
    body = _convert(merged.contexts[name][0], _Context, "context")
    if body.cluster not in merged.clusters:
        raise ConfigError(f"the kubeconfig has no cluster '{body.cluster[:253]}'")
    if body.user and body.user not in merged.users:
        raise ConfigError(f"the kubeconfig has no user '{body.user[:253]}'")
    return body, merged.clusters[body.cluster], merged.users.get(body.user, ({}, None))


def _merge(
    into: dict[str, tuple[dict[str, Any], Path | None]], found: dict[str, dict[str, Any]], home: Path | None
) -> None:
    for name, body in found.items():
        into.setdefault(name, (body, home))


def _by_name(entries: list[_Named] | None, kind: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in entries or []:
        if entry.name in found:
            raise ConfigError(f"the kubeconfig names the {kind} '{entry.name[:253]}' twice")
        found[entry.name] = getattr(entry, kind) or {}
    return found


def _document(data: object) -> _Document:
    if data is None:
        return _Document()
    return _convert(data, _Document, "document")


def _convert(data: object, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(_without_nulls(data), kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the {what} of the kubeconfig is not valid: {error}") from None


def _without_nulls(data: object) -> object:
    """Null is the same as left out, as in Go."""
    return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


def _parse(raw: bytes, *, aliases: bool = True) -> object:
    """The document as plain data. YAML anchors are refused where the author is not trusted: they multiply."""
    if len(raw) > _SIZE_LIMIT:
        raise ConfigError(f"the kubeconfig is larger than {_SIZE_LIMIT} bytes")
    try:
        return load_document(raw, levels=_DEPTH_LIMIT, aliases=aliases)
    except AliasesRefused as error:
        raise ConfigError(f"{error} in a kubeconfig Secret") from None
    except YamlRefused as error:
        # It does not hold the text of the parser's error, which quotes the document with its credentials.
        line = f" (line {error.line})" if error.line else ""
        raise ConfigError(f"the kubeconfig is {error}{line}") from None


def _resolved(path: str, home: Path | None) -> str:
    if not path or Path(path).is_absolute():
        return path
    if home is None:
        raise ConfigError(f"the path '{path[:253]}' in the kubeconfig is relative, and there is no file it belongs to")
    return str(home / path)


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{what} of the kubeconfig is not base64") from None


def _proxy(url: str) -> str:
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError("proxy-url of the kubeconfig is not an http or https URL (SOCKS is not supported)")
    return url
