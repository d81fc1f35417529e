"""Where a cluster is and who we are there: ClientConfig, and the ways to get one.

Trusted: the operator's own kubeconfig files (`load_kubeconfig`, `default_config`) and the pod's service
account (`in_cluster`). Untrusted: a tenant's kubeconfig Secret (`load_kubeconfig(..., trusted=False)`), see
kubeconfig.py.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from headrace.kube.errors import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REQUEST_TIMEOUT = 30.0
"""Seconds for one request, retries included (kustomization.md 1.4)."""


class ExecPlugin(msgspec.Struct, frozen=True, kw_only=True):
    """`user.exec`: a program that prints an ExecCredential. `directory` is what a relative command starts
    from."""

    api_version: str
    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = "IfAvailable"
    directory: str = ""
    cluster_config: bytes = b""
    """JSON of the cluster extension `client.authentication.k8s.io/exec`."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are. Certificates and keys are PEM, or the files that hold it and are read again when they
    change."""

    token: str = ""
    token_file: str = ""
    client_certificate: bytes = b""
    client_key: bytes = b""
    client_certificate_file: str = ""
    client_key_file: str = ""
    username: str = ""
    password: str = ""
    exec: ExecPlugin | None = None
    issued_for: str = ""
    """Who the credentials stand for where they are issued anew all the time, and are not here."""

    def __repr__(self) -> str:
        """Which kinds of credentials there are; never one of them."""
        given = ", ".join(name for name in self.__struct_fields__ if getattr(self, name))
        return f"Credentials({given})"


class Impersonation(msgspec.Struct, frozen=True, kw_only=True):
    """`as`, `as-uid`, `as-groups`, `as-user-extra`."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is needed to talk to one API server. `namespace` is that of the context."""

    server: str
    ca: bytes = b""
    ca_file: str = ""
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    proxy_url: str = ""
    disable_compression: bool = False
    credentials: Credentials = Credentials()
    impersonation: Impersonation | None = None
    namespace: str = "default"
    context: str = ""
    timeout: float = REQUEST_TIMEOUT
    trusted: bool = True

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.server)
            _ = parts.port
        except ValueError:
            raise ConfigError("invalid server: its host or port is not valid") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"invalid server '{self.server[:253]}': not an http or https URL")
        if parts.username is not None or parts.query or parts.fragment:
            raise ConfigError("invalid server: the URL must not hold credentials, a query or a fragment")

    @property
    def host(self) -> str:
        """`host:port` of the server."""
        return _host(self.server)

    def identity(self, key: bytes = b"") -> str:
        """A name for this cluster as seen with these credentials: two tenants with different credentials for
        one cluster must not share what the other may read. `key` (at most 64 bytes) makes the digest a keyed
        hash."""
        encoded = msgspec.json.encode(
            (
                self.server,
                self.ca,
                self.ca_file,
                self.tls_server_name,
                self.proxy_url,
                self.insecure_skip_tls_verify,
                self.credentials,
                self.impersonation,
            )
        )
        return f"{self.host}/{hashlib.blake2b(encoded, digest_size=8, key=key).hexdigest()}"


@lru_cache(maxsize=64)
def _host(server: str) -> str:
    """Asked for with every request."""
    parts = urlsplit(server)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def is_loopback(server: str) -> bool:
    """Whether a server's URL names this machine."""
    host = urlsplit(server).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def in_cluster(environment: Mapping[str, str] | None = None, directory: Path = SERVICE_ACCOUNT) -> ClientConfig:
    """The configuration of the pod's own service account; its token is read again as the kubelet renews it.

    Raises ConfigError when this is no pod with a service account.
    """
    environment = os.environ if environment is None else environment
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise ConfigError("not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    if not (directory / "token").is_file():
        raise ConfigError(f"not in a cluster: no service account token in {directory}")
    namespace_file = directory / "namespace"
    namespace = namespace_file.read_text().strip() if namespace_file.is_file() else "default"
    ca_file = directory / "ca.crt"
    return ClientConfig(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        ca_file=str(ca_file) if ca_file.is_file() else "",
        credentials=Credentials(token_file=str(directory / "token")),
        namespace=namespace,
        context="in-cluster",
    )


def default_config(path: str | Path | None = None, context: str | None = None) -> ClientConfig:
    """The configuration a command uses: the given file, else KUBECONFIG, else the pod's, else
    `~/.kube/config`.

    Raises ConfigError when none of them gives one.
    """
    from headrace.kube.kubeconfig import load_files

    if path is not None:
        return load_files([Path(path)], context)
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if listed:
        return load_files([file for file in listed if file.exists()] or listed[:1], context)
    home = Path.home() / ".kube" / "config"
    if context is None and "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").is_file():
        return in_cluster()
    if not home.exists():
        raise ConfigError("no cluster is configured: no --kubeconfig, no KUBECONFIG, no ~/.kube/config, not in a pod")
    return load_files([home], context)


def load_kubeconfig(
    source: str | Path | bytes,
    context: str | None = None,
    *,
    trusted: bool,
    allow_exec: bool = False,
    allow_insecure_tls: bool = False,
) -> ClientConfig:
    """A kubeconfig from a file or from its bytes. `context` None: the current context.

    `trusted` False is for what a tenant wrote: nothing in it may make us read a file or start a program,
    except as the flags (`--insecure-kubeconfig-exec`, `--insecure-kubeconfig-tls`) allow. Raises ConfigError.
    """
    from headrace.kube.kubeconfig import load_files, parse_trusted, parse_untrusted

    if not trusted:
        raw = source if isinstance(source, bytes) else Path(source).read_bytes()
        return parse_untrusted(raw, context, allow_exec=allow_exec, allow_insecure_tls=allow_insecure_tls)
    if isinstance(source, bytes):
        return parse_trusted(source, context)
    return load_files([Path(source)], context)
