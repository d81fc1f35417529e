"""A real ssh server for tests: asyncssh runs `git upload-pack` on the repositories below a directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh


@dataclass
class SshServer:
    """Serves repositories to the users of `clients` (public keys as authorized_keys has them)."""

    root: Path
    clients: list[asyncssh.SSHKey]
    user: str = "git"
    host_key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    newest_protocol: int = 2
    accepted: int = 0
    commands: list[str] = field(default_factory=list)
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)
    port: int = 0
    _acceptor: asyncssh.SSHAcceptor | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, port: int = 0) -> None:
        server = self

        class Doorman(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                server.accepted += 1
                server.connections.add(conn)

            def begin_auth(self, username: str) -> bool:
                return True

            def public_key_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                known = {client.public_data for client in server.clients}
                return username == server.user and key.public_data in known

        self._acceptor = await asyncssh.listen(
            "127.0.0.1", port, server_factory=Doorman, server_host_keys=[self.host_key], encoding=None,
            process_factory=self._serve, config=None,
        )  # fmt: skip
        self.port = self._acceptor.get_port()

    async def stop(self) -> None:
        assert self._acceptor is not None
        self._acceptor.close()
        await self.disconnect()
        await self._acceptor.wait_closed()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def disconnect(self) -> None:
        """Drop all connections, as servers do with idle ones."""
        for connection in self.connections:
            connection.abort()
        self.connections.clear()

    def url(self, name: str, user: str = "") -> str:
        return f"ssh://{user}{'@' if user else ''}127.0.0.1:{self.port}/{name}"

    def known_hosts(self, *keys: asyncssh.SSHKey) -> bytes:
        """Lines for this server, with its own key or the given ones."""
        lines = [key.export_public_key().decode() for key in keys or (self.host_key,)]
        return "".join(f"[127.0.0.1]:{self.port} {line}" for line in lines).encode()

    def secret(self, client: asyncssh.SSHKey, **more: bytes) -> dict[str, bytes]:
        return {"identity": client.export_private_key(), "known_hosts": self.known_hosts(), **more}

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        self.commands.append(process.command or "")
        program, path = shlex.split(process.command or "")
        if program != "git-upload-pack" or not (self.root / path.lstrip("/")).is_dir():
            process.stderr.write(b"ERROR: Repository not found.\n")
            process.exit(1)
            return
        environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", **_safe()}
        if self.newest_protocol == 2:
            environment["GIT_PROTOCOL"] = process.env.get("GIT_PROTOCOL", "")
        child = await asyncio.create_subprocess_exec(
            "git", "upload-pack", str(self.root / path.lstrip("/")), env=environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            async with asyncio.TaskGroup() as group:
                upwards = group.create_task(_pass_on(process.stdin, child.stdin))
                group.create_task(_pass_on(child.stderr, process.stderr))
                await _pass_on(child.stdout, process.stdout)
                upwards.cancel()
        finally:
            # Its pipes are read to their end, so that asyncio closes them before the loop is closed.
            child.stdin.close()
            await child.communicate()
        process.exit(child.returncode or 0)


async def _pass_on(source: Any, sink: Any) -> None:
    with contextlib.suppress(ConnectionError, asyncssh.Error):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        if hasattr(sink, "write_eof") and sink.can_write_eof():
            sink.write_eof()


def _safe() -> dict[str, str]:
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}


def keys(*algorithms: str) -> Iterable[asyncssh.SSHKey]:
    """New private keys."""
    return [asyncssh.generate_private_key(algorithm) for algorithm in algorithms]
