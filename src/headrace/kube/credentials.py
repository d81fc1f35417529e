"""Credentials as they are right now: static, from files that are read again, from an exec plugin or an issuer.

Every request asks `current`; after a 401 or a failed TLS handshake `refresh` looks again at everything that
can have changed, so that a rotated token, certificate or CA is picked up without a restart (REL-21).
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from headrace.core.clock import Clock
from headrace.kube.config import ClientConfig
from headrace.kube.errors import ConfigError
from headrace.kube.exec_plugin import ExecCredential, run_plugin

log = logging.getLogger(__name__)

Issue = Callable[[], Awaitable[ExecCredential]]
"""Gives a credential anew, for a cluster that no kubeconfig tells the credentials of."""

REREAD = 60.0
"""Seconds after which files are looked at again; a projected token is renewed ten minutes or more before its
end."""
_EXPIRY_MARGIN = 10.0
"""Seconds before its end at which a plugin's credential is no longer used."""


class Material(msgspec.Struct, frozen=True):
    """What authenticates a connection and a request: PEM data for TLS, and the Authorization header."""

    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    authorization: str = ""

    def __repr__(self) -> str:
        return "Material()"


class CredentialSource:
    """The credentials of one ClientConfig. Files and plugins are only ever touched for what the config
    names."""

    def __init__(self, config: ClientConfig, clock: Clock, issue: Issue | None = None) -> None:
        self._config = config
        self._issue = issue
        self._clock = clock
        self._lock = asyncio.Lock()
        self._material: Material | None = None
        self._read_at = 0.0
        self._exec: ExecCredential | None = None
        c = config.credentials
        files = (config.ca_file, c.token_file, c.client_certificate_file, c.client_key_file)
        self._from_files = any(files)
        self._changes = self._from_files or c.exec is not None or issue is not None

    async def current(self) -> Material:
        """The material to use now. Raises ConfigError when a file or plugin that is needed gives none."""
        if self._material is not None and not self._due():
            return self._material
        async with self._lock:
            if self._material is None or self._due():
                await self._load()
            assert self._material is not None
            return self._material

    async def refresh(self, used: Material) -> bool:
        """Look again at once, since `used` was refused. False when nothing else is to be had."""
        if not self._changes:
            return False
        async with self._lock:
            if self._material is not used:
                return True
            self._exec = None
            await self._load()
            return self._material != used

    def _due(self) -> bool:
        expires = self._exec.expires if self._exec is not None else None
        if expires is not None and self._clock.now() >= expires - _EXPIRY_MARGIN:
            return True
        return self._from_files and self._clock.monotonic() - self._read_at >= REREAD

    async def _load(self) -> None:
        if self._issue is not None or self._config.credentials.exec is not None:
            await self._renew()
        previous = self._material
        try:
            material = self._read()
        except ConfigError:
            if previous is None:
                raise
            # A file that vanishes while it is being replaced must not take down what works.
            log.warning("credentials could not be read again; the earlier ones are used", exc_info=True)
            material = previous
        self._read_at = self._clock.monotonic()
        # The same object when nothing changed: the TLS context is cached by it.
        self._material = previous if material == previous else material

    async def _renew(self) -> None:
        plugin = self._config.credentials.exec
        expires = self._exec.expires if self._exec is not None else None
        fresh = self._exec is not None and (expires is None or self._clock.now() < expires - _EXPIRY_MARGIN)
        if fresh:
            return
        if self._issue is not None:
            self._exec = await self._issue()
        elif plugin is not None:
            self._exec = await run_plugin(plugin, self._config)

    def _read(self) -> Material:
        c, plugin = self._config.credentials, self._exec
        token = c.token or (_file(c.token_file).decode(errors="strict").strip() if c.token_file else "")
        token = plugin.token or token if plugin is not None else token
        certificate = c.client_certificate or _file(c.client_certificate_file)
        key = c.client_key or _file(c.client_key_file)
        if plugin is not None and plugin.certificate:
            certificate, key = plugin.certificate, plugin.key
        ca = self._config.ca or _file(self._config.ca_file)
        return Material(ca, certificate, key, _authorization(token, c.username, c.password))


def _file(path: str) -> bytes:
    if not path:
        return b""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if not data.strip():
        raise ConfigError(f"{path}: the file is empty")
    return data


def _authorization(token: str, username: str, password: str) -> str:
    if token:
        if any(ord(c) < 0x21 or ord(c) > 0x7E for c in token):
            raise ConfigError("the bearer token holds characters that a header cannot carry")
        return f"Bearer {token}"
    if username:
        return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
    return ""
